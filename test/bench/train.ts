import { startHelper } from '../../node/threads.ts'
import { engineBinary, tfjsWasmFolder } from '../../node/wasm.ts'
import { createEngine, type Simd } from '../../protocol/engine/engine.ts'
import { createGraphTrainer } from '../../protocol/ports/trainer/engine.ts'
import { createTfjsGraphTrainer } from '../../protocol/ports/trainer/tfjs.ts'
import { graphOf } from '../../protocol/ports/trainer/topology.ts'
import type { Batch, Trainer } from '../../protocol/ports/trainer/trainer.ts'
import { integerBelow, normal, randomFrom } from '../../protocol/random.ts'
import { paramsOf, topologyOf } from '../support/models.ts'
import { type Bench, type BenchOptions, columns, median, type Result, rounded } from './bench.ts'
import { type TrainModel, trainModels } from './train-models.ts'
import { startYardstick, type Time, type Yardstick } from './yardstick.ts'

/**
 * Training steps per second, beside PyTorch with as many threads on the same machine, in the same minutes: all take turns, and
 * each figure is the median of its turns. One thread is measured by its CPU time, several by the clock: that is what they are
 * for. They are measured on the models that take them by themselves.
 */
export interface TrainResult extends Result {
  /** The version it is compared with, or why it is compared with none. */
  torch: string
  runs: Run[]
}

interface Run {
  model: string
  /** Ours, or TensorFlow.js with the kernel pack, which is what trains where the plan does not. */
  engine: 'plan' | 'pack'
  threads: number
  simd: 'plain' | 'relaxed'
  /** Per second of CPU time; of several threads, of the clock. */
  stepsPerSecond: number
  /** Our steps in the time of one of PyTorch's; null where there is no PyTorch. */
  ofPyTorch: number | null
  /**
   * Multiply-adds per second, of those that this build does when it waits for nothing. They are counted as a direct convolution
   * would do them: one by Winograd's tiles does fewer, and goes above 1.
   */
  ofWasmPeak: number
  /** By the clock, steps of these threads in the time of one of our single thread's; null for that one. */
  ofOneThread: number | null
}

export const bench: Bench<TrainResult> = {
  name: 'train',
  reach: `of PyTorch's speed, plain / relaxed SIMD: ${trainModels
    .map(({ name, reach }) => `${name} >= ${reach.plain} / ${reach.relaxed}`)
    .join(', ')}; 2 threads >= 1.3 of 1`,
  run,
  table: ({ torch, runs }) =>
    [
      `PyTorch: ${torch}`,
      columns([
        [
          'model',
          'engine',
          'simd',
          'threads',
          'steps/s',
          'of PyTorch',
          'reach',
          'of wasm peak',
          'of 1 thread',
        ],
        ...runs.map((run) => [
          ...[run.model, run.engine, run.simd, run.threads],
          ...[run.stepsPerSecond, run.ofPyTorch ?? '-'],
          run.engine === 'pack' || run.threads > 1
            ? '-'
            : trainModels.find(({ name }) => name === run.model)!.reach[run.simd],
          ...[run.ofWasmPeak, run.ofOneThread ?? '-'],
        ]),
      ]),
    ].join('\n'),
}

const BATCH = 32
/** Beside one: a machine has two cores at least. */
const SEVERAL = 2
const TURNS = 9
const TURN_SECONDS = 0.6
const QUICK_SECONDS = 0.05
/** Multiply-adds per second: a BLAS that does fewer is the textbook's, and beating it says nothing. */
const SLOWEST_BLAS = 10e9
const SLOW = 'skipped, its BLAS is the slow reference one (Debian: libopenblas0)'
const ABSENT = 'skipped, there is none (Debian: python3-torch and libopenblas0)'

async function run({ quick, say }: BenchOptions): Promise<TrainResult> {
  const found = await startYardstick()
  const isSlow = found && found.matmulPerSecond < SLOWEST_BLAS
  const yardstick = isSlow ? undefined : found
  try {
    const runs: Run[] = []
    for (const model of trainModels) {
      say(`${model.name} ...`)
      runs.push(...(await compare(model, yardstick, quick)))
    }
    return { bench: 'train', torch: yardstick?.version ?? (isSlow ? SLOW : ABSENT), runs }
  } finally {
    found?.end()
  }
}

async function compare(
  model: TrainModel,
  yardstick: Yardstick | undefined,
  quick: boolean,
): Promise<Run[]> {
  const seconds = quick ? QUICK_SECONDS : TURN_SECONDS
  const chooser = await trainerOf(model, 'plain', { cores: SEVERAL + 1 })
  const counts = chooser.threads === SEVERAL ? [1, SEVERAL] : [1]
  chooser.close()
  const torches = counts.map((threads): Side & { threads: number } => {
    const { optimizer, torch } = model
    const request = { ...torch, classes: 10, batch: BATCH, optimizer, threads, seconds }
    return { threads, times: [], turn: async () => yardstick?.measure(request) }
  })
  const trainers: Trainer[] = []
  const ours: (Side & Pick<Run, 'engine' | 'threads' | 'simd'>)[] = []
  const enter = (engine: Run['engine'], simd: Simd, trainer: Trainer) => {
    const step = stepper(model, trainer)
    trainers.push(trainer)
    const { threads } = trainer
    ours.push({ engine, threads, simd, times: [], turn: async () => timeOf(step, seconds) })
  }
  for (const threads of counts)
    for (const simd of ['plain', 'relaxed'] as const)
      enter('plan', simd, await trainerOf(model, simd, { threads }))
  enter('pack', 'plain', await packOf(model))
  const peaks = { plain: await peakOf('plain'), relaxed: await peakOf('relaxed') }
  const peakTimes = { plain: [] as Time[], relaxed: [] as Time[] }

  for (const { turn } of [...ours, ...torches]) await turn()
  for (let turn = 0; turn < (quick ? 1 : TURNS); turn++) {
    for (const side of [...ours, ...torches]) {
      const time = await side.turn()
      if (time) side.times.push(time)
    }
    for (const simd of ['plain', 'relaxed'] as const)
      peakTimes[simd].push(timeOf(peaks[simd], seconds / 10))
  }

  for (const trainer of trainers) trainer.close()
  const { forward, firstLayer } = model.multiplyAdds
  const multiplyAdds = BATCH * (3 * forward - firstLayer)
  return ours.map(({ engine, threads, simd, times }) => {
    const clock = threads === 1 ? 'cpuSeconds' : 'seconds'
    const time = medianOf(times, clock)
    const torch = torches.find((torch) => torch.threads === threads)!
    const alone = ours.find((other) => other.threads === 1 && other.simd === simd)!
    const peak = PEAK_TURNS / medianOf(peakTimes[simd], 'cpuSeconds')
    return {
      ...{ model: model.name, engine, threads, simd },
      stepsPerSecond: rounded(1 / time),
      ofPyTorch: torch.times.length > 0 ? rounded(medianOf(torch.times, clock) / time) : null,
      ofWasmPeak: rounded(multiplyAdds / time / (PEAK_ADDS * peak * threads)),
      ofOneThread: threads === 1 ? null : rounded(medianOf(alone.times, clock) / time),
    }
  })
}

/** Who takes turns: what it found so far, and the next. */
interface Side {
  times: Time[]
  turn(): Promise<Time | undefined>
}

function medianOf(times: readonly Time[], clock: keyof Time): number {
  return median(times.map((time) => time[clock]))
}

/** One training step, as the learner takes it. */
function stepper({ optimizer: name, torch }: TrainModel, trainer: Trainer): () => void {
  const start = paramsOf(trainer, 1, 0.05)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name, learningRate: 0.01 })
  const batch = batchOf(torch, trainer.inputSize, trainer.outputSize)
  return () => {
    trainer.gradientInto(gradient, params, batch)
    optimizer.step(params, gradient)
  }
}

async function trainerOf(
  model: TrainModel,
  simd: Simd,
  options: { threads: number } | { cores: number },
): Promise<Trainer> {
  const binaries = { [simd]: await engineBinary(simd) }
  const all = { batchSize: BATCH, simd, binaries, startHelper, ...options }
  return createGraphTrainer(graphIn(model), all)
}

async function packOf(model: TrainModel): Promise<Trainer> {
  const kernels = await engineBinary('plain')
  const options = { backend: 'wasm', wasmPlaces: tfjsWasmFolder(), kernels }
  return createTfjsGraphTrainer(graphIn(model), options)
}

const graphIn = ({ source }: TrainModel) =>
  'graph' in source ? source.graph : graphOf(topologyOf(source.json))

function batchOf({ vocabulary }: TrainModel['torch'], inputSize: number, classes: number): Batch {
  const random = randomFrom(1)
  const draw = () => (vocabulary ? integerBelow(random, vocabulary) : normal(random))
  return {
    inputs: Float32Array.from({ length: BATCH * inputSize }, draw),
    labels: Int32Array.from({ length: BATCH }, () => integerBelow(random, classes)),
    ...{ size: BATCH, seed: 1 },
  }
}

/** Turns of one call of the peak kernel, and multiply-adds of a turn (kernels/peak.ts). */
const PEAK_TURNS = 100_000
const PEAK_ADDS = 48

async function peakOf(simd: 'plain' | 'relaxed'): Promise<() => void> {
  const graph = { nodes: [], tensors: [], inputShape: [1], outputUnits: 1 }
  const node = {
    ...{ className: 'InputLayer', name: 'input', config: {}, inputs: [], weights: {} },
    ...{ inputShapes: [], outputShape: [1] },
  }
  const binaries = { [simd]: await engineBinary(simd) }
  const engine = await createEngine({ ...graph, nodes: [node] }, { batch: 1, simd, binaries })
  return () => void engine.kernel('peak')(PEAK_TURNS, 0.999, 0.001)
}

/** Time per call, over at least so many seconds. */
function timeOf(call: () => void, seconds: number): Time {
  const from = process.cpuUsage()
  const startedAt = performance.now()
  let calls = 0
  for (; performance.now() < startedAt + 1000 * seconds; calls++) call()
  const { user, system } = process.cpuUsage(from)
  const took = (performance.now() - startedAt) / 1000
  return { cpuSeconds: (user + system) / 1e6 / calls, seconds: took / calls }
}
