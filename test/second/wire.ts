import * as cbor from '@ipld/dag-cbor'
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { same, sha256 } from './bytes.ts'

/** Frames, messages and the window, as protocol/README.md has them: sections 2 and 3. */
export type Message = { type: string; nonce: Uint8Array } & Record<string, unknown>

const KINDS = { message: 1, data: 2, credit: 3 } as const
const MESSAGE_BYTES = 4096
const PIECE_BYTES = 65_536
/** Nobody is waited for longer than this. */
const DEADLINE_MS = 10_000

/** What a connection has unacknowledged, in our direction. */
const unacknowledged = new WeakMap<Connection, { bytes: number; waiting: Set<() => void> }>()

/** A new stream on a direct connection. */
export async function openWire(
  libp2p: Libp2p,
  to: PeerId,
  protocol: string,
  nonce: Uint8Array,
): Promise<Wire> {
  const connection = libp2p.getConnections(to).find(({ limits }) => limits === undefined)
  if (!connection) throw new Error('no direct connection')
  const wire = new Wire(await connection.newStream(protocol), connection)
  wire.nonce = nonce
  return wire
}

/** One stream: frames out, and a reader that sorts frames into messages, one copy and credit. */
export class Wire {
  nonce: Uint8Array | undefined
  readonly remote: PeerId
  private readonly stream: Stream
  private readonly window: number
  private readonly flight: { bytes: number; waiting: Set<() => void> }
  private owed = 0
  private readonly heard: Message[] = []
  private announced: Uint8Array | undefined
  private copy:
    | {
        bytes: Uint8Array
        filled: number
        resolve: (bytes: Uint8Array) => void
        reject: (why: Error) => void
      }
    | undefined
  private wake = () => {}
  private over: Error | undefined

  constructor(stream: Stream, connection: Connection) {
    this.stream = stream
    this.remote = connection.remotePeer
    this.window = connection.remoteAddr.toString().includes('/webrtc') ? 524_288 : 2_097_152
    this.flight = unacknowledged.get(connection) ?? { bytes: 0, waiting: new Set() }
    unacknowledged.set(connection, this.flight)
    const deadline = setTimeout(() => this.reset('deadline'), DEADLINE_MS)
    void this.read()
      .catch((error: Error) => this.reset(error.message))
      .finally(() => {
        clearTimeout(deadline)
        this.end(new Error('the stream ended'))
      })
  }

  say(type: string, fields: Record<string, unknown>): void {
    this.write('message', cbor.encode({ type, nonce: this.nonce, ...fields }))
  }

  /** The next message, which must be one of these. */
  async hear(...types: string[]): Promise<Message> {
    while (this.heard.length === 0) {
      if (this.over) throw this.over
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    const message = this.heard.shift()!
    if (types.includes(message.type)) return message
    throw this.reset(`got ${message.type}, expected ${types.join(' or ')}`)
  }

  /** The copy that PARAMS announces, whole and with its digest. */
  expect(length: number): Promise<Uint8Array> {
    const promise = new Promise<Uint8Array>((resolve, reject) => {
      this.copy = { bytes: new Uint8Array(length), filled: 0, resolve, reject }
    })
    promise.catch(() => {})
    return promise
  }

  /** PARAMS and the data, within the window. */
  async pour(copy: Uint8Array): Promise<void> {
    this.say('params', { bytes: copy.length, digest: sha256(copy) })
    for (let at = 0; at < copy.length; at += PIECE_BYTES) {
      const piece = copy.subarray(at, at + PIECE_BYTES)
      while (!this.over && this.flight.bytes + piece.length > this.window) {
        await new Promise<void>((resolve) => this.flight.waiting.add(resolve))
      }
      if (this.over) throw this.over
      this.flight.bytes += piece.length
      this.owed += piece.length
      this.write('data', piece)
    }
  }

  closed(outcome: string): string {
    void this.stream.close().catch(() => {})
    return outcome
  }

  reset(why: string): Error {
    const error = new Error(why)
    this.end(error)
    this.stream.abort(error)
    return error
  }

  private write(kind: keyof typeof KINDS, body: Uint8Array): void {
    this.stream.send(
      Uint8Array.of(KINDS[kind], body.length >> 16, (body.length >> 8) & 255, body.length & 255),
    )
    this.stream.send(body)
  }

  private async read(): Promise<void> {
    let bytes = Buffer.alloc(0)
    for await (const chunk of this.stream) {
      bytes = Buffer.concat([bytes, chunk.subarray()])
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUIntBE(1, 3)) {
        const body = bytes.subarray(4, 4 + bytes.readUIntBE(1, 3))
        this.take(bytes[0]!, body)
        bytes = bytes.subarray(4 + body.length)
      }
    }
  }

  private take(kind: number, body: Buffer): void {
    if (kind === KINDS.message && body.length <= MESSAGE_BYTES) this.takeMessage(cbor.decode(body))
    else if (kind === KINDS.data && body.length <= PIECE_BYTES) this.takeData(body)
    else if (kind === KINDS.credit && body.length === 4) this.takeCredit(body.readUInt32BE())
    else throw new Error(`got a frame of kind ${kind} and ${body.length} bytes`)
  }

  private takeMessage(message: Message): void {
    this.nonce ??= message.nonce
    if (!same(message.nonce, this.nonce)) throw new Error('a message named another swap')
    if (message.type !== 'params') {
      this.heard.push(message)
      return this.wake()
    }
    if (this.announced || message.bytes !== this.copy?.bytes.length)
      throw new Error('PARAMS that were not expected')
    this.announced = message.digest as Uint8Array
  }

  private takeData(body: Uint8Array): void {
    const { copy } = this
    if (!copy || !this.announced || copy.filled + body.length > copy.bytes.length)
      throw new Error('data that was not expected')
    copy.bytes.set(body, copy.filled)
    copy.filled += body.length
    const credit = Buffer.alloc(4)
    credit.writeUInt32BE(body.length)
    if (this.stream.writeStatus === 'writable') this.write('credit', credit)
    if (copy.filled < copy.bytes.length) return
    if (!same(this.announced, sha256(copy.bytes))) throw new Error('a copy with another digest')
    copy.resolve(copy.bytes)
  }

  private takeCredit(bytes: number): void {
    if (bytes > this.owed) throw new Error('credit for more than was sent')
    this.release(bytes)
  }

  private release(bytes: number): void {
    this.owed -= bytes
    this.flight.bytes -= bytes
    for (const resume of this.flight.waiting) resume()
    this.flight.waiting.clear()
  }

  private end(why: Error): void {
    this.over ??= why
    this.release(this.owed)
    this.copy?.reject(why)
    this.wake()
    this.closed('ended')
  }
}
