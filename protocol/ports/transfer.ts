import type { Connection, Stream } from '@libp2p/interface'
import { Fault } from '../errors.ts'
import {
  decodeFrameHeader,
  decodeMessage,
  encodeFrameHeader,
  encodeMessage,
  FRAME_HEADER_BYTES,
  type FrameKind,
  frameLimits,
  isRejection,
  type Message,
} from '../message.ts'
import { pathOf } from './libp2p.ts'

/**
 * Frames on a libp2p stream, and the one credit window that bounds params on every transport: per connection and
 * direction at most `window` data bytes are unacknowledged, shared by all its streams; the receiver acknowledges each
 * quarter of it. libp2p's own backpressure does not hold (WebRTC has none, onDrain works once), and Chromium discards
 * its own packets above 640 KiB.
 * Source: protocol/README.md, "Frames"; measured in research notes on libp2p, sections 3.2 and 11.
 */
export interface Channel {
  readonly remote: string
  /** Sends one message; it may pass data that waits for credit, never data already written. */
  send(message: Message): void
  /** Sends bytes as data frames under the window. Resolves when the last is written; rejects when the stream ends. */
  sendData(bytes: Uint8Array): Promise<void>
  /** Makes room for data: until then a data frame ends the stream. Filled in place, kept by us until complete. */
  expectData(into: Uint8Array): void
  /** No more from us; what was written still goes out. */
  close(): Promise<void>
  /** Ends both directions now. */
  abort(reason: string): void
}

export interface ChannelEvents {
  message(message: Message): void
  /** The expected data is here whole. */
  data(bytes: Uint8Array): void
  /** So much more data was written, or came. */
  moved?(bytes: number): void
  /** The other side broke the framing: its stream ends next. */
  wronged(reason: string): void
  /** The stream ended, once: `undefined` when the other side closed it in order. */
  end(reason: string | undefined): void
}

const KIB = 1024
/** Chromium drops its own packets above 640 KiB pending, so WebRTC gets less. */
export const windowBytes = { webrtc: 512 * KIB, other: 2048 * KIB } as const
/** One data frame's body; 64 KiB pieces measured no worse than 16 on any transport. */
const PIECE_BYTES = frameLimits.data - FRAME_HEADER_BYTES
/** Written but not yet taken by the transport: messages wait behind no more than this. */
const WRITE_AHEAD_BYTES = 256 * KIB
/** Nothing acknowledged for so long: the receiver is gone, whatever its connection says. */
export const STALL_LIMIT_MS = 30_000

/** What one connection has in flight in the direction away from us, and what we owe the other. */
interface Credit {
  window: number
  inFlight: number
  waiting: Set<() => void>
  /** Consumed here and not yet acknowledged, by channel. */
  owed: Map<Acknowledger, number>
  owedBytes: number
}

type Acknowledger = (bytes: number) => void

const credits = new WeakMap<Connection, Credit>()

function creditOf(connection: Connection): Credit {
  let credit = credits.get(connection)
  if (!credit) {
    const isWebrtc = pathOf(connection).startsWith('webrtc')
    const window = isWebrtc ? windowBytes.webrtc : windowBytes.other
    credit = { window, inFlight: 0, waiting: new Set(), owed: new Map(), owedBytes: 0 }
    credits.set(connection, credit)
  }
  return credit
}

/** Speaks frames on `stream`. Events come synchronously, in the order of the bytes. */
export function openChannel(
  stream: Stream,
  connection: Connection,
  events: ChannelEvents,
): Channel {
  const credit = creditOf(connection)
  const reader = new FrameReader()
  let target: Uint8Array | undefined
  let filled = 0
  let unacknowledged = 0
  let ended = false
  let acknowledgedAt = performance.now()

  const acknowledge: Acknowledger = (bytes) => {
    if (ended || stream.writeStatus !== 'writable') return
    const body = new Uint8Array(4)
    new DataView(body.buffer).setUint32(0, bytes)
    write('credit', body)
  }

  /** A stream may end while we write to it: libp2p throws then, and says it by `close` as well. */
  function write(kind: FrameKind, body: Uint8Array): void {
    try {
      stream.send(encodeFrameHeader(kind, body.length))
      stream.send(body)
    } catch (error) {
      abort((error as Error).message)
    }
  }

  function end(reason: string | undefined): void {
    if (ended) return
    endWith(reason)
    // The other side said its last word; a stream that we left half open would count against both of us.
    void close()
  }

  function endWith(reason: string | undefined): void {
    ended = true
    credit.inFlight -= unacknowledged
    credit.owedBytes -= credit.owed.get(acknowledge) ?? 0
    credit.owed.delete(acknowledge)
    wake(credit)
    events.end(reason)
  }

  async function close(): Promise<void> {
    if (stream.writeStatus !== 'writable') return
    await stream
      .close({ signal: AbortSignal.timeout(STALL_LIMIT_MS) })
      .catch(() => abort('could not close'))
  }

  function abort(reason: string): void {
    // First our reason: the stream tells of its end while it aborts.
    if (!ended) endWith(reason)
    stream.abort(new Error(reason))
  }

  function wrong(reason: string): void {
    if (!ended) events.wronged(reason)
    abort(reason)
  }

  const sink: FrameSink = {
    message(bytes) {
      const message = decodeMessage(bytes)
      if (isRejection(message)) return wrong(message.message)
      events.message(message)
    },
    data(piece) {
      if (!target || filled + piece.length > target.length) {
        const expected = target?.length ?? 0
        return wrong(`got more data than expected: ${filled + piece.length} of ${expected} bytes`)
      }
      target.set(piece, filled)
      filled += piece.length
      consumed(credit, acknowledge, piece.length, filled === target.length)
      events.moved?.(piece.length)
      if (filled < target.length) return
      const whole = target
      target = undefined
      events.data(whole)
    },
    credit(bytes) {
      const amount = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
      if (amount > unacknowledged)
        return wrong(`got credit for ${amount} bytes, expected at most ${unacknowledged}`)
      unacknowledged -= amount
      credit.inFlight -= amount
      acknowledgedAt = performance.now()
      wake(credit)
    },
    wrong,
  }

  stream.addEventListener('message', ({ data }) => {
    // Part by part: joined they would be one more copy of all that comes, and garbage at once.
    for (const part of data instanceof Uint8Array ? [data] : data)
      if (!ended) reader.read(part, sink, () => ended)
  })
  stream.addEventListener('drain', () => wake(credit))
  // libp2p may empty its buffer after a `drain` that found us awake already; `idle` says that it did.
  stream.addEventListener('idle', () => wake(credit))
  stream.addEventListener('end', () => {
    // A broken stream says why in the `close` that comes next.
    if (stream.status === 'reset' || stream.status === 'aborted') return
    if (target || reader.isInside) end(`the stream ended after ${filled} bytes, inside a transfer`)
    else end(undefined)
  })
  stream.addEventListener('close', ({ error }) => end(error?.message ?? undefined))

  return {
    remote: connection.remotePeer.toString(),
    send: (message) => {
      if (!ended && stream.writeStatus === 'writable') write('message', encodeMessage(message))
    },
    async sendData(bytes) {
      for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
        const piece = bytes.subarray(from, from + PIECE_BYTES)
        await takeCredit(piece.length)
        write('data', piece)
        events.moved?.(piece.length)
      }
    },
    expectData(into) {
      target = into
      filled = 0
    },
    close,
    abort,
  }

  /** Waits until `bytes` fit into the window and into what the transport takes; then they count at once, for all streams. */
  async function takeCredit(bytes: number): Promise<void> {
    acknowledgedAt = Math.max(acknowledgedAt, performance.now() - STALL_LIMIT_MS / 2)
    while (
      !ended &&
      (credit.inFlight + bytes > credit.window || stream.writeBufferLength > WRITE_AHEAD_BYTES)
    ) {
      await woken(credit)
      if (performance.now() - acknowledgedAt > STALL_LIMIT_MS)
        abort(`nothing acknowledged for ${STALL_LIMIT_MS} ms`)
    }
    if (ended)
      throw new Fault({
        kind: 'network',
        type: 'stream-ended',
        message: 'the stream ended during a transfer',
        hint: 'nothing of it counts; the next swap is with another peer, or with this one again',
      })
    unacknowledged += bytes
    credit.inFlight += bytes
  }
}

/** Counts data taken in; each quarter window of a connection, and each end of a transfer, pays what is owed. */
function consumed(credit: Credit, acknowledge: Acknowledger, bytes: number, isLast: boolean): void {
  credit.owed.set(acknowledge, (credit.owed.get(acknowledge) ?? 0) + bytes)
  credit.owedBytes += bytes
  if (credit.owedBytes < credit.window / 4 && !isLast) return
  for (const [pay, amount] of credit.owed) pay(amount)
  credit.owed.clear()
  credit.owedBytes = 0
}

function wake(credit: Credit): void {
  const waiting = [...credit.waiting]
  credit.waiting.clear()
  for (const resume of waiting) resume()
}

/** Resolves at the next acknowledgement, drain or end; at the latest after a part of the stall limit. */
function woken(credit: Credit): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, STALL_LIMIT_MS / 10)
    function done() {
      clearTimeout(timer)
      credit.waiting.delete(done)
      resolve()
    }
    credit.waiting.add(done)
  })
}

interface FrameSink {
  message(body: Uint8Array): void
  /** A piece of a data frame, as it came: borrowed. */
  data(piece: Uint8Array): void
  credit(body: Uint8Array): void
  wrong(reason: string): void
}

/** Cuts a byte stream into frames. Data is passed on as it comes; small bodies are gathered. */
class FrameReader {
  private readonly header = new Uint8Array(FRAME_HEADER_BYTES)
  private headerFilled = 0
  private kind: FrameKind = 'message'
  private left = 0
  private body: Uint8Array | undefined

  /** Whether a frame has begun and not ended. */
  get isInside(): boolean {
    return this.headerFilled > 0
  }

  read(chunk: Uint8Array, sink: FrameSink, isOver: () => boolean): void {
    let at = 0
    while (at < chunk.length && !isOver()) {
      at +=
        this.headerFilled < FRAME_HEADER_BYTES
          ? this.readHeader(chunk, at, sink)
          : this.readBody(chunk, at, sink)
    }
  }

  private readHeader(chunk: Uint8Array, at: number, sink: FrameSink): number {
    const take = Math.min(FRAME_HEADER_BYTES - this.headerFilled, chunk.length - at)
    this.header.set(chunk.subarray(at, at + take), this.headerFilled)
    this.headerFilled += take
    if (this.headerFilled < FRAME_HEADER_BYTES) return take
    const frame = decodeFrameHeader(this.header)
    if (isRejection(frame)) {
      sink.wrong(frame.message)
      return take
    }
    this.kind = frame.kind
    this.left = frame.length
    this.body = frame.kind === 'data' ? undefined : new Uint8Array(frame.length)
    if (this.left === 0) this.finish(sink)
    return take
  }

  private readBody(chunk: Uint8Array, at: number, sink: FrameSink): number {
    const take = Math.min(this.left, chunk.length - at)
    const piece = chunk.subarray(at, at + take)
    if (this.body) this.body.set(piece, this.body.length - this.left)
    else sink.data(piece)
    this.left -= take
    if (this.left === 0) this.finish(sink)
    return take
  }

  private finish(sink: FrameSink): void {
    const { body, kind } = this
    this.headerFilled = 0
    this.body = undefined
    if (!body) return
    if (kind === 'credit' && body.length !== 4)
      sink.wrong(`got credit of ${body.length} bytes, expected 4`)
    else if (kind === 'credit') sink.credit(body)
    else sink.message(body)
  }
}
