import { invariant } from '../errors.ts'
import { trainableRanges } from '../optimizer.ts'
import { forEachTensor, sizeOf, type TensorSpec } from '../params.ts'
import { GRADIENT, LOGITS, PREDICT } from './channel.ts'
import type { Binaries, Engine, Room } from './engine.ts'
import type { Graph } from './graph.ts'
import {
  type Helper,
  requireShared,
  type StartHelper,
  sharedFloats,
  startHelper,
} from './leader.ts'
import { gradientOf, inputSizeOf, type Part, predictInto } from './part.ts'
import { type Address, FLOAT_BYTES } from './planner.ts'
import { spaceOf } from './space.ts'
import { multiplyAddsOf } from './work.ts'

/**
 * Several threads on one batch: the caller's own, which leads, and helpers (helper.ts), each with an instance of the kernels
 * and a memory of its own. Params, inputs and results cross through shared memory; the leader copies and adds them in the
 * helpers' order, so the same number of threads gives the same bits.
 *
 * The leader waits by Atomics.wait, which a page's own thread may not: lead from a worker.
 */
export interface Team {
  /** The leader's and the helpers'. */
  readonly threads: number
  /** As `gradientOf`, for a whole batch at most. BatchNorm statistics are those of each part, averaged by its size. */
  gradientOf(batch: Omit<Part, 'first' | 'whole'>, params: Address, gradient: Address): number
  /** As `predictInto`, of any size: the same bits for any number of threads. */
  predictInto(
    probabilities: Float32Array,
    inputs: Float32Array,
    size: number,
    params: Address,
  ): void
  /** As `predictInto`, without the softmax. */
  logitsInto(logits: Float32Array, inputs: Float32Array, size: number, params: Address): void
  /** Says that the params at the address last predicted by are new. */
  renew(): void
  /** Ends the helpers; idempotent. */
  close(): void
}

export interface TeamOptions {
  /** The largest batch; at least as many examples as threads. */
  batch: number
  threads: number
  /** The engine's. */
  room?: Room
  binaries: Binaries
  /** Not needed for one thread. */
  start?: StartHelper | undefined
  /** How long a helper may be silent after the leader's own part is done; SILENCE_MS unless given. */
  silenceMs?: number | undefined
}

/** A multiply-add takes about this long, and so does a value of the gradient that comes from another thread. */
const NS_PER_MULTIPLY_ADD = 1 / 30
const NS_PER_VALUE = 1
/** Waking the others costs a tenth of a millisecond; a step shorter than this is better done alone. */
const LEAST_STEP_NS = 1e6

/** A helper's part takes about as long as the leader's. One that is this much later, and this many times, has died. */
const SILENCE_MS = 60_000
const SILENCE_FACTOR = 10

/**
 * Resolves when all helpers are ready. Throws Fault `thread-lost` when one is not, after ending the others, and `no-threads`
 * where no memory can be shared.
 */
export async function createTeam(engine: Engine, options: TeamOptions): Promise<Team> {
  const { batch, threads, silenceMs = SILENCE_MS } = options
  const { graph, size } = engine
  const inputSize = inputSizeOf(engine)
  const trainable = trainableRanges(graph.tensors)
  const statistics = statisticRanges(graph.tensors)
  const add = engine.kernel('add')
  const pool = threads > 1 ? createPool(engine, options) : nobody
  const { helpers, params: shared, frozen, incoming } = pool
  let version = 1
  let isLoaded = false
  try {
    await Promise.all(helpers.map(({ ready }) => ready))
  } catch (thrown) {
    closeAll(helpers)
    throw thrown
  }

  return {
    threads,
    close: () => closeAll(helpers),
    renew() {
      isLoaded = false
    },

    gradientOf(batch, params, gradient) {
      requireAll()
      const parts = cut(batch, threads, inputSize)
      share(params)
      isLoaded = false // what is shared now moves with the next step
      const busy = helpers.slice(0, parts.length - 1)
      busy.forEach((helper, i) => void helper.order(GRADIENT, parts[i + 1]!, version))
      const startedAt = performance.now()
      let loss = gradientOf(engine, parts[0]!, params, gradient)
      const limitMs = silenceMs + SILENCE_FACTOR * (performance.now() - startedAt)
      for (const helper of busy) helper.collect(limitMs)
      for (const { channel } of busy) {
        incoming.set(channel.results.subarray(0, size))
        loss += channel.loss[0]!
        for (const [start, end] of trainable) {
          const to = gradient + FLOAT_BYTES * start
          add(to, engine.addressOf(incoming) + FLOAT_BYTES * start, to, end - start)
        }
      }
      if (busy.length > 0) average(engine.floatsAt(params, size), parts)
      return loss
    },

    predictInto: (...given) => forwardInto('probabilities', ...given),
    logitsInto: (...given) => forwardInto('logits', ...given),
  }

  function forwardInto(
    wanted: 'probabilities' | 'logits',
    values: Float32Array,
    inputs: Float32Array,
    size: number,
    params: Address,
  ): void {
    requireAll()
    const { outputUnits } = graph
    const kind = wanted === 'logits' ? LOGITS : PREDICT
    if (size > batch && !isLoaded) share(params)
    isLoaded ||= size > batch
    for (let from = 0; from < size; from += threads * batch) {
      const chunks = Array.from({ length: threads }, (_, i) => from + i * batch)
        .filter((start) => start < size)
        .map((start) => ({ start, end: Math.min(size, start + batch) }))
      const [own, ...others] = chunks.map(({ start, end }) => ({
        ...nothing,
        size: end - start,
        inputs: inputs.subarray(start * inputSize, end * inputSize),
        values: values.subarray(start * outputUnits, end * outputUnits),
      }))
      others.forEach((chunk, i) => void helpers[i]!.order(kind, chunk, version))
      predictInto(own!.values, engine, own!.inputs, own!.size, params, wanted)
      others.forEach((chunk, i) => {
        helpers[i]!.collect(silenceMs)
        chunk.values.set(helpers[i]!.channel.results.subarray(0, chunk.values.length))
      })
    }
  }

  function requireAll(): void {
    for (const { lost } of helpers) if (lost) throw lost
  }

  function share(params: Address): void {
    if (helpers.length === 0) return
    shared.set(engine.floatsAt(params, size))
    // Whoever made the engine has filled them by now, and they never move.
    if (version === 1) frozen.set(engine.frozen)
    version++
  }

  /** moving statistics ← Σ size of part / size of batch · those that the part left, in the parts' order */
  function average(params: Float32Array, parts: readonly Part[]): void {
    for (const [start, end] of statistics) {
      for (let i = start; i < end; i++) {
        params[i] = parts.reduce((sum, { size, whole }, p) => {
          const moved = p === 0 ? params[i]! : helpers[p - 1]!.channel.results[i]!
          return sum + (size / whole) * moved
        }, 0)
      }
    }
  }
}

/** A batch in parts of as equal a size as can be, larger ones first; a batch smaller than the threads leaves some idle. */
export function cut(
  { inputs, labels, size, seed }: Omit<Part, 'first' | 'whole'>,
  threads: number,
  inputSize: number,
): Part[] {
  const count = Math.max(1, Math.min(threads, size))
  const [least, more] = [Math.floor(size / count), size % count]
  return Array.from({ length: count }, (_, i) => {
    const first = i * least + Math.min(i, more)
    const end = first + least + (i < more ? 1 : 0)
    return {
      inputs: inputs.subarray(first * inputSize, end * inputSize),
      labels: labels.subarray(first, end),
      ...{ size: end - first, first, whole: size, seed },
    }
  })
}

interface Pool {
  helpers: Helper[]
  /** What all helpers read, and where the leader takes a helper's gradient. */
  params: Float32Array
  frozen: Float32Array
  incoming: Float32Array
}

function createPool(engine: Engine, { batch, threads, ...options }: TeamOptions): Pool {
  const { binaries, start, room = 'weights' } = options
  invariant(start, 'more than one thread, and nothing that starts one')
  requireShared()
  const { graph, simd, size } = engine
  const sizes = { batch, inputSize: inputSizeOf(engine), outputUnits: graph.outputUnits, size }
  const [params, frozen] = [sharedFloats(size), sharedFloats(engine.frozen.length)]
  const init = {
    ...{ graph, binaries, simd, batch, room, space: spaceOf({ batch, threads }) },
    ...{ params: params.buffer, frozen: frozen.buffer },
  }
  const incoming = engine.floats(size)
  invariant(engine.addressOf(incoming), 'there is room for what other threads compute')
  const helpers: Helper[] = []
  try {
    while (helpers.length < threads - 1) helpers.push(startHelper(start, init, sizes))
  } catch (thrown) {
    closeAll(helpers)
    throw thrown
  }
  return { helpers, params, frozen, incoming }
}

function closeAll(helpers: readonly Helper[]): void {
  for (const helper of helpers) helper.close()
}

const none = new Float32Array(0)
const nobody: Pool = { helpers: [], params: none, frozen: none, incoming: none }
const nothing: Part = {
  ...{ inputs: none, labels: new Int32Array(0) },
  ...{ size: 0, first: 0, whole: 0, seed: 0 },
}

/**
 * Threads that a step of this model gains by, of `cores` all but one, which is left to the person. With T threads a step takes
 * about C / T + (T - 1) · G: its multiply-adds, and a gradient from each helper; that is shortest at T = √(C / G). A Dense model
 * does so little with each param that it is trained alone.
 */
export function threadsFor(graph: Graph, batch: number, cores: number): number {
  const multiplyAdds = multiplyAddsOf(graph).reduce((a, b) => a + b, 0)
  const stepNs = 3 * batch * multiplyAdds * NS_PER_MULTIPLY_ADD
  if (typeof SharedArrayBuffer !== 'function' || stepNs < LEAST_STEP_NS) return 1
  const gradientNs = sizeOf(graph.tensors) * NS_PER_VALUE
  const best = Math.floor(Math.sqrt(stepNs / gradientNs))
  return Math.max(1, Math.min(best, batch, cores - 1))
}

/**
 * Threads that forward passes of this model gain by: all cores but one, where a batch takes longer than waking the others.
 * Nothing is added up between them.
 */
export function forwardThreadsFor(graph: Graph, batch: number, cores: number): number {
  const multiplyAdds = multiplyAddsOf(graph).reduce((a, b) => a + b, 0)
  const batchNs = batch * multiplyAdds * NS_PER_MULTIPLY_ADD
  if (typeof SharedArrayBuffer !== 'function' || batchNs < LEAST_STEP_NS) return 1
  return Math.max(1, cores - 1)
}

/** BatchNorm statistics. */
function statisticRanges(tensors: readonly TensorSpec[]): [start: number, end: number][] {
  const ranges: [number, number][] = []
  forEachTensor(tensors, ({ role }, start, end) => {
    if (role !== 'trainable') ranges.push([start, end])
  })
  return ranges
}
