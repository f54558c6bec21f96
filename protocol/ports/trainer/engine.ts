import { type Cut, cutOf, START_BATCH } from '../../engine/cut.ts'
import {
  type Binaries,
  bestSimd,
  createEngine,
  type Engine,
  type Room,
  type Simd,
} from '../../engine/engine.ts'
import type { Graph } from '../../engine/graph.ts'
import { layers as layerRules } from '../../engine/layers/table.ts'
import type { StartHelper } from '../../engine/leader.ts'
import { createFusedOptimizer } from '../../engine/optimizer.ts'
import { inputSizeOf } from '../../engine/part.ts'
import { helperBytes } from '../../engine/space.ts'
import { createTeam, forwardThreadsFor, threadsFor } from '../../engine/team.ts'
import { invariant } from '../../errors.ts'
import { THREADS_LIMIT } from './commands.ts'
import { graphOf, type Topology } from './topology.ts'
import type { Batch, Trainer } from './trainer.ts'

export { type Binaries, bestSimd, type Simd }

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
  /**
   * What there is beside the model's demand, bytes: helpers nobody asked for, and kept features, find room in it. No end
   * unless given.
   */
  spareBytes?: number
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

/** A trainer of a model that begins with frozen layers: those run forward alone, in memories of their own. */
async function createCutTrainer(cut: Cut, options: EngineTrainerOptions): Promise<Trainer> {
  const { frozen = nothing } = options
  const { threads, spareBytes } = crewFor(cut.rest, options)
  const isHeld = cut.rest.frozen?.length
  const held = isHeld ? frozen : nothing
  const rest = await createGraphTrainer(cut.rest, { ...options, threads, frozen: held })
  const start = await createStart(cut.start, { ...options, spareBytes }).catch((thrown) => {
    rest.close()
    throw thrown
  })
  const { inputSize, size, of } = start
  return {
    ...rest,
    inputSize,
    features: { size, of, rest, spareBytes: start.spareBytes },
    gradientInto: (gradient, params, batch) =>
      rest.gradientInto(gradient, params, { ...batch, inputs: of(batch.inputs, batch.size) }),
    predict: (inputs, count) => rest.predict(of(inputs, count), count),
    close() {
      start.close()
      rest.close()
    },
  }
}

/** The frozen layers: `of` is that of Features, the same bits for any number of threads. */
async function createStart(graph: Graph, options: EngineTrainerOptions) {
  const { binaries, simd, startHelper, silenceMs, frozen = nothing } = options
  const batch = Math.min(options.batchSize, START_BATCH)
  const room = 'forward'
  const { threads, spareBytes } = crewForStart(graph, batch, options)
  const engine = await createEngine(graph, { batch, binaries, simd, room })
  holdFrozen(engine, frozen)
  const team = await createTeam(engine, {
    ...{ batch, threads, room, binaries, start: startHelper, silenceMs },
  })
  const size = graph.outputUnits
  return {
    ...{ size, inputSize: inputSizeOf(engine), spareBytes, close: team.close },
    of(inputs: Float32Array, count: number) {
      const values = new Float32Array(count * size)
      team.logitsInto(values, inputs, count, 0)
      return values
    },
  }
}

interface Crew {
  threads: number
  /** What its helpers leave. */
  spareBytes: number
}

/** As many threads as were asked for, which the model's demand has counted; or as many as it gains by and have room. */
function crewFor(graph: Graph, options: EngineTrainerOptions): Crew {
  const { batchSize: batch, cores = 1 } = options
  if (options.threads !== undefined) return asked(Math.min(options.threads, batch), options)
  const room = 'weights'
  return fitting(graph, { batch, room, most: threadsFor(graph, batch, cores) }, options)
}

function crewForStart(graph: Graph, batch: number, options: EngineTrainerOptions): Crew {
  const { cores = 1 } = options
  if (options.threads !== undefined) return asked(options.threads, options)
  const room = 'forward'
  return fitting(graph, { batch, room, most: forwardThreadsFor(graph, batch, cores) }, options)
}

function asked(threads: number, { spareBytes = Number.POSITIVE_INFINITY }: EngineTrainerOptions) {
  return { threads: Math.min(threads, THREADS_LIMIT), spareBytes }
}

function fitting(
  graph: Graph,
  { most, ...settings }: { batch: number; room: Room; most: number },
  { spareBytes = Number.POSITIVE_INFINITY }: EngineTrainerOptions,
): Crew {
  for (let threads = Math.min(most, THREADS_LIMIT); threads > 1; threads--) {
    const left = spareBytes - helperBytes(graph, { ...settings, threads })
    if (left >= 0) return { threads, spareBytes: left }
  }
  return { threads: 1, spareBytes }
}

const nothing = new Float32Array(0)

function holdFrozen({ frozen }: Engine, values: Float32Array): void {
  const { length } = frozen
  invariant(values.length === length, `${length} frozen values, got ${values.length}`)
  frozen.set(values)
}

/** A trainer of any graph that ends in logits. Throws Fault `thread-lost` when a thread does not start. */
export async function createGraphTrainer(
  graph: Graph,
  options: EngineTrainerOptions,
): Promise<Trainer> {
  const { batchSize, binaries, simd, startHelper, silenceMs, frozen = nothing } = options
  const { threads } = crewFor(graph, options)
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
