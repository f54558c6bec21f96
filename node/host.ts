/**
 * Host: one libp2p node for gossip, swaps and Helia, in a home. It listens on TCP, WebSocket and WebRTC, relays
 * signalling, answers the listing protocol and remembers whom it met, so any such peer replaces a dead bootstrap.
 */
import type { Helia } from '@helia/interface'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import type { Libp2p } from '@libp2p/interface'
import { keychain } from '@libp2p/keychain'
import { tcp } from '@libp2p/tcp'
import { webRTC, webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import type { Multiaddr } from '@multiformats/multiaddr'
import { cleanup } from 'node-datachannel'
import { type Card, readCard } from '../protocol/message.ts'
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
  DIALLED_AT_START,
  type HeldVersion,
  isLoopback,
  joinedOf,
  keepPresence,
  rememberMet,
  withoutPeer,
} from '../protocol/ports/presence.ts'
import {
  createListingBook,
  type ListingBook,
  type RegistryClient,
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
  /** Addresses that the user gave, by the text that was given. */
  joins: ReadonlyMap<string, Multiaddr>
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

export interface HostOptions {
  home: Home
  join: readonly string[]
  /** Default: every interface, any free port, on TCP, WebSocket and webrtc-direct. */
  listen?: readonly string[]
  /** Addresses to tell others besides those, when a router stands before us. */
  announce?: readonly string[]
  signal?: AbortSignal
}

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
  let told: ReadonlyMap<string, Multiaddr> = joins
  const remembered = home.config.peers.slice(0, DIALLED_AT_START)
  const {
    libp2p,
    helia,
    store,
    close: closeStore,
  } = await openNode(options, () => [...told.values(), ...remembered].some(isLocal))
  nodesOpen++
  const node = libp2p as unknown as Node
  const plain = libp2p as unknown as Libp2p
  const closers: (() => unknown)[] = []
  const closeAll = async () => {
    for (const closer of closers) await Promise.resolve(closer()).catch(() => undefined)
    await closeNode(closeStore, home)
  }
  try {
    signal?.throwIfAborted()
    const book = await openBook(home, closers)
    const presence = await keepPresence({
      libp2p: plain,
      key: home.peerKey,
      book,
      join: joins,
      remembered,
    })
    closers.unshift(presence.close)
    const memory = rememberPeers(plain, home, presence.joins, options.listen === undefined)
    closers.unshift(memory.save)
    told = presence.joins

    let closed: Promise<void> | undefined
    return {
      home,
      libp2p: node,
      helia,
      store,
      registry: presence.registry,
      book,
      joins: presence.joins,
      join: presence.join,
      online: presence.online,
      announce: presence.announce,
      addresses: presence.addresses,
      close() {
        closed ??= closeAll()
        return closed
      },
    }
  } catch (error) {
    await closeAll()
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
  const met = rememberMet(libp2p)
  return {
    save: async () => {
      met.close()
      const peers = met.addresses(home.config.peers)
      const joined = joinedOf(joins, home.config.joined)
      await home.saveConfig({ ...home.config, peers, joined, listen })
    },
  }
}
