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
import { multiplyAddsOf } from '../../engine/work.ts'
import { Fault } from '../../errors.ts'
import { MAX_VERSION_BYTES } from '../../manifest.ts'
import { sizeOf, tensorSize } from '../../params.ts'

export interface Limits {
  /** What training may take; the host passes half of what is free. */
  memoryBytes: number
  /** Examples in a batch: the manifest's. */
  batchSize: number
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
  const { batchSize, multiplyAdds: most = MAX_STEP_MULTIPLY_ADDS } = limits
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
    })
  }
  const forward = multiplyAddsOf(graph)
  const multiplyAdds = 3 * batchSize * sumOf(forward)
  if (multiplyAdds > most) {
    throw tooMuch('too-much-work', {
      ...{ took: `a training step of this model takes ${billions(multiplyAdds)} multiply-adds` },
      ...{ limit: billions(most), layer: largest(graph, forward) },
      ...{ hint: 'make the model, its input or its batches smaller' },
    })
  }
  const cut = isPlanned(graph) ? cutOf(graph) : undefined
  const { memoryBytes, bytes } = memoryOf(graph, cut, batchSize)
  const limitBytes = Math.min(limits.memoryBytes, MAX_MEMORY_BYTES)
  if (memoryBytes > limitBytes) {
    const own = bytes.map((size, i) => size + COPIES_OF_PARAMS * FLOAT_BYTES * params[i]!)
    throw tooMuch('too-much-memory', {
      ...{ took: `training this model takes about ${megabytes(memoryBytes)}` },
      ...{ limit: `${Math.round(limitBytes / 1e6)} MB`, layer: largest(graph, own) },
      hint: 'half of what is free is the limit; close other programs, or raise it with --max-memory',
      facts: { memoryBytes, limitBytes },
    })
  }
  const nodes = graph.nodes.map((_, i) => ({
    ...{ params: params[i]!, bytes: bytes[i]!, multiplyAdds: 3 * batchSize * forward[i]! },
  }))
  const restMultiplyAdds = cut ? 3 * batchSize * sumOf(multiplyAddsOf(cut.rest)) : multiplyAdds
  return { memoryBytes, multiplyAdds, restMultiplyAdds, nodes }
}

function isPlanned({ nodes }: Graph): boolean {
  return nodes.every(({ className }) => layerRules[className]?.plan)
}

/** To the byte where the engine trains. */
function memoryOf(
  graph: Graph,
  cut: Cut | undefined,
  batch: number,
): { memoryBytes: number; bytes: number[] } {
  const size = FLOAT_BYTES * sizeOf(graph.tensors)
  if (isPlanned(graph)) {
    const { bytes, nodeBytes } = planMemory(graph, batch)
    const start = cut && planMemory(cut.start, Math.min(batch, START_BATCH), 'forward')
    const parts = start && start.bytes + planMemory(cut.rest, batch).bytes
    return { memoryBytes: (parts ?? bytes) + COPIES_IN_FLIGHT * size, bytes: [...nodeBytes] }
  }
  const bytes = graph.nodes.map(
    ({ outputShape }) => COPIES_OF_ACTIVATIONS * FLOAT_BYTES * batch * product(outputShape),
  )
  const values = sumOf(bytes)
  return { memoryBytes: (COPIES_OF_PARAMS + COPIES_IN_FLIGHT) * size + values, bytes }
}

function sumOf(figures: readonly number[]): number {
  return figures.reduce((a, b) => a + b, 0)
}

/** The layer with the most. */
function largest({ nodes }: Graph, figures: readonly number[]): string {
  const { name, className } = nodes[figures.indexOf(Math.max(...figures))]!
  return `${name} (${className})`
}

const billions = (count: number) => `${Math.ceil(count / 1e9).toLocaleString('en')} billion`
const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`

function tooMuch(
  type: string,
  demand: { took: string; limit: string; layer: string; hint: string; facts?: object },
): Fault {
  const { took, limit, layer, hint, facts } = demand
  const message = `${took}, expected at most ${limit}; the largest layer is ${layer}`
  return new Fault({ kind: 'verification', type, message, hint, layer, ...facts })
}
