import { createTrainer } from '../../node/trainer.ts'
import { engineBinaries } from '../../node/wasm.ts'
import { createEngine } from '../../protocol/engine/engine.ts'
import type { BackendName } from '../../protocol/ports/trainer/commands.ts'
import { createGraphTrainer } from '../../protocol/ports/trainer/engine.ts'
import type { Batch, Trainer } from '../../protocol/ports/trainer/trainer.ts'
import { integerBelow, normal, randomFrom } from '../../protocol/random.ts'
import { paramsOf } from '../support/models.ts'
import { type Bench, type BenchOptions, columns, median, type Result, rounded } from './bench.ts'
import { type TrainModel, trainModels } from './train-models.ts'
import { startYardstick, type Yardstick } from './yardstick.ts'

/**
 * Training steps per second of CPU time, beside PyTorch with as many threads on the same machine, in the same minutes: the
 * two take turns, and each figure is the median of its turns.
 */
export interface TrainResult extends Result {
  /** The version it is compared with, or why it is compared with none. */
  torch: string
  runs: Run[]
}

interface Run {
  model: string
  engine: string
  threads: number
  simd: 'plain' | 'relaxed'
  /** Per second of CPU time. */
  stepsPerSecond: number
  /** Our steps in the time of one of PyTorch's; null where there is no PyTorch. */
  ofPyTorch: number | null
  /**
   * Multiply-adds per second, of those that this build does when it waits for nothing. They are counted as a direct convolution
   * would do them: one by Winograd's tiles does fewer, and goes above 1.
   */
  ofWasmPeak: number
}

export const bench: Bench<TrainResult> = {
  name: 'train',
  reach: `of PyTorch's speed, plain / relaxed SIMD: ${trainModels
    .map(({ name, reach }) => `${name} >= ${reach.plain} / ${reach.relaxed}`)
    .join(', ')}`,
  run,
  table: ({ torch, runs }) =>
    [
      `PyTorch: ${torch}`,
      columns([
        ['model', 'simd', 'threads', 'steps/s', 'of PyTorch', 'reach', 'of wasm peak'],
        ...runs.map((run) => [
          ...[run.model, run.simd, run.threads, run.stepsPerSecond, run.ofPyTorch ?? '-'],
          ...[trainModels.find(({ name }) => name === run.model)!.reach[run.simd], run.ofWasmPeak],
        ]),
      ]),
    ].join('\n'),
}

const BATCH = 32
const THREADS = 1
const TURNS = 9
const TURN_SECONDS = 0.6
const QUICK_SECONDS = 0.05
/** Multiply-adds per second: a BLAS that does fewer is the textbook's, and beating it says nothing. */
const SLOWEST_BLAS = 10e9
const SLOW = 'skipped, its BLAS is the slow reference one (Debian: libopenblas0)'
const ABSENT = 'skipped, there is none (Debian: python3-torch and libopenblas0)'
const kinds = { plain: 'engine-plain', relaxed: 'engine' } as const

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
  const ours = {
    plain: { step: await stepper(model, kinds.plain), peak: await peakOf('plain') },
    relaxed: { step: await stepper(model, kinds.relaxed), peak: await peakOf('relaxed') },
  }
  const request = {
    ...{ ...model.torch, classes: 10, batch: BATCH, optimizer: model.optimizer },
    ...{ threads: THREADS, seconds },
  }
  const times = { plain: [] as number[], relaxed: [] as number[], torch: [] as number[] }
  const peaks = { plain: [] as number[], relaxed: [] as number[] }
  await yardstick?.measure(request)
  for (const simd of ['plain', 'relaxed'] as const) cpuSecondsOf(ours[simd].step, seconds)
  for (let turn = 0; turn < (quick ? 1 : TURNS); turn++) {
    for (const simd of ['plain', 'relaxed'] as const) {
      times[simd].push(cpuSecondsOf(ours[simd].step, seconds))
      peaks[simd].push(PEAK_TURNS / cpuSecondsOf(ours[simd].peak, seconds / 10))
    }
    if (yardstick) times.torch.push(await yardstick.measure(request))
  }
  const { forward, firstLayer } = model.multiplyAdds
  const multiplyAdds = BATCH * (3 * forward - firstLayer)
  return (['plain', 'relaxed'] as const).map((simd) => {
    const time = median(times[simd])
    return {
      ...{ model: model.name, engine: 'plan', threads: THREADS, simd },
      stepsPerSecond: rounded(1 / time),
      ofPyTorch: times.torch.length > 0 ? rounded(median(times.torch) / time) : null,
      ofWasmPeak: rounded(multiplyAdds / time / (PEAK_ADDS * median(peaks[simd]))),
    }
  })
}

/** One training step, as the learner takes it. */
async function stepper(model: TrainModel, backend: BackendName): Promise<() => void> {
  const trainer = await trainerOf(model, backend)
  const start = paramsOf(trainer, 1, 0.05)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: model.optimizer, learningRate: 0.01 })
  const batch = batchOf(model, trainer.inputSize, trainer.outputSize)
  return () => {
    trainer.gradientInto(gradient, params, batch)
    optimizer.step(params, gradient)
  }
}

async function trainerOf({ source }: TrainModel, backend: BackendName): Promise<Trainer> {
  if ('json' in source) return createTrainer(source.json, { backend, batchSize: BATCH })
  const simd = backend === 'engine-plain' ? 'plain' : 'relaxed'
  const binaries = await engineBinaries()
  return createGraphTrainer(source.graph, { batchSize: BATCH, simd, binaries })
}

function batchOf({ torch }: TrainModel, inputSize: number, classes: number): Batch {
  const random = randomFrom(1)
  const { vocabulary } = torch
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
  const binaries = await engineBinaries()
  const engine = await createEngine({ ...graph, nodes: [node] }, { batch: 1, simd, binaries })
  return () => void engine.kernel('peak')(PEAK_TURNS, 0.999, 0.001)
}

/** CPU time of this process per call, over at least so many seconds. */
function cpuSecondsOf(call: () => void, seconds: number): number {
  const from = process.cpuUsage()
  const end = performance.now() + 1000 * seconds
  let calls = 0
  for (; performance.now() < end; calls++) call()
  const { user, system } = process.cpuUsage(from)
  return (user + system) / 1e6 / calls
}
