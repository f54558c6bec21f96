import { noise } from '@chainsafe/libp2p-noise'
import { type CircuitRelayService, circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { type GossipSub, gossipsub } from '@libp2p/gossipsub'
import { type Identify, type IdentifyPush, identify, identifyPush } from '@libp2p/identify'
import {
  type Connection,
  FaultTolerance,
  type Libp2p,
  type PeerId,
  type PrivateKey,
  type Transport,
} from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Ping, ping } from '@libp2p/ping'
import { isPrivate } from '@libp2p/utils'
import { yamux } from '@libp2p/yamux'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Datastore } from 'interface-datastore'
import type { Libp2pOptions } from 'libp2p'
import { Fault } from '../errors.ts'
import { createStrikes, type Strikes } from './strikes.ts'

/**
 * The one place where a libp2p node is configured, for the bootstrap, the Node peer and the page alike. A host brings
 * its transports, its key and its addresses; every limit below is ours, because libp2p's own defaults fail silently
 * in a swarm: a read buffer smaller than a stream's window, five dials a second from one address, a relay for 15,
 * a score that mutes fifteen peers behind one address, one slow ping that ends a connection.
 */
export interface NetworkOptions {
  privateKey: PrivateKey
  transports: TransportFactory[]
  /** Addresses to listen on; a `/p2p-circuit` one asks that relay for a reservation. */
  listen: string[]
  /** Addresses to tell others besides those, when a router or proxy stands before us. */
  announce?: string[]
  datastore?: Datastore
  /** Carry other peers' signalling (Node peers and bootstraps). */
  relay: boolean
  /** Take part in gossip (peers, not bootstraps). */
  gossip: boolean
  /**
   * Dial private and loopback addresses that other peers name. Only where the user gave such an address: otherwise a
   * stranger could make us knock at doors of our own network.
   */
  dialLocal: boolean | ((address: Multiaddr) => boolean)
  /** Whether the platform lets us dial an address at all; every one unless given. */
  mayDial?: (address: Multiaddr) => boolean
  maxConnections?: number
}

export type TransportFactory = NonNullable<Libp2pOptions['transports']>[number] | (() => Transport)

export interface Services extends Record<string, unknown> {
  identify: Identify
  identifyPush: IdentifyPush
  ping: Ping
  /** Whose bytes were rejected; who is refused for it gets no connection. */
  strikes: Strikes
  pubsub: GossipSub
  relay: CircuitRelayService
}

/** A node with the services it was asked for; `pubsub` and `relay` exist where gossip and relay were chosen. */
export type Node = Libp2p<Services>

const KIB = 1024
const SECOND_MS = 1_000
/** yamux lets a window grow to 16 MiB over a 4 MiB read buffer, and resets a stream that is read slowly. */
const STREAM_WINDOW_BYTES = 1024 * KIB
const CONNECTIONS_LIMIT = 300
/** A laboratory or a school dials from one address: libp2p refuses the sixth a second. */
const DIALS_PER_SECOND_AND_HOST = 500
const PENDING_CONNECTIONS_LIMIT = 256
/** A peer frozen or starved of CPU for less than this keeps its connections. */
const SILENCE_LIMIT_MS = 60 * SECOND_MS
const PING_EVERY_MS = 30 * SECOND_MS
/** Pings under way at once: with libp2p's one, a second ping beside a slow first ends the connection. */
const PINGS_LIMIT = 4
const RELAY_RESERVATIONS = 256
const RELAY_STREAMS = 512
/** Signalling fits in these; params never travel through a relay. */
const RELAY_BYTES_LIMIT = 128n * BigInt(KIB)
const RELAY_DURATION_MS = 120 * SECOND_MS
/** A reservation is renewed before its end, so a peer that left frees its slot within this. */
const RELAY_RESERVATION_MS = 30 * 60 * SECOND_MS

/** libp2p options for a node of ours: `createLibp2p(libp2pDefaults({...}))`, or Helia's withLibp2pLight(). */
export function libp2pDefaults(options: NetworkOptions): Libp2pOptions<Services> {
  const strikes = createStrikes()
  return {
    privateKey: options.privateKey,
    ...(options.datastore && { datastore: options.datastore }),
    addresses: { listen: options.listen, appendAnnounce: options.announce ?? [] },
    transports: options.transports as Libp2pOptions['transports'],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: STREAM_WINDOW_BYTES } })],
    // A configured relay that is dead is no reason not to start; requireListening() checks our own ports.
    transportManager: { faultTolerance: FaultTolerance.NO_FATAL },
    connectionManager: {
      maxConnections: options.maxConnections ?? CONNECTIONS_LIMIT,
      inboundConnectionThreshold: DIALS_PER_SECOND_AND_HOST,
      maxIncomingPendingConnections: PENDING_CONNECTIONS_LIMIT,
    },
    connectionMonitor: {
      pingInterval: PING_EVERY_MS,
      pingTimeout: { minTimeout: SILENCE_LIMIT_MS, maxTimeout: 2 * SILENCE_LIMIT_MS },
    },
    connectionGater: gaterOf(options, strikes),
    services: servicesOf(options, strikes) as Libp2pOptions<Services>['services'],
  }
}

function servicesOf({ relay, gossip }: NetworkOptions, strikes: Strikes) {
  return {
    strikes: () => strikes,
    identify: identify(),
    // Tells connected peers when our protocols or addresses change; without it a handler added late is never found.
    identifyPush: identifyPush(),
    ping: ping({ maxInboundStreams: PINGS_LIMIT, maxOutboundStreams: PINGS_LIMIT }),
    ...(gossip && { pubsub: gossipsub(gossipLimits) }),
    ...(relay && { relay: circuitRelayServer(relayLimits) }),
  }
}

/** The relay transport's own limits on both ends (circuitRelayTransport takes the same numbers). */
export const relayTransportLimits = {
  maxInboundStopStreams: RELAY_STREAMS,
  maxOutboundStopStreams: RELAY_STREAMS,
}

const relayLimits = {
  maxInboundHopStreams: RELAY_STREAMS,
  maxOutboundHopStreams: RELAY_STREAMS,
  maxOutboundStopStreams: RELAY_STREAMS,
  reservations: {
    maxReservations: RELAY_RESERVATIONS,
    reservationTtl: RELAY_RESERVATION_MS,
    reservationClearInterval: 60 * SECOND_MS,
    defaultDataLimit: RELAY_BYTES_LIMIT,
    defaultDurationLimit: RELAY_DURATION_MS,
  },
}

/**
 * Gossip carries a few signed announcements of <= 4 KiB a minute, so the mesh is small and lazy gossip rare.
 * Source: gossipsub v1.1 and v1.2 specifications; the limits answer the attacks they leave open.
 */
const gossipLimits = {
  D: 4,
  Dlo: 3,
  Dhi: 8,
  Dscore: 2,
  Dout: 1,
  Dlazy: 3,
  gossipFactor: 0.1,
  /** A replay after this is caught by the sequence numbers inside; libp2p's 2 min let one flooder hold 0.5 GB. */
  seenTTL: 30 * SECOND_MS,
  fallbackToFloodsub: false,
  floodPublish: false,
  doPX: false,
  emitSelf: false,
  allowPublishToZeroTopicPeers: true,
  ignoreDuplicatePublishError: true,
  globalSignaturePolicy: 'StrictSign' as const,
  maxInboundDataLength: 64 * KIB,
  maxOutboundBufferSize: 1024 * KIB,
  /** About 32 topics a peer: one swarm each. */
  maxTopicBytesPerPeer: 32 * KIB,
  decodeRpcLimits: {
    maxSubscriptions: 64,
    maxMessages: 64,
    maxIhaveMessageIDs: 512,
    maxIwantMessageIDs: 512,
    maxIdontwantMessageIDs: 512,
    maxControlMessages: 64,
    maxPeerInfos: 0,
  },
  /** Fifteen peers on one address would mute each other, and a relay's address counts for all behind it. */
  scoreParams: { IPColocationFactorWeight: 0 },
}

function gaterOf(
  { dialLocal, mayDial }: Pick<NetworkOptions, 'dialLocal' | 'mayDial'>,
  strikes: Strikes,
) {
  const denies = (address: Multiaddr) => {
    if (mayDial?.(address) === false) return true
    if (typeof dialLocal === 'boolean' ? dialLocal : dialLocal(address)) return false
    return isPrivate(address)
  }
  const refuses = (peer: PeerId) => strikes.isRefused(peer.toString())
  return {
    denyDialPeer: refuses,
    denyInboundEncryptedConnection: refuses,
    denyOutboundEncryptedConnection: refuses,
    denyDialMultiaddr: denies,
    filterMultiaddrForPeer: (_peer: PeerId, address: Multiaddr) => !denies(address),
  }
}

/** Whether an address is loopback, link-local or of a private network. */
export function isLocal(address: Multiaddr | string): boolean {
  return isPrivate(typeof address === 'string' ? parseAddress(address) : address)
}

export type Path = 'tcp' | 'ws' | 'webrtc-direct' | 'webrtc' | 'relay' | 'memory'

/** How a connection reaches the other peer. */
export function pathOf(connection: Pick<Connection, 'remoteAddr' | 'limits'>): Path {
  const names = new Set(connection.remoteAddr.getComponents().map(({ name }) => name))
  if (names.has('webrtc')) return 'webrtc'
  if (names.has('p2p-circuit') || connection.limits != null) return 'relay'
  if (names.has('webrtc-direct')) return 'webrtc-direct'
  if (names.has('ws') || names.has('wss')) return 'ws'
  return names.has('memory') ? 'memory' : 'tcp'
}

/** Fastest first, as measured on one machine. */
const preference: Path[] = ['memory', 'tcp', 'ws', 'webrtc-direct', 'webrtc', 'relay']

/** The best open connection to a peer that is no relayed one: params travel on nothing else. */
export function directConnectionTo(
  libp2p: Pick<Libp2p, 'getConnections'>,
  peer: PeerId,
): Connection | undefined {
  const direct = libp2p
    .getConnections(peer)
    .filter((connection) => connection.status === 'open' && connection.limits == null)
  const rank = (connection: Connection) => preference.indexOf(pathOf(connection))
  return direct.sort((a, b) => rank(a) - rank(b) || a.timeline.open - b.timeline.open)[0]
}

/** An address a user typed. Throws Fault `wrong-address`, which says what is wrong and shows a right one. */
export function parseAddress(typed: string): Multiaddr {
  const address = tryParse(typed)
  if (address && isComplete(address)) return address
  throw new Fault({
    kind: 'usage',
    type: 'wrong-address',
    address: typed,
    message: `got the address ${JSON.stringify(typed)}, ${wrongIn(typed, address)}`,
    hint: 'copy one of the addresses that a bootstrap or a peer prints when it starts, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW...',
  })
}

/** The library takes any text for a peer's id; a mistyped one would be dialled for ever. */
function tryParse(typed: string): Multiaddr | undefined {
  try {
    const address = multiaddr(typed.trim())
    for (const { name, value } of address.getComponents()) {
      if (name === 'p2p') peerIdFromString(value ?? '')
    }
    return address
  } catch {
    return undefined
  }
}

const hosts = ['ip4', 'ip6', 'dns', 'dns4', 'dns6', 'dnsaddr', 'memory']
const carriers = ['tcp', 'webrtc-direct', 'webrtc', 'p2p-circuit', 'ws', 'wss']

function isComplete(address: Multiaddr): boolean {
  const names = address.getComponents().map(({ name }) => name)
  if (names[0] === 'memory' || names[0] === 'dnsaddr') return true
  return hosts.includes(names[0] ?? '') && names.some((name) => carriers.includes(name))
}

function wrongIn(typed: string, address: Multiaddr | undefined): string {
  if (!typed.trim().startsWith('/'))
    return 'expected a multiaddr, which starts with / and names its parts'
  if (!address) return 'which is no multiaddr: a part is unknown or lacks its value'
  return 'which names no way to connect: expected a host, then /tcp/PORT, /tcp/PORT/ws or /udp/PORT/webrtc-direct'
}

/**
 * Checks that a started node listens on each of its own ports, which NO_FATAL leaves unsaid. Relayed addresses are
 * not asked for, and announced ones prove nothing. Throws Fault `port-in-use`.
 */
export function requireListening(
  libp2p: Libp2p,
  listen: readonly string[],
  announce: readonly string[] = [],
): void {
  const announced = announce.map((address) => multiaddr(address).toString())
  const ours = libp2p.getMultiaddrs().filter((found) => !announced.includes(withoutPeer(found)))
  const open = ours.map(portOf)
  for (const asked of listen) {
    const port = portOf(multiaddr(asked))
    if (port === undefined || open.some((found) => found && matches(found, port))) continue
    throw new Fault({
      kind: 'resource',
      type: 'port-in-use',
      address: asked,
      message: `cannot listen on ${asked}: another program has that port, or it is not ours to open`,
      hint: 'stop the other program or choose another port (0 takes any that is free)',
    })
  }
}

function withoutPeer(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/[^/]+$/, '')
}

interface Port {
  carrier: string
  number: string
}

/** The transport and port of an address of our own; undefined for relayed ones. */
function portOf(address: Multiaddr): Port | undefined {
  const parts = address.getComponents()
  const names = parts.map(({ name }) => name)
  if (names.includes('p2p-circuit') || names.includes('webrtc')) return undefined
  const part = parts.find(({ name }) => name === 'tcp' || name === 'udp')
  if (!part) return undefined
  const carrier = names.includes('ws') || names.includes('wss') ? 'ws' : part.name
  return { carrier, number: part.value ?? '' }
}

function matches(found: Port, asked: Port): boolean {
  return found.carrier === asked.carrier && (asked.number === '0' || found.number === asked.number)
}
