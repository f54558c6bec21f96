import { type Cut, cutOf, START_BATCH } from '../../engine/cut.ts'
import { type Binaries, createEngine, type Engine, type Simd } from '../../engine/engine.ts'
import type { Graph } from '../../engine/graph.ts'
import { layers as layerRules } from '../../engine/layers/table.ts'
import type { StartHelper } from '../../engine/leader.ts'
import { createFusedOptimizer } from '../../engine/optimizer.ts'
import { inputSizeOf } from '../../engine/part.ts'
import { createTeam, threadsFor } from '../../engine/team.ts'
import { invariant } from '../../errors.ts'
import { graphOf, type Topology } from './topology.ts'
import type { Batch, Trainer } from './trainer.ts'

export type { Binaries }

export interface EngineTrainerOptions {
  /** The largest batch a step takes; predictions are cut into batches of it. */
  batchSize: number
  binaries: Binaries
  simd: Simd | 'auto'
  /** Values of the frozen weights, in the graph's order. */
  frozen?: Float32Array
  /** Threads on one batch; more than the batch has examples help nobody. Unless given, as many as the model gains by. */
  threads?: number | undefined
  /** How many there are to choose from; 1 unless given. */
  cores?: number | undefined
  /** What a host starts them by; without it there is one. */
  startHelper?: StartHelper
  /** How long a thread may be silent: team.ts has a default. */
  silenceMs?: number
}

/** Names of the layers that the engine has no plan for, each once; with none of them it trains the model. */
export function unplannedLayersOf({ layers }: Topology): string[] {
  return [
    ...new Set(layers.map(({ className }) => className).filter((name) => !layerRules[name]?.plan)),
  ]
}

/**
 * A trainer over the planned engine: the model is compiled once, and a step is a list of kernel calls in one memory. The
 * same binary, seed, arrays and number of threads give the same bits.
 * Throws Fault `wrong-output` when the model ends in anything but a softmax.
 */
export async function createEngineTrainer(
  topology: Topology,
  options: EngineTrainerOptions,
): Promise<Trainer> {
  const graph = graphOf(topology)
  const cut = cutOf(graph)
  return cut ? createCutTrainer(cut, options) : createGraphTrainer(graph, options)
}

/** A trainer of a model that begins with frozen layers: those run forward alone, in a memory of their own. */
async function createCutTrainer(cut: Cut, options: EngineTrainerOptions): Promise<Trainer> {
  const { batchSize, binaries, simd, frozen = new Float32Array(0) } = options
  const most = Math.min(batchSize, START_BATCH)
  const room = 'forward'
  const start = await createEngine(cut.start, { batch: most, binaries, simd, room })
  holdFrozen(start, frozen)
  const isHeld = cut.rest.frozen?.length
  const held = isHeld ? frozen : new Float32Array(0)
  const rest = await createGraphTrainer(cut.rest, { ...options, frozen: held })
  const inputSize = inputSizeOf(start)
  const size = cut.start.outputUnits

  const of = (inputs: Float32Array, count: number) => {
    const values = new Float32Array(count * size)
    for (let from = 0; from < count; from += most) {
      const batch = Math.min(most, count - from)
      const settings = { batch, training: false, params: 0, gradient: 0 }
      const { plan, forward } = start.program(settings)
      const part = inputs.subarray(from * inputSize, (from + batch) * inputSize)
      start.floatsAt(plan.input, part.length).set(part)
      forward()
      values.set(start.floatsAt(plan.logits, batch * size), from * size)
    }
    return values
  }
  return {
    ...rest,
    inputSize,
    features: { size, of, rest },
    gradientInto: (gradient, params, batch) =>
      rest.gradientInto(gradient, params, { ...batch, inputs: of(batch.inputs, batch.size) }),
    predict: (inputs, count) => rest.predict(of(inputs, count), count),
  }
}

function holdFrozen({ frozen }: Engine, values: Float32Array): void {
  const { length } = frozen
  invariant(values.length === length, `${length} frozen values, got ${values.length}`)
  frozen.set(values)
}

/** A trainer of any graph that ends in logits. Throws Fault `thread-lost` when a thread does not start. */
export async function createGraphTrainer(
  graph: Graph,
  {
    batchSize,
    binaries,
    simd,
    startHelper,
    silenceMs,
    cores = 1,
    frozen = new Float32Array(0),
    ...options
  }: EngineTrainerOptions,
): Promise<Trainer> {
  const threads = Math.min(options.threads ?? threadsFor(graph, batchSize, cores), batchSize)
  const engine = await createEngine(graph, { batch: batchSize, binaries, simd })
  holdFrozen(engine, frozen)
  const { tensors, outputUnits } = graph
  // For arrays of strangers, which lie elsewhere; asked for first, so that there is room.
  const copy = engine.floats(engine.size)
  const copyGradient = engine.floats(engine.size)
  const [copyAt, copyGradientAt] = [copy, copyGradient].map(engine.addressOf) as [number, number]
  const team = await createTeam(engine, {
    ...{ batch: batchSize, threads, binaries, start: startHelper, silenceMs },
  })

  return {
    backend: engine.simd === 'relaxed' ? 'engine' : 'engine-plain',
    ...{ threads, tensors, inputSize: inputSizeOf(engine), outputSize: outputUnits },
    floats: engine.floats,
    createOptimizer: (recipe) => createFusedOptimizer(engine, recipe),
    close: team.close,

    gradientInto(gradient, params, batch) {
      check(batch)
      const at = engine.addressOf(params)
      const gradientAt = engine.addressOf(gradient)
      if (!at) copy.set(params)
      const loss = team.gradientOf(batch, at || copyAt, gradientAt || copyGradientAt)
      if (!at) params.set(copy) // BatchNorm statistics have moved
      if (!gradientAt) gradient.set(copyGradient)
      return loss
    },

    load(params) {
      copy.set(params)
      team.renew()
    },

    predict(inputs, size) {
      const probabilities = new Float32Array(size * outputUnits)
      team.predictInto(probabilities, inputs, size, copyAt)
      return probabilities
    },
  }

  function check({ size, labels }: Batch): void {
    invariant(size <= batchSize, `a batch of ${size}, expected at most ${batchSize}`)
    for (let i = 0; i < size; i++) {
      const label = labels[i]!
      invariant(label >= 0 && label < outputUnits, `label ${label} of ${outputUnits} classes`)
    }
  }
}
