/**
 * Bounds: what a model takes to train, found from its shapes before anything is built, against what there is.
 *
 *   params          a version holds them in shards
 *   memory          of the engine's plan to the byte, and two copies in flight; estimated where TensorFlow.js trains
 *   multiply-adds   of a step: forward, and both gradients
 */
import { type Cut, cutOf, START_BATCH } from '../../engine/cut.ts'
import { planMemory } from '../../engine/engine.ts'
import { type Graph, weightsOf } from '../../engine/graph.ts'
import { product } from '../../engine/layers/settings.ts'
import { layers as layerRules } from '../../engine/layers/table.ts'
import { helperBytes } from '../../engine/space.ts'
import { multiplyAddsOf } from '../../engine/work.ts'
import { Fault } from '../../errors.ts'
import type { FaultFacts } from '../../facts.ts'
import { MAX_VERSION_BYTES } from '../../manifest.ts'
import { sizeOf, tensorSize } from '../../params.ts'

export interface Limits {
  /** What training may take; the host passes half of what is free. */
  memoryBytes: number
  /** Examples in a batch: the manifest's. */
  batchSize: number
  /** That were asked for: where the engine trains, each but the first has a memory of its own. One unless given. */
  threads?: number | undefined
  /** Of a step; MAX_STEP_MULTIPLY_ADDS unless given. */
  multiplyAdds?: number
}

/** What training takes at a batch size. */
export interface Demand {
  memoryBytes: number
  /** Of a step. */
  multiplyAdds: number
  /** Of a step on kept features: of what follows the frozen start, or the same where there is none. */
  restMultiplyAdds: number
  /** Of each node. */
  nodes: NodeDemand[]
}

export interface NodeDemand {
  params: number
  /** Values, gradients and what is kept between the two; without the params. */
  bytes: number
  multiplyAdds: number
}

/** Minutes a step on one core. */
export const MAX_STEP_MULTIPLY_ADDS = 2 ** 42
/** What a memory of WebAssembly can address. */
const MAX_MEMORY_BYTES = 2 ** 32
const MAX_PARAMS = MAX_VERSION_BYTES / 4

/** Two copies of the params in flight during a swap. */
const COPIES_IN_FLIGHT = 2
/** TensorFlow.js: params, gradient, momentum, anchor and two optimizer slots. */
const COPIES_OF_PARAMS = 6
/** Forward values, their gradients, and a kernel's scratch. */
const COPIES_OF_ACTIVATIONS = 3
const FLOAT_BYTES = 4

/**
 * What a model takes. Throws Fault `too-many-params`, `too-much-memory` or `too-much-work` with both figures and the layer
 * that takes most.
 */
export function boundedDemand(graph: Graph, limits: Limits): Demand {
  const { batchSize, threads = 1, multiplyAdds: most = MAX_STEP_MULTIPLY_ADDS } = limits
  const all = weightsOf(graph)
  const params = graph.nodes.map(({ weights }) =>
    Object.values(weights).reduce((sum, index) => sum + tensorSize(all[index]!), 0),
  )
  const total = sizeOf(all)
  if (total > MAX_PARAMS) {
    throw tooMuch('too-many-params', {
      ...{ took: `this model has ${total.toLocaleString('en')} params` },
      ...{ limit: MAX_PARAMS.toLocaleString('en'), layer: largest(graph, params) },
      ...{ hint: 'a version holds no more; make the model smaller' },
      facts: { params: total, limit: MAX_PARAMS },
    })
  }
  const forward = multiplyAddsOf(graph)
  const multiplyAdds = 3 * batchSize * sumOf(forward)
  if (multiplyAdds > most) {
    throw tooMuch('too-much-work', {
      ...{ took: `a training step of this model takes ${billions(multiplyAdds)} multiply-adds` },
      ...{ limit: billions(most), layer: largest(graph, forward) },
      ...{ hint: 'make the model, its input or its batches smaller' },
      facts: { multiplyAdds, limit: most },
    })
  }
  const cut = isPlanned(graph) ? cutOf(graph) : undefined
  const { ownBytes, bytes } = memoryOf(graph, cut, batchSize)
  const helpedBytes = isPlanned(graph) ? helpedBy(threads, graph, cut, batchSize) : 0
  const memoryBytes = ownBytes + helpedBytes
  const own = bytes.map((size, i) => size + COPIES_OF_PARAMS * FLOAT_BYTES * params[i]!)
  const [layer, limitBytes] = [largest(graph, own), limits.memoryBytes]
  const oneLimit = Math.min(limitBytes, MAX_MEMORY_BYTES)
  if (ownBytes > oneLimit) throw tooMuchMemory(ownBytes, oneLimit, layer)
  if (memoryBytes > limitBytes) throw tooMuchMemory(memoryBytes, limitBytes, layer, threads)
  const nodes = graph.nodes.map((_, i) => ({
    ...{ params: params[i]!, bytes: bytes[i]!, multiplyAdds: 3 * batchSize * forward[i]! },
  }))
  const restMultiplyAdds = cut ? 3 * batchSize * sumOf(multiplyAddsOf(cut.rest)) : multiplyAdds
  return { memoryBytes, multiplyAdds, restMultiplyAdds, nodes }
}

function isPlanned({ nodes }: Graph): boolean {
  return nodes.every(({ className }) => layerRules[className]?.plan)
}

/** What the helpers of so many threads take, of both parts of a cut model. */
function helpedBy(threads: number, graph: Graph, cut: Cut | undefined, batch: number): number {
  const crew = { batch, threads: Math.min(threads, batch) }
  if (!cut) return helperBytes(graph, crew)
  const start = { batch: Math.min(batch, START_BATCH), threads, room: 'forward' } as const
  return helperBytes(cut.rest, crew) + helperBytes(cut.start, start)
}

/** Of one thread, to the byte where the engine trains. */
function memoryOf(
  graph: Graph,
  cut: Cut | undefined,
  batch: number,
): { ownBytes: number; bytes: number[] } {
  const size = FLOAT_BYTES * sizeOf(graph.tensors)
  if (isPlanned(graph)) {
    const { bytes, nodeBytes } = planMemory(graph, batch)
    const start = cut && planMemory(cut.start, Math.min(batch, START_BATCH), 'forward')
    const parts = start && start.bytes + planMemory(cut.rest, batch).bytes
    return { ownBytes: (parts ?? bytes) + COPIES_IN_FLIGHT * size, bytes: [...nodeBytes] }
  }
  const bytes = graph.nodes.map(
    ({ outputShape }) => COPIES_OF_ACTIVATIONS * FLOAT_BYTES * batch * product(outputShape),
  )
  const values = sumOf(bytes)
  return { ownBytes: (COPIES_OF_PARAMS + COPIES_IN_FLIGHT) * size + values, bytes }
}

function sumOf(figures: readonly number[]): number {
  return figures.reduce((a, b) => a + b, 0)
}

/** With `threads`, for one of them there is room. */
function tooMuchMemory(memoryBytes: number, limitBytes: number, layer: string, threads = 1): Fault {
  const isShared = threads > 1
  const how = isShared ? `on ${threads} threads ` : ''
  const help = isShared ? 'train on fewer threads' : 'train it on a device with more memory'
  return tooMuch('too-much-memory', {
    ...{ took: `training this model ${how}takes about ${megabytes(memoryBytes)}` },
    ...{ limit: `${Math.round(limitBytes / 1e6)} MB`, layer },
    hint: `close other programs, or ${help}`,
    facts: { memoryBytes, limitBytes, threads },
  })
}

/** The layer with the most. */
function largest({ nodes }: Graph, figures: readonly number[]): string {
  const { name, className } = nodes[figures.indexOf(Math.max(...figures))]!
  return `${name} (${className})`
}

const billions = (count: number) => `${Math.ceil(count / 1e9).toLocaleString('en')} billion`
const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`

function tooMuch<T extends 'too-many-params' | 'too-much-work' | 'too-much-memory'>(
  type: T,
  demand: {
    took: string
    limit: string
    layer: string
    hint: string
    facts: Omit<FaultFacts[T], 'layer'>
  },
): Fault {
  const { took, limit, layer, hint, facts } = demand
  const message = `${took}, expected at most ${limit}; the largest layer is ${layer}`
  return new Fault<string>({ kind: 'verification', type, message, hint, layer, ...facts })
}
