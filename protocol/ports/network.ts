import { TopicValidatorResult } from '@libp2p/gossipsub'
import type { Connection, PeerId as Libp2pPeerId, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { sha256 } from 'multiformats/hashes/sha2'
import { toString } from 'uint8arrays'
import type { CodecName } from '../codec/codec.ts'
import { checkState, stateBytes } from '../codec/state.ts'
import { codecs } from '../codec/table.ts'
import type { Digest, Message, MessageOf, Nonce, PeerId } from '../message.ts'
import { MESSAGE_LIMIT } from '../message.ts'
import type { TensorSpec } from '../params.ts'
import type { Draft } from '../peer/events.ts'
import type { Path } from '../report.ts'
import { directConnectionTo, type Node, pathOf } from './libp2p.ts'
import { tellerOf, watched } from './progress.ts'
import { type Channel, openChannel } from './transfer.ts'

/**
 * The network of one swarm: gossip on its topic, swaps and pulls on direct streams, and which of its peers we are
 * connected to. Bytes come in here and leave as checked messages and copies; nothing behind this gate checks again.
 */
export interface Network {
  readonly self: PeerId
  /** Says `message` to `to`, on the stream of its nonce or a new one. What fails comes back as `broken`. */
  send(to: PeerId, message: Draft, copy?: Uint8Array): void
  /** Ends the stream of a nonce once everything said on it is out. */
  close(nonce: Nonce): void
  /** A peer of this swarm, from its card: from now on its links are reported. */
  admit(peer: PeerId): void
  /** Opens a direct connection; `linked` or `unreached` tells what came of it. */
  dial(peer: PeerId, addresses: readonly string[], signal: AbortSignal): Promise<void>
  hangUp(peer: PeerId): void
  publish(announcement: Uint8Array): Promise<void>
  /** Bytes of copies sent and received so far. */
  readonly traffic: { up: number; down: number }
  leave(): Promise<void>
}

export type NetworkEvent =
  | { type: 'message'; from: PeerId; message: Message }
  /** A copy (or whole state) that passed the gate. The bytes are the receiver's to keep. */
  | { type: 'copy'; nonce: Nonce; bytes: Uint8Array<ArrayBuffer>; digest: Digest }
  | { type: 'broken'; nonce: Nonce; reason: string }
  /**
   * Bytes of a swap's or a pull's copies that crossed so far, both ways together: after half a second, four times a second;
   * and then once with both the same, when it is over, whole or not.
   */
  | { type: 'moved'; peer: PeerId; done: number; total: number }
  | { type: 'linked'; peer: PeerId; path: Path }
  | { type: 'unlinked'; peer: PeerId }
  /** A dial came to nothing. */
  | { type: 'unreached'; peer: PeerId }
  | { type: 'announced'; from: PeerId; bytes: Uint8Array }

export interface NetworkOptions {
  libp2p: Node
  genesis: string
  tensors: readonly TensorSpec[]
  codec: CodecName
  onEvent: (event: NetworkEvent) => void
  /** Judges an announcement before it is passed on: `ignore` is no fault, `reject` costs its sender. */
  judge: (from: PeerId, bytes: Uint8Array) => Promise<'accept' | 'ignore' | 'reject'>
}

export const SWAP_PROTOCOL = '/mlstore/swap/1'
export const PARAMS_PROTOCOL = '/mlstore/params/2'
export const topicOf = (genesis: string) => `/mlstore/1/${genesis}`

/** A new stream is open within this, or the swap is broken. */
const OPEN_MS = 10_000
/** The first message on a stream that somebody opened comes within this. */
const FIRST_MESSAGE_MS = 10_000
/** A dial, with all its addresses; libp2p gives each of them 6 s. */
export const DIAL_MS = 12_000
/** Streams of one protocol and peer at once: a swap, a few questions, a pull. */
const STREAMS_LIMIT = 16

const verdicts = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
} as const

/** Peers of this swarm that we would report a link of. */
const ADMITTED_LIMIT = 8192

const QUESTION = '?'

interface Session {
  key: string
  nonce: Nonce
  peer: PeerId
  channel: Channel
  /** What may come to us on it: a copy, a whole state, or nothing but messages. */
  what: 'copy' | 'state' | 'messages'
  codec: CodecName
  /** The digest that `params` announced. */
  announced: Digest | undefined
  /** Bytes that are to cross both ways, and those that did. */
  total: number
  moved: number
  /** Tells of them; there from the first on. */
  tell: ((now: number) => void) | undefined
  isTold: boolean
  /** The last transfer we began; close() waits for it. */
  sending: Promise<void>
  /** The gate's work on what came. */
  checking: Promise<void>
  closed: boolean
}

/** Swarms by genesis on one node: a protocol has one handler, which hands streams to the swarm they name. */
const switchboards = new WeakMap<Node, Map<string, Swarmer>>()
interface Swarmer {
  opened(channel: Channel, message: MessageOf<'offer' | 'ask' | 'pull'>): ChannelHandler | undefined
}
interface ChannelHandler {
  wronged(): void
  message(message: Message): void
  moved(bytes: number): void
  data(bytes: Uint8Array): void
  end(reason: string | undefined): void
}

/** Joins the topic, answers the swap and params protocols for this genesis, and watches connections. */
export async function joinNetwork(options: NetworkOptions): Promise<Network> {
  const { libp2p, genesis, tensors, onEvent } = options
  const self = libp2p.peerId.toString()
  const tensorsDigest = await digestOf(new TextEncoder().encode(tensorList(tensors)))
  // A question about a swap has a stream of its own beside the swap's: its key is the nonce after QUESTION.
  const sessions = new Map<string, Session>()
  /** Offers and pulls whose stream is not open yet, and how to call them off. */
  const opening = new Map<Nonce, AbortController>()
  const admitted = new Set<PeerId>()
  const linkedPaths = new Map<PeerId, Path>()
  const traffic = { up: 0, down: 0 }
  const topic = topicOf(genesis)

  // Streams ----------------------------------------------------------------------------------------------------------

  function sessionOf(
    message: MessageOf<'offer' | 'ask' | 'pull'>,
    peer: PeerId,
    channel: Channel,
    what: Session['what'],
    codec: CodecName,
  ): Session {
    const { type, nonce } = message
    const key = type === 'ask' ? QUESTION + nonce : nonce
    const session: Session = {
      key,
      nonce,
      peer,
      channel,
      what,
      codec,
      announced: undefined,
      total: totalOf(message, codec),
      moved: 0,
      tell: undefined,
      isTold: false,
      sending: Promise.resolve(),
      checking: Promise.resolve(),
      closed: false,
    }
    sessions.set(key, session)
    return session
  }

  /** A swap's copies are of one size; a pull has one of them, or a whole state. */
  function totalOf(message: MessageOf<'offer' | 'ask' | 'pull'>, codec: CodecName): number {
    if (message.type === 'ask') return 0
    if (message.type === 'pull' && message.what === 'state') return stateBytes(tensors)
    return (message.type === 'offer' ? 2 : 1) * codecs[codec].sizeBytes(tensors)
  }

  function move(session: Session, bytes: number): void {
    const now = performance.now()
    session.moved += bytes
    session.tell ??= tellerOf(now, watched, () => {
      session.isTold = true
      tellMoved(session, session.total)
    })
    session.tell(now)
  }

  /** Who heard of it hears that it is over. */
  function endMoving(session: Session): void {
    if (session.isTold) tellMoved(session, session.moved)
    session.isTold = false
  }

  function tellMoved({ peer, moved: done }: Session, total: number): void {
    onEvent({ type: 'moved', peer, done, total })
  }

  /** How copies of its swap are encoded; nothing of a question is. */
  function codecOf(message: MessageOf<'offer' | 'ask' | 'pull'>): CodecName {
    return message.type === 'ask' ? options.codec : (message.codec as CodecName)
  }

  /** What a channel's events mean to its session. */
  function handlerOf(session: Session): ChannelHandler {
    return {
      // What still comes for a swap that we gave up may find no room: that is late, not wrong.
      wronged: () => {
        if (!session.closed) strike(session.peer)
      },
      message: (message) => {
        if (session.closed) return
        if (message.nonce !== session.nonce)
          return breakOff(session, 'a message named another swap', true)
        if (opens(message))
          return breakOff(session, `got another ${message.type} on a stream that has one`, true)
        if (message.type === 'params') return expectCopy(session, message)
        onEvent({ type: 'message', from: session.peer, message })
      },
      moved: (bytes) => move(session, bytes),
      data: (bytes) => {
        session.checking = checkCopy(session, bytes as Uint8Array<ArrayBuffer>)
      },
      end: (reason) => {
        if (sessions.get(session.key) === session) sessions.delete(session.key)
        endMoving(session)
        if (isQuestion(session)) return
        // A copy that came whole is told before its stream's end: a donor closes right behind it.
        void session.checking.then(() => {
          if (session.closed) return
          onEvent({
            type: 'broken',
            nonce: session.nonce,
            reason: reason ?? 'closed by the other side',
          })
        })
      },
    }
  }

  /** In order: what is being sent still goes out. */
  function closeSession(session: Session): void {
    session.closed = true
    sessions.delete(session.key)
    void session.sending.then(() => {
      endMoving(session)
      return session.channel.close()
    })
  }

  function breakOff(session: Session, reason: string, isFault: boolean): void {
    if (isFault) strike(session.peer)
    session.channel.abort(reason)
  }

  function expectedBytes(session: Session): number {
    return session.what === 'state' ? stateBytes(tensors) : codecs[session.codec].sizeBytes(tensors)
  }

  function expectCopy(session: Session, message: MessageOf<'params'>): void {
    const expected = expectedBytes(session)
    if (session.what === 'messages' || session.announced) {
      return breakOff(session, 'params came where none were expected', true)
    }
    if (message.bytes !== expected) {
      return breakOff(session, `got a copy of ${message.bytes} bytes, expected ${expected}`, true)
    }
    session.announced = message.digest
    session.channel.expectData(new Uint8Array(expected))
  }

  /** The gate: hash, then length and values. */
  async function checkCopy(session: Session, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const digest = await digestOf(bytes)
    if (session.closed) return
    if (digest !== session.announced)
      return breakOff(session, 'a copy whose hash is not the announced one', true)
    const rejection =
      session.what === 'state'
        ? checkState(bytes, tensors)
        : codecs[session.codec].check(bytes, tensors)
    if (rejection) return breakOff(session, rejection.message, true)
    traffic.down += bytes.length
    onEvent({ type: 'copy', nonce: session.nonce, bytes, digest })
  }

  async function open(to: PeerId, message: MessageOf<'offer' | 'ask' | 'pull'>): Promise<void> {
    const protocol = message.type === 'pull' ? PARAMS_PROTOCOL : SWAP_PROTOCOL
    const connection = directConnectionTo(libp2p, peerIdFromString(to))
    if (!connection) throw new Error('no direct connection')
    const callOff = new AbortController()
    if (message.type !== 'ask') opening.set(message.nonce, callOff)
    const signal = AbortSignal.any([callOff.signal, AbortSignal.timeout(OPEN_MS)])
    const stream = await connection.newStream(protocol, { signal }).finally(() => {
      opening.delete(message.nonce)
    })
    // Called off while its stream opened: the other side must not take what we no longer stand by.
    if (callOff.signal.aborted) return stream.abort(new Error('called off'))
    let handler: ChannelHandler | undefined
    const channel = openChannel(stream, connection, {
      message: (answer) => handler?.message(answer),
      moved: (bytes) => handler?.moved(bytes),
      data: (bytes) => handler?.data(bytes),
      wronged: () => handler?.wronged(),
      end: (reason) => handler?.end(reason),
    })
    const what =
      message.type === 'offer' ? 'copy' : message.type === 'pull' ? message.what : 'messages'
    handler = handlerOf(sessionOf(message, to, channel, what, codecOf(message)))
    channel.send(message)
  }

  const swarmer: Swarmer = {
    opened(channel, message) {
      const peer = channel.remote
      const refuse = (reason: MessageOf<'busy'>['reason']) => {
        channel.send({ type: 'busy', nonce: message.nonce, reason })
        void channel.close()
        return undefined
      }
      if (isRefused(peer)) return refuse('busy')
      if (message.type !== 'ask') {
        if (sessions.has(message.nonce)) return refuse('busy')
        if (message.tensors !== tensorsDigest) return refuse('other-tensors')
        if (!Object.hasOwn(codecs, message.codec)) return refuse('unknown-codec')
      }
      const what = message.type === 'offer' ? 'copy' : 'messages'
      const session = sessionOf(message, peer, channel, what, codecOf(message))
      admit(peer)
      onEvent({ type: 'message', from: peer, message })
      return handlerOf(session)
    },
  }

  // Peers ------------------------------------------------------------------------------------------------------------

  function admit(peer: PeerId): void {
    if (peer === self || admitted.has(peer)) return
    admitted.add(peer)
    if (admitted.size > ADMITTED_LIMIT) forget()
    refreshLink(peer)
  }

  /** The oldest stranger goes: peers that we hold a link to stay. */
  function forget(): void {
    const oldest = [...admitted].find((peer) => !linkedPaths.has(peer))
    if (oldest) admitted.delete(oldest)
  }

  function refreshLink(peer: PeerId): void {
    if (!admitted.has(peer)) return
    const connection = isRefused(peer)
      ? undefined
      : directConnectionTo(libp2p, peerIdFromString(peer))
    const path = connection && pathOf(connection)
    if (path === linkedPaths.get(peer)) return
    if (path) linkedPaths.set(peer, path)
    else linkedPaths.delete(peer)
    onEvent(path ? { type: 'linked', peer, path } : { type: 'unlinked', peer })
  }

  function strike(peer: PeerId): void {
    strikeOn(libp2p, peer)
    if (isRefused(peer)) refreshLink(peer)
  }

  function isRefused(peer: PeerId): boolean {
    return libp2p.services.strikes.isRefused(peer)
  }

  const onConnection = ({ detail }: CustomEvent<Connection>) =>
    refreshLink(detail.remotePeer.toString())
  const onSubscription = ({
    detail,
  }: CustomEvent<{
    peerId: Libp2pPeerId
    subscriptions: { topic: string; subscribe: boolean }[]
  }>) => {
    if (detail.subscriptions.some((change) => change.topic === topic && change.subscribe))
      admit(detail.peerId.toString())
  }
  const onAnnouncement = ({
    detail,
  }: CustomEvent<{ topic: string; data: Uint8Array; type: string }>) => {
    if (detail.topic !== topic) return
    const from = 'from' in detail ? String(detail.from) : ''
    onEvent({ type: 'announced', from, bytes: detail.data })
  }

  const { pubsub } = libp2p.services
  await switchboardOf(libp2p).then((board) => board.set(genesis, swarmer))
  libp2p.addEventListener('connection:open', onConnection)
  libp2p.addEventListener('connection:close', onConnection)
  pubsub.addEventListener('subscription-change', onSubscription as EventListener)
  pubsub.addEventListener('message', onAnnouncement as EventListener)
  pubsub.topicValidators.set(topic, async (source, message) => {
    const from = source.toString()
    const isLong = message.data.length > MESSAGE_LIMIT
    const verdict = isLong ? 'reject' : await options.judge(from, message.data)
    if (verdict === 'reject') strike(from)
    return verdicts[verdict]
  })
  pubsub.subscribe(topic)
  for (const peer of pubsub.getSubscribers(topic)) admit(peer.toString())

  return {
    self,
    traffic,
    admit,
    send(to, draft, copy) {
      const message = { ...draft, genesis, tensors: tensorsDigest } as Message
      if (message.type === 'offer' || message.type === 'pull' || message.type === 'ask') {
        open(to, trimmed(message)).catch((error: Error) => {
          // A question that cannot be put is put again later; the swap it asks about goes on.
          if (message.type !== 'ask')
            onEvent({ type: 'broken', nonce: message.nonce, reason: error.message })
        })
        return
      }
      const session = sessions.get(
        message.type === 'told' ? QUESTION + message.nonce : message.nonce,
      )
      if (!session) return
      session.channel.send(trimmed(message))
      // The last word on its stream: what a refused peer sends behind it finds no room.
      if (message.type === 'told' || message.type === 'busy') closeSession(session)
      if (message.type !== 'params' || !copy) return
      traffic.up += copy.length
      // A broken transfer is reported by its channel's end.
      session.sending = session.channel.sendData(copy).catch(() => {})
    },
    close(nonce) {
      opening.get(nonce)?.abort(new Error('called off'))
      for (const key of [nonce, QUESTION + nonce]) {
        const session = sessions.get(key)
        if (session) closeSession(session)
      }
    },
    async dial(peer, addresses, signal) {
      const id = peerIdFromString(peer)
      if (directConnectionTo(libp2p, id)) return
      const limit = AbortSignal.any([signal, AbortSignal.timeout(DIAL_MS)])
      const known = addresses.flatMap(parse)
      try {
        await libp2p.dial(known.length > 0 ? known : id, { signal: limit })
      } catch {
        onEvent({ type: 'unreached', peer })
      }
    },
    hangUp(peer) {
      if (isOurRelay(libp2p, peer)) return
      void libp2p.hangUp(peerIdFromString(peer)).catch(() => {})
    },
    async publish(announcement) {
      await pubsub.publish(topic, announcement)
    },
    async leave() {
      switchboards.get(libp2p)?.delete(genesis)
      libp2p.removeEventListener('connection:open', onConnection)
      libp2p.removeEventListener('connection:close', onConnection)
      pubsub.removeEventListener('subscription-change', onSubscription as EventListener)
      pubsub.removeEventListener('message', onAnnouncement as EventListener)
      pubsub.topicValidators.delete(topic)
      pubsub.unsubscribe(topic)
      const open = [...sessions.values()]
      sessions.clear()
      for (const session of open) session.closed = true
      await Promise.all(open.map(({ sending, channel }) => sending.then(() => channel.close())))
    },
  }
}

/** Counts a rejection of a peer's bytes; hangs up on who is refused from now on, and the gater keeps it away. */
function strikeOn(libp2p: Node, peer: PeerId): void {
  if (!libp2p.services.strikes.add(peer)) return
  void libp2p.hangUp(peerIdFromString(peer)).catch(() => {})
}

/** Others reach us through it. */
function isOurRelay(libp2p: Pick<Node, 'getMultiaddrs'>, peer: string): boolean {
  return libp2p
    .getMultiaddrs()
    .some((address) => address.toString().includes(`/p2p/${peer}/p2p-circuit`))
}

function isQuestion({ key }: Session): boolean {
  return key.startsWith(QUESTION)
}

/** Only the first message of a stream offers, asks or pulls. */
function opens({ type }: Message): boolean {
  return type === 'offer' || type === 'ask' || type === 'pull'
}

/** Registers both protocols on a node once, and hands each stream to the swarm that its first message names. */
async function switchboardOf(libp2p: Node): Promise<Map<string, Swarmer>> {
  const existing = switchboards.get(libp2p)
  if (existing) return existing
  const board = new Map<string, Swarmer>()
  switchboards.set(libp2p, board)
  const limits = { maxInboundStreams: STREAMS_LIMIT, maxOutboundStreams: STREAMS_LIMIT }
  const accept = (types: readonly string[]) => (stream: Stream, connection: Connection) => {
    receive({ board, types, wronged: (peer) => strikeOn(libp2p, peer) }, stream, connection)
  }
  await libp2p.handle(SWAP_PROTOCOL, accept(['offer', 'ask']), limits)
  await libp2p.handle(PARAMS_PROTOCOL, accept(['pull']), limits)
  return board
}

function receive(
  {
    board,
    types,
    wronged,
  }: {
    board: ReadonlyMap<string, Swarmer>
    types: readonly string[]
    wronged: (peer: PeerId) => void
  },
  stream: Stream,
  connection: Connection,
): void {
  let handler: ChannelHandler | undefined
  let isOpened = false
  const channel = openChannel(stream, connection, {
    message(message) {
      if (handler) return handler.message(message)
      if (isOpened) return channel.abort(`got ${message.type} on a stream that was refused`)
      isOpened = true
      clearTimeout(timer)
      if (!types.includes(message.type) || !('genesis' in message)) {
        wronged(channel.remote)
        return channel.abort(`got ${message.type} first, expected ${types.join(' or ')}`)
      }
      const swarmer = board.get(message.genesis)
      if (swarmer) handler = swarmer.opened(channel, message)
      else refuseUnknown(channel, message.nonce)
    },
    moved: (bytes) => handler?.moved(bytes),
    data: (bytes) => handler?.data(bytes),
    // What comes behind a refusal finds no room: that is late, not wrong.
    wronged: () => {
      if (handler) handler.wronged()
      else if (!isOpened) wronged(channel.remote)
    },
    end(reason) {
      clearTimeout(timer)
      handler?.end(reason)
    },
  })
  const timer = setTimeout(() => channel.abort('no first message in time'), FIRST_MESSAGE_MS)
}

function refuseUnknown(channel: Channel, nonce: Nonce): void {
  channel.send({ type: 'busy', nonce, reason: 'unknown-swarm' })
  void channel.close()
}

/** Only an opening message names swarm and tensors. */
function trimmed<M extends Message>(message: M): M {
  const { genesis, tensors, ...rest } = message as M & { genesis?: string; tensors?: string }
  if (message.type === 'offer' || message.type === 'pull') return message
  return (message.type === 'ask' ? { ...rest, genesis } : rest) as M
}

function parse(address: string): Multiaddr[] {
  try {
    return [multiaddr(address)]
  } catch {
    return []
  }
}

/** The list of tensors as hashed in OFFER and PULL: JSON of [name, shape, role] rows, no spaces. */
export function tensorList(tensors: readonly TensorSpec[]): string {
  return JSON.stringify(tensors.map(({ name, shape, role }) => [name, shape, role]))
}

export async function digestOf(bytes: Uint8Array): Promise<Digest> {
  return toString((await sha256.digest(bytes)).digest, 'hex')
}
