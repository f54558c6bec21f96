/**
 * Host: one libp2p node in the window, for gossip, swaps and Helia. It dials WebSocket and WebRTC, is reached over WebRTC that
 * a relay introduced, answers the listing protocol and remembers whom it met.
 */
import { circuitRelayTransport, RELAY_V2_HOP_CODEC } from '@libp2p/circuit-relay-v2'
import type { Libp2p, PeerId } from '@libp2p/interface'
import { webRTC, webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import type { Multiaddr } from '@multiformats/multiaddr'
import { MemoryDatastore } from 'datastore-core'
import { type Card, readCard } from '../protocol/message.ts'
import {
  libp2pDefaults,
  type Node,
  parseAddress,
  pathOf,
  relayTransportLimits,
  type TransportFactory,
} from '../protocol/ports/libp2p.ts'
import {
  DIALLED_AT_START,
  keepPresence,
  type Presence,
  rememberMet,
} from '../protocol/ports/presence.ts'
import { createListingBook, type ListingBook } from '../protocol/ports/registry.ts'
import type { Finder } from '../protocol/ports/resolve.ts'
import { openStore } from '../protocol/ports/store.ts'
import { has } from './abilities.ts'
import { isOneOf, mayDial, mayDialLocal, whyNot } from './dialling.ts'
import type { Home } from './home.ts'
import type { LinkedPeer, NetworkView } from './services.ts'

export interface Host extends Finder, Pick<Presence, 'announce' | 'yieldCard' | 'addresses'> {
  home: Home
  libp2p: Node
  book: ListingBook<Card>
  /** Whether a peer of a swarm may be dialled: each connection costs battery and memory. */
  hasRoom(): boolean
  /**
   * Dials an address that the person gave; once that went well it is remembered, and dialled again whenever it is lost. Throws
   * Fault `wrong-address`, or as whyNot() says.
   */
  dial(address: string): Promise<void>
  /** Remembers it no more, and dials it no more by itself. */
  forget(address: string): void
  /** How the network stands now, and whenever that changes; gives a function that ends it. */
  watch(listener: (network: NetworkView) => void): () => void
}

/** Links are looked at this often; a new one may have no streams yet. */
const GONE_EVERY_MS = 1_000
const NEW_LINK_MS = 5_000
/** With this many nobody is let in. */
const CONNECTIONS_LIMIT = 11
/** With this many, dials under way among them, no peer of a swarm is dialled: eight links, a bootstrap and who seeds the model. */
const DIAL_ROOM = 10
/** One dial of what a person gave. */
const DIAL_LIMIT_MS = 15_000
/** Nobody answered for this long: we are offline until somebody does. */
const LOOKING_MS = 12_000
/** What connections tell is gathered for this long; round-trip times are looked at as often. */
const SOON_MS = 100
const LOOK_EVERY_MS = 2_000
/** A connection is pinged this often; libp2p's own pings are rarer than a person looks. */
const PING_EVERY_MS = 15_000
const PING_LIMIT_MS = 5_000

/** Addresses that are remembered of those a person gave. */
const JOINED_LIMIT = 32

/** Addresses to begin with: of a share link, and those that the page's own server names. */
export interface Beginnings {
  link: readonly string[]
  near: readonly string[]
}

/** Starts a node in a home and begins to join. */
export async function startHost(home: Home, { link, near }: Beginnings): Promise<Host> {
  /** What the person gave, on this visit or before, and what the page's server names: theirs to trust. */
  const given = parsed([...near, ...home.config.joined])
  /** What a link names, or is being tried: dialled itself, and no reason to dial private addresses that others name. */
  const named = parsed(link)
  const lookers = new Set<() => void>()
  const { libp2p, store } = await openStore({
    blockstore: home.blockstore,
    datastore: home.datastore,
    libp2p: libp2pDefaults({
      privateKey: home.peerKey,
      transports: transports(),
      listen: ['/p2p-circuit', ...(has('webrtc') ? ['/webrtc'] : [])],
      // Its own notes on peers, some seventy reads and writes before the first model: whom we met stands in `config`.
      datastore: new MemoryDatastore(),
      relay: false,
      gossip: true,
      maxConnections: CONNECTIONS_LIMIT,
      dialLocal: (address) =>
        mayDialLocal(location, given.values()) || isOneOf(address, named.values()),
      mayDial: (address) => mayDial(location, address),
    }),
  })
  const node = libp2p as unknown as Libp2p
  const introducers = rememberIntroducers(node)
  const book = await openBook(home)
  const presence = await keepPresence({
    libp2p: node,
    key: home.peerKey,
    book,
    join: new Map([...named, ...given]),
    remembered: home.config.peers.slice(0, DIALLED_AT_START),
  })
  const hangUp = ({ persisted }: PageTransitionEvent) => {
    if (persisted) return // it may come back
    for (const connection of node.getConnections()) connection.abort(new Error('the page is gone'))
  }
  addEventListener('pagehide', hangUp) // there is no time for more than that
  setInterval(() => dropGone(node), GONE_EVERY_MS)
  const change = (changed: Parameters<Home['changeConfig']>[0]) =>
    void home.changeConfig(changed).catch(() => undefined)
  const met = rememberMet(node, () =>
    change((config) => ({ ...config, peers: met.addresses(config.peers) })),
  )
  const remember = (address: string, first: string[]) => {
    change((config) => {
      const others = config.joined.filter((other) => other !== address)
      return { ...config, joined: [...first, ...others].slice(0, JOINED_LIMIT) }
    })
    for (const look of lookers) look()
  }
  return {
    home,
    libp2p: libp2p as unknown as Node,
    store,
    registry: presence.registry,
    book,
    join(addresses) {
      for (const [address, multiaddr] of parsed(addresses)) named.set(address, multiaddr)
      presence.join(addresses)
    },
    online: presence.online,
    announce: presence.announce,
    yieldCard: presence.yieldCard,
    addresses: presence.addresses,
    hasRoom: () => node.getConnections().length + node.getDialQueue().length < DIAL_ROOM,
    async dial(address) {
      const multiaddr = parseAddress(address)
      const isNamed = named.has(address)
      named.set(address, multiaddr)
      try {
        await node.dial(multiaddr, { signal: AbortSignal.timeout(DIAL_LIMIT_MS) })
      } catch (error) {
        throw whyNot(multiaddr, error, { page: location, limitMs: DIAL_LIMIT_MS })
      } finally {
        if (!isNamed) named.delete(address)
      }
      given.set(address, multiaddr)
      presence.join([address])
      remember(address, [address])
    },
    forget(address) {
      given.delete(address)
      presence.unjoin(address)
      remember(address, [])
    },
    watch(listener) {
      const watched = { ...presence, introducers, joined: () => home.config.joined, lookers }
      return watch(libp2p as unknown as Node, watched, listener)
    },
  }
}

/** What is no address is left out: a link or an older page said so, and what else there is may do. */
function parsed(addresses: readonly string[]): Map<string, Multiaddr> {
  const found = new Map<string, Multiaddr>()
  for (const address of addresses) {
    try {
      found.set(address, parseAddress(address))
    } catch {
      // Whoever named it hears of that where it was typed.
    }
  }
  return found
}

/**
 * Ends links to pages that are gone, which WebRTC calls failed only some 15 s later. Closing a page ends its data channels
 * and, unless that message is lost, the association under them. What lives has a stream for gossip at least; one that was
 * opened since waits for its protocol in vain.
 */
function dropGone(libp2p: Libp2p): void {
  for (const connection of libp2p.getConnections()) {
    if (connection.status !== 'open' || pathOf(connection) !== 'webrtc') continue
    const isNew = Date.now() - connection.timeline.open < NEW_LINK_MS
    const isUsed = connection.streams.some(({ protocol }) => protocol)
    if (sctpOf(connection)?.state === 'closed' || !(isUsed || isNew))
      connection.abort(new Error('the other page is gone'))
  }
}

/** libp2p does not tell of it, and does not show it either: undefined once it lies elsewhere. */
function sctpOf(connection: object): RTCSctpTransport | null | undefined {
  const { maConn } = connection as { maConn?: { peerConnection?: RTCPeerConnection } }
  return maConn?.peerConnection?.sctp
}

/** What a page dials by: without WebRTC, Node peers over WebSocket alone. */
export function transports(): TransportFactory[] {
  const rtcConfiguration = { iceServers: [] }
  const direct = [webRTCDirect({ rtcConfiguration }), webRTC({ rtcConfiguration })]
  return [
    webSockets(),
    ...(has('webrtc') ? direct : []),
    circuitRelayTransport(relayTransportLimits),
  ]
}

async function openBook(home: Home): Promise<ListingBook<Card>> {
  let isPending = true // until what was kept is back
  const book: ListingBook<Card> = createListingBook<Card>({
    readCard,
    changed() {
      if (isPending) return
      isPending = true
      queueMicrotask(() => {
        isPending = false
        void home.saveListings(book.snapshot()).catch(() => undefined)
      })
    },
  })
  const snapshot = await home.readListings().catch(() => undefined)
  if (snapshot) await book.restore(snapshot, Date.now()).catch(() => undefined)
  isPending = false
  return book
}

/** Who relays, as each says when it is met: only they can introduce a page to another. */
function rememberIntroducers(libp2p: Libp2p): ReadonlySet<string> {
  const introducers = new Set<string>()
  libp2p.addEventListener('peer:identify', ({ detail }) => {
    if (detail.protocols.includes(RELAY_V2_HOP_CODEC)) introducers.add(detail.peerId.toString())
  })
  return introducers
}

/** What a view is made of, beside the node. */
interface Watched extends Pick<Presence, 'registry' | 'addresses'> {
  introducers: ReadonlySet<string>
  joined: () => string[]
  /** Called when there is something new that no event of the node tells. */
  lookers: Set<() => void>
}

const events = [
  'connection:open',
  'connection:close',
  'peer:identify',
  'peer:update',
  'self:peer:update',
] as const

function watch(
  libp2p: Node,
  watched: Watched,
  listener: (network: NetworkView) => void,
): () => void {
  const startedAt = performance.now()
  const trips = newTrips(libp2p)
  let said = ''
  let timer: ReturnType<typeof setTimeout> | undefined
  const look = () => {
    timer = undefined
    const view = viewOf(libp2p, watched, trips, performance.now() - startedAt)
    const text = JSON.stringify(view)
    if (text === said) return
    said = text
    listener(view)
  }
  const soon = () => {
    timer ??= setTimeout(look, SOON_MS)
  }
  for (const event of events) libp2p.addEventListener(event, soon)
  watched.lookers.add(soon)
  addEventListener('online', soon)
  addEventListener('offline', soon)
  const repeat = setInterval(look, LOOK_EVERY_MS)
  look()
  return () => {
    for (const event of events) libp2p.removeEventListener(event, soon)
    watched.lookers.delete(soon)
    removeEventListener('online', soon)
    removeEventListener('offline', soon)
    clearInterval(repeat)
    clearTimeout(timer)
  }
}

/** Round-trip times by peer, asked now and then; those of tabs nobody looks at can wait. */
function newTrips(libp2p: Node): (peer: PeerId) => number | undefined {
  const trips = new Map<string, { askedAt: number; ms: number | undefined }>()
  return (peer) => {
    const now = performance.now()
    const trip = trips.get(peer.toString()) ?? { askedAt: Number.NEGATIVE_INFINITY, ms: undefined }
    trips.set(peer.toString(), trip)
    if (now - trip.askedAt < PING_EVERY_MS || document.hidden) return trip.ms
    trip.askedAt = now
    libp2p.services.ping.ping(peer, { signal: AbortSignal.timeout(PING_LIMIT_MS) }).then(
      (ms) => {
        trip.ms = ms
      },
      () => {}, // gone, or too busy to answer
    )
    return trip.ms
  }
}

function viewOf(
  libp2p: Node,
  watched: Watched,
  trips: ReturnType<typeof newTrips>,
  ageMs: number,
): NetworkView {
  const { registry, addresses, introducers } = watched
  const registries = new Set(registry.registries().map(String))
  const best = new Map<string, LinkedPeer>()
  for (const connection of libp2p.getConnections()) {
    if (connection.status !== 'open') continue
    const peer = connection.remotePeer.toString()
    const roles = [
      ...(introducers.has(peer) ? (['introduces'] as const) : []),
      ...(registries.has(peer) ? (['lists'] as const) : []),
    ]
    const row = { peer, path: pathOf(connection), rttMs: trips(connection.remotePeer), roles }
    const before = best.get(peer)
    if (!before || before.path === 'relay') best.set(peer, row)
  }
  const isLooking = ageMs < LOOKING_MS && navigator.onLine
  return {
    phase: best.size > 0 ? 'online' : isLooking ? 'looking' : 'offline',
    peer: libp2p.peerId.toString(),
    addresses: addresses(),
    joined: watched.joined(),
    registries: registries.size,
    introducers: [...best.keys()].filter((peer) => introducers.has(peer)).length,
    isOnline: navigator.onLine,
    peers: [...best.values()],
  }
}
