import { Fault, type FaultDetail, invariant } from '../errors.ts'
import { forEachTensor, sizeOf, type TensorSpec } from '../params.ts'
import { THREADS_LIMIT } from '../ports/trainer/commands.ts'
import { trainableRanges } from '../ports/trainer/optimizer.ts'
import {
  type Channel,
  channelBytes,
  channelOf,
  DONE,
  END,
  FAILED,
  FIRST,
  GRADIENT,
  type HelperInit,
  type HelperSaid,
  KIND,
  ORDER,
  PREDICT,
  SEED,
  SIZE,
  VERSION,
  WHOLE,
} from './channel.ts'
import type { Binaries, Engine } from './engine.ts'
import type { Graph } from './graph.ts'
import { gradientOf, inputSizeOf, type Part, predictInto } from './part.ts'
import { type Address, FLOAT_BYTES } from './planner.ts'
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
  /** Says that the params at the address last predicted by are new. */
  renew(): void
  /** Ends the helpers; idempotent. */
  close(): void
}

/** A thread of the host that runs `runHelper`. Ending it by force is right at any time. */
export interface HelperThread {
  close(): void
}

/** Starts a thread for `runHelper(init, tell)`: what that tells goes to `onSaid`; `onEnded` when the thread is gone. */
export type StartHelper = (
  init: HelperInit,
  ears: { onSaid(said: HelperSaid): void; onEnded(error?: Error): void },
) => HelperThread

export interface TeamOptions {
  /** The largest batch; at least as many examples as threads. */
  batch: number
  threads: number
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

/** A helper has an engine within this. */
const READY_MS = 60_000
/**
 * A helper's part takes about as long as the leader's. One that is this much later, and this many times, has died. It is
 * waited for in slices, so that a process that was stopped and goes on does not take its own sleep for silence.
 */
const SILENCE_MS = 60_000
const SILENCE_FACTOR = 10
const SLICE_MS = 500

/**
 * Resolves when all helpers are ready. Throws Fault `thread-lost` when one is not, after ending the others, and `no-threads`
 * where no memory can be shared.
 */
export async function createTeam(engine: Engine, options: TeamOptions): Promise<Team> {
  const { batch, threads, silenceMs = SILENCE_MS } = options
  if (threads > 1) requireShared()
  const { graph, size } = engine
  const { tensors } = graph
  const inputSize = inputSizeOf(engine)
  const sizes = { batch, inputSize, outputUnits: graph.outputUnits, size }
  const incoming = threads > 1 ? engine.floats(size) : new Float32Array(0)
  const trainable = trainableRanges(tensors)
  const statistics = statisticRanges(tensors)
  const add = engine.kernel('add')
  const shared = threads > 1 ? sharedFloats(size) : undefined
  const frozen = threads > 1 ? sharedFloats(engine.frozen.length) : undefined
  const helpers: Helper[] = []
  let version = 1
  let isLoaded = false
  let isFrozenShared = false

  try {
    for (let i = 1; i < threads; i++)
      helpers.push(startHelper(engine, options, sizes, [shared!.buffer, frozen!.buffer]))
    await Promise.all(helpers.map(({ ready }) => ready))
  } catch (thrown) {
    close()
    throw thrown
  }

  return {
    threads,
    close,
    renew() {
      isLoaded = false
    },

    gradientOf(batch, params, gradient) {
      requireAll()
      const parts = cut(batch, threads, inputSize)
      share(params)
      isLoaded = false // what is shared now moves with the next step
      for (const [i, part] of parts.entries()) if (i > 0) order(helpers[i - 1]!, GRADIENT, part)
      const startedAt = performance.now()
      let loss = gradientOf(engine, parts[0]!, params, gradient)
      const limitMs = silenceMs + SILENCE_FACTOR * (performance.now() - startedAt)
      const busy = helpers.slice(0, parts.length - 1)
      for (const helper of busy) collect(helper, limitMs)
      for (const { channel } of busy) {
        incoming.set(channel.results.subarray(0, size))
        loss += channel.loss[0]!
        for (const [start, end] of trainable) {
          const to = gradient + FLOAT_BYTES * start
          add(to, engine.addressOf(incoming) + FLOAT_BYTES * start, to, end - start)
        }
      }
      average(engine.floatsAt(params, size), parts)
      return loss
    },

    predictInto(probabilities, inputs, size, params) {
      requireAll()
      const { outputUnits } = graph
      if (size > batch && !isLoaded) share(params)
      isLoaded ||= size > batch
      for (let from = 0; from < size; from += threads * batch) {
        const chunks = Array.from({ length: threads }, (_, i) => from + i * batch)
          .filter((start) => start < size)
          .map((start) => ({
            size: Math.min(batch, size - start),
            inputs: inputs.subarray(start * inputSize),
            probabilities: probabilities.subarray(start * outputUnits),
          }))
        const [own, ...others] = chunks
        for (const [i, chunk] of others.entries())
          order(helpers[i]!, PREDICT, { ...nothing, ...chunk })
        predictInto(own!.probabilities, engine, own!.inputs, own!.size, params)
        for (const [i, chunk] of others.entries()) {
          collect(helpers[i]!, silenceMs)
          const { results } = helpers[i]!.channel
          chunk.probabilities.set(results.subarray(0, chunk.size * outputUnits))
        }
      }
    },
  }

  function requireAll(): void {
    for (const { lost } of helpers) if (lost) throw lost
  }

  function share(params: Address): void {
    if (!shared) return
    shared.set(engine.floatsAt(params, size))
    // Whoever made the engine has filled them by now, and they never move.
    if (!isFrozenShared) frozen!.set(engine.frozen)
    isFrozenShared = true
    version = (version + 1) | 0
  }

  function order(helper: Helper, kind: number, part: Part): void {
    const { control, inputs, labels } = helper.channel
    inputs.set(part.inputs.subarray(0, part.size * inputSize))
    labels.set(part.labels.subarray(0, part.size))
    control[KIND] = kind
    control[VERSION] = version
    control[SIZE] = part.size
    control[FIRST] = part.first
    control[WHOLE] = part.whole
    control[SEED] = part.seed
    helper.orders = (Atomics.add(control, ORDER, 1) + 1) | 0
    Atomics.notify(control, ORDER)
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

  function close(): void {
    for (const helper of helpers) {
      const { control } = helper.channel
      helper.end(lost('was closed'))
      Atomics.store(control, KIND, END)
      Atomics.add(control, ORDER, 1)
      Atomics.notify(control, ORDER)
      helper.thread.close()
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
    return {
      inputs: inputs.subarray(first * inputSize),
      labels: labels.subarray(first),
      ...{ size: least + (i < more ? 1 : 0), first, whole: size, seed },
    }
  })
}

const nothing: Part = {
  inputs: new Float32Array(0),
  labels: new Int32Array(0),
  ...{ size: 0, first: 0, whole: 0, seed: 0 },
}

interface Helper {
  thread: HelperThread
  channel: Channel
  /** Rejects when it does not become ready. */
  ready: Promise<void>
  /** Orders given. */
  orders: number
  /** Why it takes none any more. */
  lost: Fault | undefined
  end(why: Fault): void
}

function startHelper(
  { graph, simd }: Engine,
  { batch, binaries, start }: TeamOptions,
  sizes: Parameters<typeof channelBytes>[0],
  [params, frozen]: [SharedArrayBuffer, SharedArrayBuffer],
): Helper {
  invariant(start, 'more than one thread, and nothing that starts one')
  const own = sharedBytes(channelBytes(sizes))
  const { promise: ready, resolve, reject } = Promise.withResolvers<void>()
  ready.catch(() => {}) // thrown to who waits for all
  const timer = setTimeout(() => end(lost(`was not ready after ${READY_MS / 1000} s`)), READY_MS)
  const end = (fault: Fault) => {
    clearTimeout(timer)
    helper.lost ??= fault
    reject(fault)
  }
  const thread = start(
    { graph, binaries, simd, batch, params, frozen, own },
    {
      onSaid(said) {
        if (said.type === 'failed') return end(new Fault(said.detail))
        clearTimeout(timer)
        resolve()
      },
      onEnded: (error) => end(lost('ended by itself', error)),
    },
  )
  const helper: Helper = {
    ...{ thread, channel: channelOf(own, sizes), ready },
    ...{ orders: 0, lost: undefined, end },
  }
  return helper
}

/** Blocks until the helper has done its last order. Throws Fault `thread-lost` when it failed or is silent for too long. */
function collect(helper: Helper, limitMs: number): void {
  const { control, complaint } = helper.channel
  for (let slices = Math.ceil(limitMs / SLICE_MS); ; slices--) {
    const done = Atomics.load(control, DONE)
    if (done === helper.orders) break
    if (slices <= 0) {
      helper.lost ??= lost(`did not answer for ${Math.round(limitMs / 1000)} s`)
      throw helper.lost
    }
    Atomics.wait(control, DONE, done, Math.min(SLICE_MS, limitMs))
  }
  if (control[FAILED] === 0) return
  helper.lost ??= lost(`failed: ${new TextDecoder().decode(complaint.slice(0, control[FAILED]))}`)
  throw helper.lost
}

function lost(what: string, cause?: unknown): Fault {
  const detail: FaultDetail = {
    kind: 'unexpected',
    type: 'thread-lost',
    message: `a thread that computes a part of each batch ${what}`,
    hint: 'train with fewer threads: --threads 1 needs none',
  }
  return new Fault(detail, cause)
}

/** Throws Fault `out-of-memory`. */
function sharedFloats(length: number): Float32Array<SharedArrayBuffer> {
  return new Float32Array(sharedBytes(FLOAT_BYTES * length))
}

function sharedBytes(bytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes)
  } catch (error) {
    const detail: FaultDetail = {
      kind: 'resource',
      type: 'out-of-memory',
      message: `no ${Math.ceil(bytes / 1e6)} MB that threads can share`,
      hint: 'train with fewer threads, or a smaller model or batch',
    }
    throw new Fault(detail, error)
  }
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
  return Math.max(1, Math.min(best, batch, cores - 1, THREADS_LIMIT))
}

function requireShared(): void {
  if (typeof SharedArrayBuffer === 'function') return
  throw new Fault({
    kind: 'resource',
    type: 'no-threads',
    message: 'no memory can be shared here, as more than one thread needs',
    hint: 'train with 1 thread; a page can share memory when it is cross-origin isolated',
  })
}

/** BatchNorm statistics. */
function statisticRanges(tensors: readonly TensorSpec[]): [start: number, end: number][] {
  const ranges: [number, number][] = []
  forEachTensor(tensors, ({ role }, start, end) => {
    if (role !== 'trainable') ranges.push([start, end])
  })
  return ranges
}
