import { Fault } from '../errors.ts'
import {
  type Channel,
  type ChannelSizes,
  channelBytes,
  channelOf,
  DONE,
  END,
  FAILED,
  FIRST,
  type HelperInit,
  type HelperSaid,
  KIND,
  ORDER,
  SEED,
  SIZE,
  VERSION,
  WHOLE,
} from './channel.ts'
import type { Part } from './part.ts'
import { FLOAT_BYTES } from './planner.ts'

/** A thread of the host that runs `runHelper`. Ending it by force is right at any time. */
export interface HelperThread {
  close(): void
}

/** Starts a thread for `runHelper(init, tell)`: what that tells goes to `onSaid`; `onEnded` when the thread is gone. */
export type StartHelper = (
  init: HelperInit,
  ears: { onSaid(said: HelperSaid): void; onEnded(error?: Error): void },
) => HelperThread

/** The leader's side of one helper: orders go out, and are waited for. */
export interface Helper {
  readonly channel: Channel
  /** Rejects when it does not become ready. */
  readonly ready: Promise<void>
  /** Why it takes no order any more. */
  lost: Fault | undefined
  /** Begins a part, of `kind` GRADIENT, PREDICT or LOGITS, by the params of that version. */
  order(kind: number, part: Part, version: number): void
  /** Blocks until the last order is done. Throws Fault `thread-lost` when it failed, or is silent for longer than this. */
  collect(limitMs: number): void
  /** Idempotent. */
  close(): void
}

/** A helper has an engine within this. */
const READY_MS = 60_000
/** It is waited for in slices, so that a process that was stopped and goes on does not take its own sleep for silence. */
const SLICE_MS = 500

export function startHelper(
  start: StartHelper,
  init: Omit<HelperInit, 'own'>,
  sizes: ChannelSizes,
): Helper {
  const own = sharedBytes(channelBytes(sizes))
  const channel = channelOf(own, sizes)
  const { control, complaint } = channel
  const { promise: ready, resolve, reject } = Promise.withResolvers<void>()
  ready.catch(() => {}) // thrown to who waits for all
  const timer = setTimeout(
    () => lose(`was not ready after ${READY_MS / 1000} s`, { waitedMs: READY_MS }),
    READY_MS,
  )
  let orders = 0
  const helper: Helper = {
    ...{ channel, ready, lost: undefined },

    order(kind, part, version) {
      channel.inputs.set(part.inputs)
      channel.labels.set(part.labels)
      control[KIND] = kind
      control[VERSION] = version
      control[SIZE] = part.size
      control[FIRST] = part.first
      control[WHOLE] = part.whole
      control[SEED] = part.seed
      send()
    },

    collect(limitMs) {
      for (let slices = Math.ceil(limitMs / SLICE_MS); ; slices--) {
        const done = Atomics.load(control, DONE)
        if (done === orders) break
        if (slices <= 0)
          throw lose(`did not answer for ${Math.round(limitMs / 1000)} s`, { waitedMs: limitMs })
        Atomics.wait(control, DONE, done, Math.min(SLICE_MS, limitMs))
      }
      if (control[FAILED] === 0) return
      const said = new TextDecoder().decode(complaint.slice(0, control[FAILED]))
      throw lose(`failed: ${said}`, { said })
    },

    close() {
      lose('was closed')
      control[KIND] = END
      send()
      thread.close()
    },
  }
  const thread = start(
    { ...init, own },
    {
      onSaid(said) {
        if (said.type === 'failed') return void end(new Fault(said.detail))
        clearTimeout(timer)
        resolve()
      },
      onEnded: (error) => void lose('ended by itself', {}, error),
    },
  )
  return helper

  function send(): void {
    orders = (Atomics.add(control, ORDER, 1) + 1) | 0
    Atomics.notify(control, ORDER)
  }

  function lose(
    what: string,
    facts: { waitedMs?: number; said?: string } = {},
    cause?: unknown,
  ): Fault {
    const detail = {
      ...facts,
      kind: 'unexpected' as const,
      type: 'thread-lost' as const,
      message: `a thread that computes a part of each batch ${what}`,
      hint: 'train with fewer threads: --threads 1 needs none',
    }
    return end(new Fault(detail, cause))
  }

  /** The first reason is the one that counts. */
  function end(why: Fault): Fault {
    clearTimeout(timer)
    helper.lost ??= why
    reject(helper.lost)
    return helper.lost
  }
}

/** Throws Fault `no-threads` where no memory can be shared. */
export function requireShared(): void {
  if (typeof SharedArrayBuffer === 'function') return
  throw new Fault({
    kind: 'resource',
    type: 'no-threads',
    message: 'no memory can be shared here, as more than one thread needs',
    hint: 'train with 1 thread; a page can share memory when it is cross-origin isolated',
  })
}

/** Throws Fault `out-of-memory`. */
export function sharedFloats(length: number): Float32Array<SharedArrayBuffer> {
  return new Float32Array(sharedBytes(FLOAT_BYTES * length))
}

function sharedBytes(bytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes)
  } catch (error) {
    const detail = {
      kind: 'resource' as const,
      type: 'out-of-memory' as const,
      bytes,
      message: `no ${Math.ceil(bytes / 1e6)} MB that threads can share`,
      hint: 'train with fewer threads, or a smaller model or batch',
    }
    throw new Fault(detail, error)
  }
}
