/**
 * Presence: how a peer comes to be known and stays so, the same on every host. It dials the addresses it was told to join
 * and tries again, answers the listing protocol, asks those who answer it, and tells them which versions it serves.
 */
import type { IdentifyResult, Libp2p, PrivateKey } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { Fault } from '../errors.ts'
import { CARD_LIFETIME_MS, type Card, readCard, signCard } from '../message.ts'
import { parseAddress } from './libp2p.ts'
import {
  LISTING_PROTOCOL,
  type ListingBook,
  type RegistryClient,
  registryClient,
  serveRegistry,
} from './registry.ts'

export interface Presence {
  registry: RegistryClient<Card>
  /** What we were told to join, by the text that was given. */
  joins: ReadonlyMap<string, Multiaddr>
  /** Dials more addresses that the user gave, and keeps trying. Throws Fault `wrong-address`. */
  join(addresses: readonly string[]): void
  /** Dials an address no more by itself; a connection that there is stays. */
  unjoin(address: string): void
  /**
   * Resolves when at least one peer that answers the listing protocol is connected. Throws Fault `no-network` after
   * `timeoutMs`, and at once when there is nobody to wait for.
   */
  online(timeoutMs: number, signal?: AbortSignal): Promise<void>
  /** Tells registries, now and until closed, that this peer holds a version and serves it. */
  announce(version: HeldVersion): Promise<void>
  /** Says no more of a model: a peer has one card in a swarm, and now its training writes it. */
  yieldCard(genesis: string): void
  /** Where others reach this peer, the best first. */
  addresses(): string[]
  /** Says goodbye to registries and stops; the node stays as it is. */
  close(): Promise<void>
}

/** A version and the swarm it belongs to. */
export interface HeldVersion {
  cid: string
  genesis: string
}

export interface PresenceOptions {
  libp2p: Libp2p
  key: PrivateKey
  book: ListingBook<Card>
  /** Addresses the user gave. Read by parseAddress. */
  join: ReadonlyMap<string, Multiaddr>
  /** Peers met earlier that are dialled once, at the start. */
  remembered: readonly string[]
}

/** One dial of one address. */
const DIAL_LIMIT_MS = 10_000
/** Those we were told to join are dialled again this often while they are not connected, and sooner than that at first. */
const REDIAL_EVERY_MS = 15_000
const REDIAL_AFTER_MS = [1_000, 3_000, 7_000]
/** A card is renewed well before it expires. */
const CARD_EVERY_MS = CARD_LIFETIME_MS / 3
/** A card's addresses, and their bytes together: with the rest it must stay under 4 KiB. */
const CARD_ADDRESSES = 12
const CARD_RELAYED = 3
const CARD_ADDRESS_LENGTH = 512
const CARD_ADDRESS_BYTES = 2_800
/** Closing: a last word to registries, and streams that finish. */
const GOODBYE_LIMIT_MS = 2_000

/** Begins to dial, to serve and to announce over a started node. */
export async function keepPresence(options: PresenceOptions): Promise<Presence> {
  const { libp2p, key, book, remembered } = options
  const joins = new Map(options.join)
  const closing = new AbortController()
  const closers: (() => unknown)[] = []
  const dial = (address: Multiaddr) => {
    const limit = AbortSignal.any([AbortSignal.timeout(DIAL_LIMIT_MS), closing.signal])
    return libp2p.dial(address, { signal: limit }).then(
      () => undefined,
      () => undefined,
    )
  }
  const close = async () => {
    closing.abort(new Error('the host is closing'))
    for (const closer of closers) await Promise.resolve(closer()).catch(() => undefined)
  }
  try {
    const server = await serveRegistry(libp2p, book)
    closers.unshift(() => server.close())
    const cards = announcer(libp2p, key, book, (card, late) =>
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
    const registry = await registryClient<Card>(libp2p, {
      readCard,
      book,
      prefer: preferred,
      onRegistry: () => void onRegistry(),
    })
    asking.resolve(registry)
    closers.unshift(() => registry.close())

    const redial = () => {
      for (const address of joins.values()) if (!isConnected(libp2p, address)) void dial(address)
    }
    const soon = new Set<ReturnType<typeof setTimeout>>()
    const dialAll = () => {
      redial()
      for (const ms of REDIAL_AFTER_MS) soon.add(setTimeout(redial, ms))
    }
    closers.unshift(() => soon.forEach(clearTimeout))
    const timers = [
      setInterval(redial, REDIAL_EVERY_MS),
      setInterval(() => cards.renew(closing.signal), CARD_EVERY_MS),
    ]
    closers.unshift(() => timers.forEach(clearInterval))
    dialAll()
    for (const address of remembered) void dial(parseAddress(address))
    return {
      registry,
      joins,
      join(addresses) {
        for (const address of addresses) joins.set(address, parseAddress(address))
        dialAll()
      },
      unjoin: (address) => void joins.delete(address),
      online: (timeoutMs, outer) => {
        const tried = [...joins.keys(), ...remembered]
        const isAlone = tried.length === 0 && libp2p.getConnections().length === 0
        return untilOnline(registry, tried, isAlone ? 0 : timeoutMs, outer)
      },
      announce: (version) => cards.announce(version, closing.signal),
      yieldCard: cards.forget,
      addresses: () => cardAddresses(libp2p),
      async close() {
        await cards.leave(AbortSignal.timeout(GOODBYE_LIMIT_MS))
        await close()
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Registries are asked for cards, and given ours, within this. */
const INTRODUCTION_MS = 8_000

/** What a swarm is introduced by: the registries in reach, and our own book, which answers those who ask us. */
export function introductionsOf({
  registry,
  book,
}: {
  registry: RegistryClient<Card>
  book: ListingBook<Card>
}) {
  const limit = () => ({ signal: AbortSignal.timeout(INTRODUCTION_MS) })
  return {
    cards: (genesis: string) => registry.cards(genesis, limit()),
    putCard: (bytes: Uint8Array) => registry.putCard(bytes, limit()),
    keepCard: (bytes: Uint8Array) => book.putCard(bytes, Date.now()),
    reachable: () => registry.registries().length,
  }
}

/** Peers remembered for a start with no bootstrap, and addresses of each. */
const REMEMBERED_PEERS = 32
const ADDRESSES_OF_A_PEER = 3
/** Peers met last time that are dialled at the start. */
export const DIALLED_AT_START = 8

export interface Met {
  /** Addresses of those we met, then of `before`, the last met first. */
  addresses(before: readonly string[]): string[]
  close(): void
}

/** Remembers who answers the listing protocol and how we can dial them again; `changed` tells when there is news. */
export function rememberMet(libp2p: Libp2p, changed: () => void = () => {}): Met {
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
    changed()
  }
  libp2p.addEventListener('peer:identify', onIdentify)
  return {
    addresses(before) {
      const now = [...met.values()].toReversed().flat()
      return [...new Set([...now, ...before])].slice(0, REMEMBERED_PEERS * ADDRESSES_OF_A_PEER)
    },
    close: () => libp2p.removeEventListener('peer:identify', onIdentify),
  }
}

/** Addresses that a person named, now or before, the last first. */
export function joinedOf(joins: ReadonlyMap<string, unknown>, before: readonly string[]): string[] {
  return [...new Set([...joins.keys(), ...before])].slice(0, REMEMBERED_PEERS)
}

/** Signs and spreads the cards that say which versions this peer serves. */
function announcer(
  libp2p: Libp2p,
  key: PrivateKey,
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
    const signed = await signCard(card, key)
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
    forget: (genesis: string) => void held.delete(genesis),
    renew: (signal: AbortSignal) => tellAll('seeding', signal),
    leave: (signal: AbortSignal) => tellAll('leaving', signal),
  }
}

function nobodyAnswered(tried: readonly string[], seconds: number): string {
  if (tried.length === 0)
    return 'no address to join through is known, expected one of a bootstrap or a peer'
  if (tried.length === 1) return `${tried[0]} did not answer in ${seconds} s`
  return `none of ${tried.length} known addresses answered in ${seconds} s`
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
        message: nobodyAnswered(tried, seconds),
        hint: 'give --join with the address that a bootstrap or a peer prints when it starts, and check that it runs',
        tried,
        waitedMs: timeoutMs,
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

export function isLoopback(address: string): boolean {
  return /^\/(ip4\/127\.|ip6\/::1\/|memory\/)/.test(address)
}

export function isDialable(address: Multiaddr): boolean {
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

export function withoutPeer(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/[^/]+$/, '')
}

export function withPeer(address: Multiaddr, peer: string): string {
  return `${withoutPeer(address)}/p2p/${peer}`
}

let sequence = 0

/** Rises with every card of this process, and over restarts as clocks do. */
function nextSequence(): number {
  sequence = Math.max(sequence + 1, Date.now())
  return sequence
}
