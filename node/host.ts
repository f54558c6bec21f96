/**
 * Host: one libp2p node for gossip, swaps and Helia, in a home. It listens on TCP, WebSocket and WebRTC, relays
 * signalling, answers the listing protocol and remembers whom it met, so any such peer replaces a dead bootstrap.
 */
import type { Helia } from '@helia/interface'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import type { IdentifyResult, Libp2p } from '@libp2p/interface'
import { keychain } from '@libp2p/keychain'
import { tcp } from '@libp2p/tcp'
import { webRTC, webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import type { Multiaddr } from '@multiformats/multiaddr'
import { cleanup } from 'node-datachannel'
import { Fault } from '../protocol/errors.ts'
import { CARD_LIFETIME_MS, type Card, readCard, signCard } from '../protocol/message.ts'
import {
  isLocal,
  libp2pDefaults,
  type Node,
  parseAddress,
  relayTransportLimits,
  requireListening,
  type TransportFactory,
} from '../protocol/ports/libp2p.ts'
import {
  createListingBook,
  LISTING_PROTOCOL,
  type ListingBook,
  type RegistryClient,
  registryClient,
  serveRegistry,
} from '../protocol/ports/registry.ts'
import { openStore, type Store } from '../protocol/ports/store.ts'
import type { Home } from './home.ts'
import { listenOn, portsOf } from './listen.ts'

export interface Host {
  home: Home
  libp2p: Node
  helia: Helia
  store: Store
  registry: RegistryClient<Card>
  book: ListingBook<Card>
  /**
   * Dials addresses that the user gave (a share link's, say) beside --join's, and keeps trying; local ones may be
   * dialled from now on. Throws Fault `wrong-address`.
   */
  join(addresses: readonly string[]): void
  /**
   * Resolves when at least one peer that answers the listing protocol is connected. Throws Fault `no-network` after
   * `timeoutMs`, and at once when there is nobody to wait for.
   */
  online(timeoutMs: number, signal?: AbortSignal): Promise<void>
  /** Tells registries, now and until closed, that this peer holds a version and serves it. */
  announce(version: HeldVersion): Promise<void>
  /** Where others reach this peer, the best first. */
  addresses(): string[]
  /** Idempotent: remembers whom it met, leaves, and closes the home. */
  close(): Promise<void>
}

/** A version and the swarm it belongs to. */
export interface HeldVersion {
  cid: string
  genesis: string
}

export interface HostOptions {
  home: Home
  join: readonly string[]
  /** Default: every interface, any free port, on TCP, WebSocket and webrtc-direct. */
  listen?: readonly string[]
  /** Addresses to tell others besides those, when a router stands before us. */
  announce?: readonly string[]
  signal?: AbortSignal
}

/** One dial of one address. */
const DIAL_LIMIT_MS = 10_000
/** Those we were told to join are dialled again this often while they are not connected. */
const REDIAL_EVERY_MS = 15_000
/** Peers remembered for a start with no bootstrap, and addresses of each. */
const REMEMBERED_PEERS = 32
const ADDRESSES_OF_A_PEER = 3
/** Peers met last time that are dialled at the start. */
const DIALLED_AT_START = 8
/** A card is renewed well before it expires. */
const CARD_EVERY_MS = CARD_LIFETIME_MS / 3
/** A card's addresses, and their bytes together: with the rest it must stay under 4 KiB. */
const CARD_ADDRESSES = 12
const CARD_RELAYED = 3
const CARD_ADDRESS_LENGTH = 512
const CARD_ADDRESS_BYTES = 2_800
/** Closing: a last word to registries, and streams that finish. */
const GOODBYE_LIMIT_MS = 2_000
/** Starts a node in a home and begins to join; closing it closes the home, and so does failing to start. */
export async function startHost(options: HostOptions): Promise<Host> {
  try {
    return await startNode(options)
  } catch (error) {
    await options.home.close()
    throw error
  }
}

async function startNode(options: HostOptions): Promise<Host> {
  const { home, signal } = options
  const joins = new Map<string, Multiaddr>()
  for (const address of options.join) joins.set(address, parseAddress(address))
  const remembered = home.config.peers.slice(0, DIALLED_AT_START)
  const {
    libp2p,
    helia,
    store,
    close: closeStore,
  } = await openNode(options, () => [...joins.values(), ...remembered].some(isLocal))
  nodesOpen++
  const node = libp2p as unknown as Node
  const plain = libp2p as unknown as Libp2p
  const closers: (() => unknown)[] = []
  const closing = new AbortController()
  const dial = (addresses: Multiaddr | Multiaddr[]) => {
    const limit = AbortSignal.any([AbortSignal.timeout(DIAL_LIMIT_MS), closing.signal])
    return plain.dial(addresses, { signal: limit }).then(
      () => undefined,
      () => undefined,
    )
  }
  try {
    signal?.throwIfAborted()
    const book = await openBook(home, closers)
    const server = await serveRegistry(plain, book)
    closers.unshift(() => server.close())
    const cards = announcer(plain, home, book, (card, late) =>
      registry.putCard(card, { signal: late }),
    )
    // A registry may come into reach while the client is still being made.
    const asking = Promise.withResolvers<RegistryClient<Card>>()
    const onRegistry = async () => {
      const client = await asking.promise
      await client
        .replenish(book.all(Date.now()), { signal: closing.signal })
        .catch(() => undefined)
      await cards.renew(closing.signal)
    }
    const preferred = () => [...joins.values()].map(peerOf).filter((peer) => peer !== undefined)
    const registry = await registryClient<Card>(plain, {
      readCard,
      book,
      prefer: preferred,
      onRegistry: () => void onRegistry(),
    })
    asking.resolve(registry)
    closers.unshift(() => registry.close())
    const memory = rememberPeers(plain, home, joins, options.listen === undefined)
    closers.unshift(memory.save)

    const redial = () => {
      for (const address of joins.values()) if (!isConnected(plain, address)) void dial(address)
    }
    const timers = [
      setInterval(redial, REDIAL_EVERY_MS),
      setInterval(() => cards.renew(closing.signal), CARD_EVERY_MS),
    ]
    closers.unshift(() => timers.forEach(clearInterval))
    redial()
    for (const address of remembered) void dial(parseAddress(address))

    let closed: Promise<void> | undefined
    const host: Host = {
      home,
      libp2p: node,
      helia,
      store,
      registry,
      book,
      join(addresses) {
        for (const address of addresses) joins.set(address, parseAddress(address))
        redial()
      },
      online: (timeoutMs, outer) => {
        const tried = [...joins.keys(), ...remembered]
        const isAlone = tried.length === 0 && plain.getConnections().length === 0
        return untilOnline(registry, tried, isAlone ? 0 : timeoutMs, outer)
      },
      announce: (version) => cards.announce(version, closing.signal),
      addresses: () => cardAddresses(plain),
      close() {
        closed ??= closeAll()
        return closed
      },
    }
    const closeAll = async () => {
      await cards.leave(AbortSignal.timeout(GOODBYE_LIMIT_MS))
      closing.abort(new Error('the host is closing'))
      for (const closer of closers) await Promise.resolve(closer()).catch(() => undefined)
      await closeNode(closeStore, home)
    }
    return host
  } catch (error) {
    closing.abort(error)
    for (const closer of closers) await Promise.resolve(closer()).catch(() => undefined)
    await closeNode(closeStore, home)
    throw error
  }
}

/** Throws Fault `port-in-use` for a port that was asked for. */
async function openNode(
  { home, announce = [], listen: asked }: HostOptions,
  joinedLocal: () => boolean,
) {
  const listen = await listenOn(asked, home.config.listen)
  const opened = await openStore({
    blockstore: home.blockstore,
    datastore: home.datastore,
    libp2p: withKeychain(
      libp2pDefaults({
        privateKey: home.peerKey,
        transports: transports(),
        listen,
        announce: [...announce],
        datastore: home.datastore,
        relay: true,
        gossip: true,
        dialLocal: () => joinedLocal() || listen.some(isLoopback),
      }),
    ),
  })
  try {
    requireListening(opened.libp2p as unknown as Libp2p, listen, announce)
    return opened
  } catch (error) {
    // What did not open may not close either; the reason is what counts.
    await opened.close().catch(() => undefined)
    throw error
  }
}

/** Nodes of this process that may use WebRTC. */
let nodesOpen = 0

/** A process that used WebRTC does not exit before node-datachannel's own clean-up, which ends it for all nodes. */
async function closeNode(closeStore: () => Promise<void>, home: Home): Promise<void> {
  await closeStore().catch(() => undefined)
  await home.close()
  nodesOpen--
  if (nodesOpen === 0) cleanup()
}

function transports(): TransportFactory[] {
  const rtcConfiguration = { iceServers: [] }
  return [
    tcp(),
    webSockets(),
    webRTCDirect({ rtcConfiguration }),
    webRTC({ rtcConfiguration }),
    circuitRelayTransport(relayTransportLimits),
  ]
}

/** webrtc-direct keeps its certificate's key there: without one its address would change at every start. */
function withKeychain<O extends { services?: object }>(options: O): O {
  return { ...options, services: { ...options.services, keychain: keychain() } }
}

/** Signs and spreads the cards that say which versions this peer serves. */
function announcer(
  libp2p: Libp2p,
  home: Home,
  book: ListingBook<Card>,
  put: (card: Uint8Array, signal: AbortSignal) => Promise<unknown>,
) {
  const held = new Map<string, HeldVersion>()
  const tell = async ({ cid, genesis }: HeldVersion, phase: Card['phase'], signal: AbortSignal) => {
    const now = Date.now()
    const card: Card = {
      peer: libp2p.peerId.toString(),
      genesis,
      version: cid,
      phase,
      round: 0,
      steps: 0,
      codecs: [],
      addresses: cardAddresses(libp2p),
      load: 0,
      sequence: nextSequence(),
      expiresAt: now + CARD_LIFETIME_MS,
    }
    const signed = await signCard(card, home.peerKey)
    await book.putCard(signed, now)
    await put(signed, signal)
  }
  /** What one registry or all of them miss now, they hear at the next turn. */
  const tellAll = async (phase: Card['phase'], signal: AbortSignal) => {
    await Promise.allSettled([...held.values()].map((version) => tell(version, phase, signal)))
  }
  return {
    async announce(version: HeldVersion, signal: AbortSignal) {
      held.set(version.genesis, version)
      await tell(version, 'seeding', signal)
    },
    renew: (signal: AbortSignal) => tellAll('seeding', signal),
    leave: (signal: AbortSignal) => tellAll('leaving', signal),
  }
}

async function openBook(home: Home, closers: (() => unknown)[]): Promise<ListingBook<Card>> {
  let isPending = false
  let restored = false
  // Many changes in one turn make one write.
  const save = async () => {
    if (isPending) return
    isPending = true
    await Promise.resolve()
    isPending = false
    await home.saveListings(book.snapshot()).catch(() => undefined)
  }
  const book: ListingBook<Card> = createListingBook<Card>({
    readCard,
    changed: () => restored && void save(),
  })
  const snapshot = await home.readListings()
  if (snapshot !== undefined) await book.restore(snapshot, Date.now()).catch(() => undefined)
  restored = true
  closers.push(() => home.saveListings(book.snapshot()))
  return book
}

/** Whom we met and can dial again, the last met first; those we were told to join are kept in any case. */
function rememberPeers(
  libp2p: Libp2p,
  home: Home,
  joins: ReadonlyMap<string, Multiaddr>,
  isOwnChoice: boolean,
) {
  const found = libp2p
    .getMultiaddrs()
    .map((address) => withoutPeer(address).replace(/\/certhash\/.*$/, ''))
  const listen = isOwnChoice ? portsOf(found) : home.config.listen
  const met = new Map<string, string[]>()
  const onIdentify = ({ detail }: CustomEvent<IdentifyResult>) => {
    if (!detail.protocols.includes(LISTING_PROTOCOL)) return
    const peer = detail.peerId.toString()
    const dialled = detail.connection.direction === 'outbound' ? [detail.connection.remoteAddr] : []
    const addresses = [...dialled, ...detail.listenAddrs.filter(isDialable)].map((address) =>
      withPeer(address, peer),
    )
    met.delete(peer)
    met.set(peer, [...new Set(addresses)].slice(0, ADDRESSES_OF_A_PEER))
    if (met.size > REMEMBERED_PEERS) met.delete(met.keys().next().value!)
  }
  libp2p.addEventListener('peer:identify', onIdentify)
  return {
    save: async () => {
      libp2p.removeEventListener('peer:identify', onIdentify)
      const now = [...met.values()].toReversed().flat()
      const most = REMEMBERED_PEERS * ADDRESSES_OF_A_PEER
      const peers = [...new Set([...now, ...home.config.peers])].slice(0, most)
      const joined = [...new Set([...joins.keys(), ...home.config.joined])].slice(
        0,
        REMEMBERED_PEERS,
      )
      await home.saveConfig({ ...home.config, peers, joined, listen })
    },
  }
}

async function untilOnline(
  registry: RegistryClient<Card>,
  tried: string[],
  timeoutMs: number,
  outer?: AbortSignal,
): Promise<void> {
  const limit = AbortSignal.timeout(timeoutMs)
  try {
    await registry.waitForRegistry(
      AbortSignal.any([limit, ...(outer === undefined ? [] : [outer])]),
    )
  } catch (error) {
    outer?.throwIfAborted()
    const seconds = Math.round(timeoutMs / 1_000)
    throw new Fault(
      {
        kind: 'network',
        type: 'no-network',
        message:
          tried.length === 0
            ? 'no address to join through is known, expected one of a bootstrap or a peer'
            : `none of ${tried.length} known addresses answered in ${seconds} s`,
        hint: 'give --join with the address that a bootstrap or a peer prints when it starts, and check that it runs',
        tried,
      },
      error,
    )
  }
}

/** Direct addresses first, then ways through a relay, loopback last; as many as a card of 4 KiB holds. */
function cardAddresses(libp2p: Libp2p): string[] {
  const all = libp2p.getMultiaddrs().toSorted((a, b) => rankOf(a) - rankOf(b))
  const relayed = all.filter(isIntroduced).slice(0, CARD_RELAYED)
  let bytes = 0
  return all
    .filter((address) => relayed.includes(address) || isDialable(address))
    .map((address) => address.toString())
    .filter((address, i) => {
      bytes += address.length
      return (
        i < CARD_ADDRESSES && address.length <= CARD_ADDRESS_LENGTH && bytes <= CARD_ADDRESS_BYTES
      )
    })
}

function rankOf(address: Multiaddr): number {
  const names = address.getComponents().map(({ name }) => name)
  const path = ['webrtc-direct', 'ws', 'tcp'].findLastIndex((name) => names.includes(name))
  return (
    (isLoopback(address.toString()) ? 10 : 0) + (names.includes('p2p-circuit') ? 5 : 0) + (2 - path)
  )
}

/** WebRTC that a relay introduces; a relayed connection alone carries no params. */
function isIntroduced(address: Multiaddr): boolean {
  return address.getComponents().some(({ name }) => name === 'webrtc')
}

function isLoopback(address: string): boolean {
  return /^\/(ip4\/127\.|ip6\/::1\/|memory\/)/.test(address)
}

function isDialable(address: Multiaddr): boolean {
  return !address.getComponents().some(({ name }) => name === 'p2p-circuit' || name === 'webrtc')
}

function isConnected(libp2p: Libp2p, address: Multiaddr): boolean {
  const peer = peerOf(address)
  const place = withoutPeer(address)
  return libp2p
    .getConnections()
    .some(({ remotePeer, remoteAddr }) =>
      peer === undefined ? withoutPeer(remoteAddr) === place : remotePeer.toString() === peer,
    )
}

function peerOf(address: Multiaddr): string | undefined {
  return address.getComponents().findLast(({ name }) => name === 'p2p')?.value
}

function withoutPeer(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/[^/]+$/, '')
}

function withPeer(address: Multiaddr, peer: string): string {
  return `${withoutPeer(address)}/p2p/${peer}`
}

let sequence = 0

/** Rises with every card of this process, and over restarts as clocks do. */
function nextSequence(): number {
  sequence = Math.max(sequence + 1, Date.now())
  return sequence
}
