import type { Connection, Stream } from '@libp2p/interface'
import {
  decodeFrameHeader,
  decodeMessage,
  FRAME_HEADER_BYTES,
  isRejection,
  type Message,
} from '../../protocol/message.ts'
import type { Node } from '../../protocol/ports/libp2p.ts'
import { SWAP_PROTOCOL } from '../../protocol/ports/network.ts'

/**
 * The frames of every swap of one node, seen from outside: streams are wrapped where libp2p hands them out, so the
 * shipped code runs as it is. A frame is told before it is sent, and as it comes before anybody reads it.
 */
export interface Boundary {
  /** `sends`: about to; `hears`: just came. */
  way: 'sends' | 'hears'
  /** `data` is somewhere inside the copy. */
  what: Message['type'] | 'data'
  /** Who opened the swap's stream; a question's asker is its offerer here. */
  role: 'offerer' | 'accepter'
}

export interface Crossing extends Boundary {
  nonce: string
  with: string
  connection: Connection
  /** Half of what they sent minus half of what we sent, summed: what settling adds to our params, once both copies are whole. */
  gain: number | undefined
}

interface Exchange {
  nonce: string
  sent: Uint8Array[]
  heard: Uint8Array[]
}

/** Tells `onCrossing` of every frame of a swap; gives the streams that are under way. */
export function watchSwaps(
  libp2p: Node,
  copyBytes: number,
  onCrossing: (crossing: Crossing) => void,
) {
  const open = new Set<Stream>()
  const gains = new Map<string, number>()
  const watch = (stream: Stream, connection: Connection, role: Boundary['role']) => {
    const exchange: Exchange = { nonce: '', sent: [], heard: [] }
    const tell = (way: Boundary['way']) => (what: Boundary['what'], message?: Message) => {
      if (message) exchange.nonce = message.nonce
      const { nonce } = exchange
      const whole = gainOf(exchange, copyBytes)
      if (whole !== undefined) gains.set(nonce, whole)
      const peer = connection.remotePeer.toString()
      onCrossing({ way, what, role, nonce, with: peer, connection, gain: gains.get(nonce) })
    }
    const sends = frames(exchange.sent, tell('sends'))
    const hears = frames(exchange.heard, tell('hears'))
    const send = stream.send.bind(stream)
    // A header waits for its body: nothing of a frame is out when we tell of it.
    let header: Uint8Array | undefined
    stream.send = (bytes) => {
      const chunk = bytes instanceof Uint8Array ? bytes : bytes.subarray()
      sends(chunk)
      if (header === undefined && chunk.length === FRAME_HEADER_BYTES) {
        header = chunk
        return true
      }
      if (header) send(header)
      header = undefined
      return send(chunk)
    }
    stream.addEventListener('message', ({ data }) => hears(data.subarray()))
    // An offer that was called off may have reset its stream before we see it.
    if (stream.status === 'open') open.add(stream)
    stream.addEventListener('close', () => open.delete(stream))
  }
  watchInbound(libp2p, watch)
  watchOutbound(libp2p, watch)
  return open
}

type Watch = (stream: Stream, connection: Connection, role: Boundary['role']) => void

function watchInbound(libp2p: Node, watch: Watch): void {
  const handle = libp2p.handle.bind(libp2p)
  libp2p.handle = (protocol, handler, options) => {
    if (protocol !== SWAP_PROTOCOL) return handle(protocol, handler, options)
    return handle(
      protocol,
      (stream, connection) => {
        watch(stream, connection, 'accepter')
        return handler(stream, connection)
      },
      options,
    )
  }
}

function watchOutbound(libp2p: Node, watch: Watch): void {
  const getConnections = libp2p.getConnections.bind(libp2p)
  const watched = new WeakSet<Connection>()
  libp2p.getConnections = (peer) => {
    const connections = getConnections(peer)
    for (const connection of connections) {
      if (watched.has(connection)) continue
      watched.add(connection)
      const newStream = connection.newStream.bind(connection)
      connection.newStream = async (protocols, options) => {
        const stream = await newStream(protocols, options)
        if (protocols === SWAP_PROTOCOL) watch(stream, connection, 'offerer')
        return stream
      }
    }
    return connections
  }
}

/** Cuts what flows one way into frames; data bodies are kept in `copy`. */
function frames(copy: Uint8Array[], tell: (what: Boundary['what'], message?: Message) => void) {
  let pending: Uint8Array = new Uint8Array(0)
  let pieces = 0
  return (chunk: Uint8Array) => {
    pending = Buffer.concat([pending, chunk])
    while (pending.length >= FRAME_HEADER_BYTES) {
      const header = decodeFrameHeader(pending)
      if (isRejection(header)) return
      const end = FRAME_HEADER_BYTES + header.length
      if (pending.length < end) return
      const body = pending.slice(FRAME_HEADER_BYTES, end)
      pending = pending.subarray(end)
      if (header.kind === 'credit') continue
      if (header.kind === 'data') {
        copy.push(body)
        pieces++
        if (pieces === 2) tell('data')
        continue
      }
      const message = decodeMessage(body)
      if (!isRejection(message)) tell(message.type, message)
    }
  }
}

function gainOf({ sent, heard }: Exchange, copyBytes: number): number | undefined {
  const [ours, theirs] = [sent, heard].map((pieces) => Buffer.concat(pieces))
  if (ours!.length !== copyBytes || theirs!.length !== copyBytes) return undefined
  return (sumOf(theirs!) - sumOf(ours!)) / 2
}

/** The sum of a float32 copy. */
function sumOf(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let total = 0
  for (let at = 0; at < bytes.length; at += 4) total += view.getFloat32(at, true)
  return total
}
