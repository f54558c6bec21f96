import { createHash, randomBytes } from 'node:crypto'
import * as cbor from '@ipld/dag-cbor'
import type { Connection, Libp2p, PeerId, PrivateKey, Stream } from '@libp2p/interface'

/**
 * A second peer, written from protocol/README.md alone: it imports nothing of ours. It offers, accepts, asks, pulls and
 * answers pulls, one thing after another, so that whatever the specification leaves out shows here. It does not train.
 */
export interface SecondPeer {
  readonly params: Float32Array
  /** Momentum's direction, as given to newcomers. */
  readonly direction: Float32Array
  steps: number
  /** How to take offers: a BUSY reason refuses them, `hold` looks at them only once our own is out. */
  mood: 'willing' | 'hold' | string
  /** Loses every COMMIT from now on: ours on its way out, theirs on its way in. */
  losesCommits: boolean
  /** Offers a swap and resolves when it settled ('settled') or with the BUSY reason. */
  offer(to: PeerId): Promise<string>
  /** Takes over the whole state of a donor; 'adopted' or the BUSY reason. */
  pull(from: PeerId): Promise<string>
  /** Resolves with the next of these: an offer refused or held, a swap accepted and settled, a question answered. */
  next(what: Happening): Promise<void>
  /** Our card, signed, as announced on the topic. */
  card(sequence: number): Promise<Uint8Array>
}

export interface SecondOptions {
  libp2p: Libp2p
  key: PrivateKey
  genesis: string
  tensors: readonly { name: string; shape: readonly number[]; role: string }[]
  params: Float32Array
  codec: 'int8' | 'float32'
}

export type Happening = 'refused' | 'held' | 'settled' | 'told'

const SWAP = '/mlstore/swap/1'
const PARAMS = '/mlstore/params/1'
const KINDS = { message: 1, data: 2, credit: 3 } as const
const PIECE_BYTES = 65_536
const BLOCK = 256
/** Nobody is waited for longer than this. */
const DEADLINE_MS = 10_000
const ASK_AGAIN_MS = 50

type Message = { type: string; nonce: Uint8Array } & Record<string, unknown>

// biome-ignore lint/suspicious/useAwait: the handlers' registration is all there is to await
export async function secondPeer(options: SecondOptions): Promise<SecondPeer> {
  const { libp2p, genesis, tensors, params } = options
  const list = JSON.stringify(tensors.map(({ name, shape, role }) => [name, shape, role]))
  const tensorsDigest = sha256(new TextEncoder().encode(list))
  const committed = new Set<string>()
  /** The offer that waits for its answer. */
  let offering: Wire | undefined
  const offered = Promise.withResolvers<void>()
  const waiting: { what: Happening; resolve: () => void }[] = []
  const direction = new Float32Array(params.length)
  const sizes = tensors.map(({ shape }) => shape.reduce((a, b) => a * b, 1))

  const peer: SecondPeer = {
    params,
    direction,
    steps: 0,
    mood: 'willing',
    losesCommits: false,

    async offer(to) {
      const nonce = Uint8Array.from(randomBytes(16))
      const wire = await open(libp2p, to, SWAP, nonce)
      const { codec } = options
      wire.say('offer', { genesis, tensors: tensorsDigest, codec, steps: peer.steps })
      offering = wire
      offered.resolve()
      const answer = await wire.hear('accept', 'busy').finally(() => {
        offering = undefined
      })
      if (answer.type === 'busy') return wire.closed(String(answer.reason))
      const sent = encode(codec)
      const received = wire.expect(lengthOf(codec))
      const pouring = wire.pour(sent)
      pouring.catch(() => {})
      const ready = await wire.hear('ready')
      await pouring
      const copy = check(codec, await received)
      if (!same(ready.digest, sha256(sent))) throw wire.reset('READY names another copy')
      settle(codec, sent, copy)
      committed.add(hex(nonce))
      if (peer.losesCommits) wire.reset('lost')
      else wire.say('commit', { digest: sha256(copy) })
      return wire.closed('settled')
    },

    async pull(from) {
      const wire = await open(libp2p, from, PARAMS, Uint8Array.from(randomBytes(16)))
      const received = wire.expect(8 * params.length)
      wire.say('pull', { genesis, tensors: tensorsDigest, what: 'state', codec: 'float32' })
      const answer = await wire.hear('grant', 'busy')
      if (answer.type === 'busy') return wire.closed(String(answer.reason))
      const state = await received
      for (let i = 0; i < params.length; i++) {
        params[i] = float(state, 4 * i)
        direction[i] = float(state, 4 * (params.length + i))
      }
      peer.steps = Number(answer.steps)
      return wire.closed('adopted')
    },

    next: (what) => new Promise((resolve) => waiting.push({ what, resolve })),

    async card(sequence) {
      const payload = cbor.encode({
        peer: libp2p.peerId.toString(),
        ...{ genesis, version: genesis, phase: 'training', round: 1, steps: peer.steps },
        ...{ codecs: ['float32', 'int8'], load: 0, sequence, expiresAt: Date.now() + 600_000 },
        addresses: libp2p.getMultiaddrs().map(String).slice(0, 12),
      })
      const signed = Buffer.concat(
        [new TextEncoder().encode('mlstore/card/1'), Uint8Array.of(0x71), payload].flatMap((part) => [varint(part.length), part]),
      )
      const publicKey = Buffer.concat([Uint8Array.of(8, 1, 0x12, 32), options.key.publicKey.raw])
      const signature = await options.key.sign(signed)
      const fields = [[1, publicKey], [2, Uint8Array.of(0x71)], [3, payload], [5, signature]] as const
      return Buffer.concat(fields.flatMap(([field, bytes]) => [Uint8Array.of((field << 3) | 2), varint(bytes.length), bytes]))
    },
  }

  await libp2p.handle(SWAP, (stream, connection) => void answerSwap(new Wire(stream, connection)).catch(() => {}))
  await libp2p.handle(PARAMS, (stream, connection) => void answerPull(new Wire(stream, connection)).catch(() => {}))
  return peer

  function happened(what: Happening): void {
    for (const wait of waiting.filter((wait) => wait.what === what)) {
      waiting.splice(waiting.indexOf(wait), 1)
      wait.resolve()
    }
  }

  async function answerSwap(wire: Wire): Promise<void> {
    const message = await wire.hear('offer', 'ask')
    if (message.type === 'ask') {
      wire.say('told', { outcome: committed.has(hex(message.nonce)) ? 'committed' : 'aborted' })
      wire.closed('told')
      return happened('told')
    }
    if (peer.mood === 'hold') {
      happened('held')
      await offered.promise
      peer.mood = 'willing'
    }
    const reason = peer.mood === 'willing' ? (refusal(message) ?? crossed(wire)) : peer.mood
    if (reason) {
      wire.say('busy', { reason })
      wire.closed(reason)
      return happened('refused')
    }
    const codec = message.codec as 'int8' | 'float32'
    wire.say('accept', { steps: peer.steps })
    const sent = encode(codec)
    const received = wire.expect(lengthOf(codec))
    const pouring = wire.pour(sent)
    pouring.catch(() => {})
    const copy = check(codec, await received)
    wire.say('ready', { digest: sha256(copy) })
    const isCommitted = await wire.hear('commit').then(
      ({ digest }) => !peer.losesCommits && same(digest, sha256(sent)),
      () => false,
    )
    await pouring.catch(() => {})
    wire.closed('committed')
    if (isCommitted || (await askHow(wire.remote, wire.nonce!)) === 'committed') settle(codec, sent, copy)
    happened('settled')
  }

  /** Both offered to each other: ours stands when our peer id is the lower text, else it is void. */
  function crossed({ remote }: Wire): string | undefined {
    if (!offering?.remote.equals(remote)) return offering && 'busy'
    if (libp2p.peerId.toString() < remote.toString()) return 'crossed'
    offering.closed('void')
    return undefined
  }

  /** In doubt: asks until the offerer knows. */
  async function askHow(offerer: PeerId, nonce: Uint8Array): Promise<unknown> {
    const wire = await open(libp2p, offerer, SWAP, nonce)
    wire.say('ask', { genesis })
    const { type, outcome } = await wire.hear('told', 'busy')
    wire.closed('told')
    if (type === 'told' && outcome !== 'pending') return outcome
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS))
    return askHow(offerer, nonce)
  }

  async function answerPull(wire: Wire): Promise<void> {
    const message = await wire.hear('pull')
    const reason = refusal(message) ?? (peer.steps === 0 || message.what !== 'state' ? 'busy' : undefined)
    if (reason) wire.say('busy', { reason })
    else {
      wire.say('grant', { steps: peer.steps })
      await wire.pour(Buffer.concat([floats(params), floats(direction)]))
    }
    wire.closed('pulled')
  }

  function refusal(message: Message): string | undefined {
    if (message.genesis !== genesis) return 'unknown-swarm'
    if (!same(message.tensors, tensorsDigest)) return 'other-tensors'
    return message.codec === 'int8' || message.codec === 'float32' ? undefined : 'unknown-codec'
  }

  // Copies -----------------------------------------------------------------------------------------------------------

  /** Visits each block: where it starts in params, how long it is, and where it stands in an int8 copy. */
  function blocks(visit: (start: number, length: number, at: number, role: string) => void): void {
    let start = 0
    let at = 0
    sizes.forEach((size, index) => {
      for (let done = 0; done < size; done += BLOCK) {
        const length = Math.min(BLOCK, size - done)
        visit(start, length, at, tensors[index]!.role)
        start += length
        at += 4 + length
      }
    })
  }

  function lengthOf(codec: string): number {
    return codec === 'float32' ? 4 * params.length : params.length + 4 * sizes.reduce((sum, size) => sum + Math.ceil(size / BLOCK), 0)
  }

  function encode(codec: string): Uint8Array {
    if (codec === 'float32') return floats(params)
    const copy = Buffer.alloc(lengthOf(codec))
    blocks((start, length, at) => {
      const largest = params.subarray(start, start + length).reduce((most, x) => Math.max(most, Math.abs(x)), 0)
      const scale = Math.fround(largest / 127)
      if (scale < 1e-36) return
      copy.writeFloatLE(scale, at)
      for (let i = 0; i < length; i++) copy.writeInt8(Math.floor(params[start + i]! * (1 / scale) + 0.5), at + 4 + i)
    })
    return copy
  }

  function check(codec: string, copy: Uint8Array): Uint8Array {
    const within = (value: number, least: number, most: number) => value >= least && value <= most
    let isGood = true
    blocks((start, length, at) => {
      if (codec === 'int8') isGood &&= within(float(copy, at), 0, Math.fround(65_504 / 127))
      else for (let i = start; i < start + length; i++) isGood &&= within(float(copy, 4 * i), -65_504, 65_504)
    })
    if (isGood) return copy
    throw new Error('a copy holds a value out of range')
  }

  function settle(codec: string, sent: Uint8Array, received: Uint8Array): void {
    blocks((start, length, at, role) => {
      const value = (copy: Uint8Array, i: number) =>
        codec === 'float32'
          ? float(copy, 4 * (start + i))
          : Math.fround(((copy[at + 4 + i]! << 24) >> 24) * float(copy, at))
      for (let i = 0; i < length; i++) {
        const moved = Math.fround(params[start + i]! + 0.5 * (value(received, i) - value(sent, i)))
        params[start + i] = role === 'variance' && moved < 0 ? 0 : moved
      }
    })
  }
}

// Frames -------------------------------------------------------------------------------------------------------------

/** What a connection has unacknowledged, in our direction. */
const unacknowledged = new WeakMap<Connection, { bytes: number; waiting: Set<() => void> }>()

async function open(libp2p: Libp2p, to: PeerId, protocol: string, nonce: Uint8Array): Promise<Wire> {
  const connection = libp2p.getConnections(to).find(({ limits }) => limits === undefined)
  if (!connection) throw new Error('no direct connection')
  const wire = new Wire(await connection.newStream(protocol), connection)
  wire.nonce = nonce
  return wire
}

/** One stream: frames out, and a reader that sorts frames into messages, one copy and credit. */
class Wire {
  nonce: Uint8Array | undefined
  readonly remote: PeerId
  private readonly stream: Stream
  private readonly window: number
  private readonly flight: { bytes: number; waiting: Set<() => void> }
  private owed = 0
  private readonly heard: Message[] = []
  private announced: Uint8Array | undefined
  private copy: { bytes: Uint8Array; filled: number; resolve: (bytes: Uint8Array) => void; reject: (why: Error) => void } | undefined
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
    this.stream.send(Uint8Array.of(KINDS[kind], body.length >> 16, (body.length >> 8) & 255, body.length & 255))
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
    if (kind === KINDS.message && body.length <= 4096) this.takeMessage(cbor.decode(body))
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
    if (this.announced || message.bytes !== this.copy?.bytes.length) throw new Error('PARAMS that were not expected')
    this.announced = message.digest as Uint8Array
  }

  private takeData(body: Uint8Array): void {
    const { copy } = this
    if (!copy || !this.announced || copy.filled + body.length > copy.bytes.length) throw new Error('data that was not expected')
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

// Bytes --------------------------------------------------------------------------------------------------------------

function sha256(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(bytes).digest())
}

function same(a: unknown, b: Uint8Array): boolean {
  return a instanceof Uint8Array && Buffer.compare(a, b) === 0
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

function float(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat32(at, true)
}

function floats(values: Float32Array): Uint8Array {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, i) => bytes.writeFloatLE(value, 4 * i))
  return bytes
}

function varint(value: number): Uint8Array {
  return value < 128 ? Uint8Array.of(value) : Uint8Array.of((value & 127) | 128, ...varint(value >>> 7))
}
