import { randomBytes } from 'node:crypto'
import * as cbor from '@ipld/dag-cbor'
import type { Libp2p, PeerId, PrivateKey, StreamHandler } from '@libp2p/interface'
import { float, hex, same, sha256, varint } from './bytes.ts'
import { copiesOf, type Tensor } from './copies.ts'
import { type Message, openWire, Wire } from './wire.ts'

/**
 * A second peer, written from protocol/README.md alone: what it imports of this project stands beside it. It offers, accepts, asks, pulls and
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
  card(sequence: number, swarm?: string): Promise<Uint8Array>
}

export interface SecondOptions {
  libp2p: Libp2p
  key: PrivateKey
  genesis: string
  tensors: readonly Tensor[]
  params: Float32Array
  codec: 'int8' | 'float32'
}

export type Happening = 'refused' | 'held' | 'settled' | 'told'

const SWAP = '/mlstore/swap/1'
const PARAMS = '/mlstore/params/2'
const STATE = 'float32'
/** Between two questions about a swap in doubt, and how many are asked. */
const ASK_AGAIN_MS = 50
const QUESTIONS = 100

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
  const { lengthOf, encode, check, settle } = copiesOf(params, tensors)
  const directions = copiesOf(direction, tensors)

  const peer: SecondPeer = {
    params,
    direction,
    steps: 0,
    mood: 'willing',
    losesCommits: false,

    async offer(to) {
      const nonce = Uint8Array.from(randomBytes(16))
      const wire = await openWire(libp2p, to, SWAP, nonce)
      const { codec } = options
      const received = wire.expect(lengthOf(codec))
      wire.say('offer', { genesis, tensors: tensorsDigest, codec, steps: peer.steps })
      offering = wire
      offered.resolve()
      const answer = await wire.hear('accept', 'busy').finally(() => {
        offering = undefined
      })
      if (answer.type === 'busy') return wire.closed(String(answer.reason))
      const sent = encode(codec)
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
      const wire = await openWire(libp2p, from, PARAMS, Uint8Array.from(randomBytes(16)))
      const received = wire.expect(lengthOf('float32') + lengthOf('int8'))
      wire.say('pull', { genesis, tensors: tensorsDigest, what: 'state', codec: STATE })
      const answer = await wire.hear('grant', 'busy')
      if (answer.type === 'busy') return wire.closed(String(answer.reason))
      const state = await received
      for (let i = 0; i < params.length; i++) params[i] = float(state, 4 * i)
      direction.set(directions.decode('int8', state.subarray(lengthOf('float32'))))
      peer.steps = Number(answer.steps)
      return wire.closed('adopted')
    },

    next: (what) => new Promise((resolve) => waiting.push({ what, resolve })),

    async card(sequence, swarm = genesis) {
      const payload = cbor.encode({
        peer: libp2p.peerId.toString(),
        ...{ genesis: swarm, version: swarm, phase: 'training', round: 1, steps: peer.steps },
        ...{ codecs: ['float32', 'int8'], load: 0, sequence, expiresAt: Date.now() + 600_000 },
        addresses: libp2p.getMultiaddrs().map(String).slice(0, 12),
      })
      const signed = Buffer.concat(
        [new TextEncoder().encode('mlstore/card/1'), Uint8Array.of(0x71), payload].flatMap(
          (part) => [varint(part.length), part],
        ),
      )
      const publicKey = Buffer.concat([Uint8Array.of(8, 1, 0x12, 32), options.key.publicKey.raw])
      const signature = await options.key.sign(signed)
      const fields = [
        [1, publicKey],
        [2, Uint8Array.of(0x71)],
        [3, payload],
        [5, signature],
      ] as const
      return Buffer.concat(
        fields.flatMap(([field, bytes]) => [
          Uint8Array.of((field << 3) | 2),
          varint(bytes.length),
          bytes,
        ]),
      )
    },
  }

  await libp2p.handle(SWAP, answer(answerSwap))
  await libp2p.handle(PARAMS, answer(answerPull))
  return peer

  /** Whatever goes wrong on a stream ends it. */
  function answer(how: (wire: Wire) => Promise<void>): StreamHandler {
    return async (stream, connection) => {
      const wire = new Wire(stream, connection)
      await how(wire).catch((error: Error) => wire.reset(error.message))
    }
  }

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
    const outcome = isCommitted ? 'committed' : await askHow(wire.remote, message.nonce)
    if (outcome === 'committed') settle(codec, sent, copy)
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
    for (let asked = 0; asked < QUESTIONS; asked++) {
      const outcome = await askOnce(offerer, nonce).catch(() => 'pending')
      if (outcome !== 'pending') return outcome
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS))
    }
    return 'lost'
  }

  async function askOnce(offerer: PeerId, nonce: Uint8Array): Promise<unknown> {
    const wire = await openWire(libp2p, offerer, SWAP, nonce)
    wire.say('ask', { genesis })
    const { type, outcome } = await wire.hear('told', 'busy')
    wire.closed('told')
    return type === 'told' ? outcome : 'pending'
  }

  async function answerPull(wire: Wire): Promise<void> {
    const message = await wire.hear('pull')
    const reason =
      refusal(message) ?? (peer.steps === 0 || message.what !== 'state' ? 'busy' : undefined)
    if (reason) wire.say('busy', { reason })
    else {
      wire.say('grant', { steps: peer.steps })
      await wire.pour(Buffer.concat([encode('float32'), directions.encode('int8')]))
    }
    wire.closed('pulled')
  }

  function refusal(message: Message): string | undefined {
    if (message.genesis !== genesis) return 'unknown-swarm'
    if (!same(message.tensors, tensorsDigest)) return 'other-tensors'
    return message.codec === 'int8' || message.codec === 'float32' ? undefined : 'unknown-codec'
  }
}
