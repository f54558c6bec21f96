import type { Libp2p, PeerId } from '@libp2p/interface'
import { lpStream } from '@libp2p/utils'
import { Fault, invariant, type Rejection } from '../../errors.ts'
import { LISTING_BYTES_LIMIT } from '../../listing.ts'
import { directConnectionTo } from '../libp2p.ts'
import { within } from '../within.ts'
import {
  type CardLike,
  isCard,
  type ListingBook,
  type ListingQuery,
  markOf,
  PAGE_BYTES_LIMIT,
  PAGE_LIMIT,
  type ReadCard,
} from './book.ts'
import { cachedCheck, type FoundListings, Merge, messageOf, WrongAnswer } from './merge.ts'
import {
  decodeResponse,
  encode,
  FRAME_LIMIT,
  LISTING_PROTOCOL,
  MARKS_LIMIT,
  REQUEST_LIMIT_MS,
  type RegistryRequest,
  type RegistryResponse,
  type ResponseOf,
} from './wire.ts'

export interface RegistryClient<C extends CardLike> {
  /** The connected peers that answer the listing protocol: those named in `prefer` first. */
  registries(): PeerId[]
  /** Resolves when there is at least one; rejects with the signal's reason. */
  waitForRegistry(signal: AbortSignal): Promise<void>
  /**
   * One page of what all registries list together, checked and merged. Throws Fault `no-registry` when none answers.
   * With `ownerOf`, which reads the owner from a genesis' own manifest, listings of a genesis by a key that is not
   * its owner are dropped where two keys claim the same genesis.
   */
  list(query: ListingQuery, options?: ListOptions): Promise<FoundListings>
  /** Puts signed listings on every registry, and where one took them all into our own book. Throws Fault `no-registry` when none answers. */
  put(listings: Uint8Array | readonly Uint8Array[], options?: CallOptions): Promise<PutReport>
  /** Asks each registry which of these it lacks, and puts those. Never throws: what failed is tried next time. */
  replenish(listings: readonly Uint8Array[], options?: CallOptions): Promise<void>
  /** Who holds this version or trains in this swarm, checked, one card a peer, without our own; `answered` names who was asked and told. */
  cards(cid: string, options?: CallOptions): Promise<FoundCards<C>>
  /** Puts our own card on every registry and says how many took it. Never throws. */
  putCard(card: Uint8Array, options?: CallOptions): Promise<number>
  close(): void
}

export interface FoundCards<C> {
  cards: { card: C; bytes: Uint8Array }[]
  answered: string[]
}

export interface CallOptions {
  signal?: AbortSignal
}

export interface ListOptions extends CallOptions {
  ownerOf?: (genesis: string, signal?: AbortSignal) => Promise<string | undefined>
}

export interface PutReport {
  accepted: string[]
  refused: (Rejection & { registry: string })[]
}

export interface ClientOptions<C extends CardLike> {
  readCard: ReadCard<C>
  now?: () => number
  /** Peer ids to ask first: the ones the user named. */
  prefer?: () => readonly string[]
  /** Listings that were checked are put here too, so that this peer can answer when every bootstrap is gone. */
  book?: ListingBook<C>
  /** A registry came into reach: the moment to replenish it. */
  onRegistry?: (registry: PeerId) => void
}

/** Asking more than these adds traffic and no trust. */
const REGISTRIES_LIMIT = 8
/** A page of a merged list can start this far in: each registry is asked for everything before it too. */
const MERGE_LIMIT = 2_000
/** When one registry has answered, the others get this long. */
const GRACE_MS = 3_000
/** A registry that says `busy` is asked once more if it does not want us to wait longer. */
const BUSY_WAIT_LIMIT_MS = 5_000

/** A client of every connected registry. It watches who is in reach until closed. */
export async function registryClient<C extends CardLike>(
  libp2p: Libp2p,
  { readCard, now = Date.now, prefer = () => [], book, onRegistry = () => {} }: ClientOptions<C>,
): Promise<RegistryClient<C>> {
  const reach = await watchRegistries(libp2p, onRegistry)
  const registries = () => {
    const preferred = new Set(prefer())
    const rank = (peer: PeerId) => (preferred.has(peer.toString()) ? 0 : 1)
    return reach
      .peers()
      .sort((a, b) => rank(a) - rank(b))
      .slice(0, REGISTRIES_LIMIT)
  }
  const ask = <T extends RegistryResponse['type']>(
    peer: PeerId,
    request: RegistryRequest,
    expected: T,
    signal?: AbortSignal,
  ) => askRegistry(libp2p, peer, request, expected, signal)

  /** Asks every registry at once; when one is done the rest get GRACE_MS. */
  const askAll = async <R>(
    work: (peer: PeerId, signal: AbortSignal) => Promise<R>,
    signal?: AbortSignal,
  ) => {
    signal?.throwIfAborted()
    const late = new AbortController()
    const either = signal ? AbortSignal.any([signal, late.signal]) : late.signal
    let timer: ReturnType<typeof setTimeout> | undefined
    const settled = await Promise.all(
      registries().map(async (peer) => {
        try {
          const value = await work(peer, either)
          timer ??= setTimeout(
            () => late.abort(new Error(`no answer ${GRACE_MS} ms after the first`)),
            GRACE_MS,
          )
          return { registry: peer.toString(), value }
        } catch (error) {
          return { registry: peer.toString(), error }
        }
      }),
    )
    clearTimeout(timer)
    signal?.throwIfAborted()
    return settled
  }

  const putOn = async (peer: PeerId, listings: readonly Uint8Array[], signal: AbortSignal) => {
    const refusals: Rejection[] = []
    for (const batch of batches(listings)) {
      const { answers } = await ask(peer, { type: 'put', listings: batch }, 'put', signal)
      for (const place of batch.keys()) {
        const { type, message = '' } = answers[place] ?? { type: 'unanswered' }
        if (type !== 'stored' && type !== 'known') refusals.push({ type, message })
      }
    }
    return refusals
  }

  const replenishOne = async (
    peer: PeerId,
    listings: readonly Uint8Array[],
    signal: AbortSignal,
  ) => {
    for (let start = 0; start < listings.length; start += MARKS_LIMIT) {
      const some = listings.slice(start, start + MARKS_LIMIT)
      const { places } = await ask(
        peer,
        { type: 'lacks', marks: some.map(markOf) },
        'lacks',
        signal,
      )
      const lacking = places.map((place) => some[place]).filter((bytes) => bytes !== undefined)
      await putOn(peer, lacking, signal)
    }
  }

  return {
    registries,
    waitForRegistry: reach.wait,

    async list(query, { signal, ownerOf } = {}) {
      const end = Math.min((query.offset ?? 0) + (query.limit ?? PAGE_LIMIT), MERGE_LIMIT)
      const merge = new Merge(query)
      const check = cachedCheck(now())
      const told = await askAll((peer, late) => readPages(peer, query, end, ask, late), signal)
      for (const { registry, value, error } of told) {
        if (value === undefined) {
          merge.failed(registry, error)
          continue
        }
        merge.answered(registry, value.total)
        for (const bytes of value.listings) merge.add(registry, bytes, await check(bytes))
      }
      for (const entry of book?.search({ ...query, offset: 0, limit: PAGE_LIMIT }, now()).entries ??
        []) {
        merge.add(libp2p.peerId.toString(), entry.bytes, entry.listing)
      }
      if (ownerOf) await merge.settle((genesis) => ownerOf(genesis, signal))
      const found = merge.result(query.offset ?? 0, end)
      if (found.answered.length === 0 && found.listings.length === 0)
        throw noRegistry(found.unreachable)
      for (const { bytes } of found.listings) await book?.put(bytes, now())
      return found
    },

    async put(given, { signal } = {}) {
      const listings = given instanceof Uint8Array ? [given] : given
      const told = await askAll((peer, late) => putOn(peer, listings, late), signal)
      const report: PutReport = { accepted: [], refused: [] }
      const unreachable: FoundListings['unreachable'] = []
      for (const { registry, value, error } of told) {
        if (value === undefined) unreachable.push({ registry, message: messageOf(error) })
        else if (value.length === 0) report.accepted.push(registry)
        else report.refused.push(...value.map((reason) => ({ registry, ...reason })))
      }
      if (report.accepted.length + report.refused.length === 0) throw noRegistry(unreachable)
      // Ours last: a listing that nobody took would be passed on from here to whoever comes into reach.
      if (report.accepted.length > 0) for (const bytes of listings) await book?.put(bytes, now())
      return report
    },

    async replenish(listings, { signal } = {}) {
      if (signal?.aborted) return
      await askAll((peer, late) => replenishOne(peer, listings, late), signal).catch(() => {})
    },

    async cards(cid, { signal } = {}) {
      const newest = new Map<string, { card: C; bytes: Uint8Array }>()
      const take = async (bytes: Uint8Array) => {
        const card = await readCard(bytes, now())
        if (!isCard(card) || (card.genesis !== cid && card.version !== cid)) return
        if (card.peer === libp2p.peerId.toString()) return
        if ((newest.get(card.peer)?.card.sequence ?? -1) < card.sequence)
          newest.set(card.peer, { card, bytes })
      }
      const request: RegistryRequest = { type: 'cards', of: cid, limit: PAGE_LIMIT }
      const told = await askAll((peer, late) => ask(peer, request, 'cards', late), signal)
      for (const { value } of told) for (const bytes of value?.cards ?? []) await take(bytes)
      for (const { bytes } of book?.cards(cid, now()) ?? []) await take(bytes)
      const answered = told.filter(({ value }) => value).map(({ registry }) => registry)
      return { cards: [...newest.values()], answered }
    },

    async putCard(card, { signal } = {}) {
      if (signal?.aborted) return 0
      const told = await askAll(
        (peer, late) => ask(peer, { type: 'put-card', card }, 'put', late),
        signal,
      ).catch(() => [])
      return told.filter(({ value }) => ['stored', 'known'].includes(value?.answers[0]?.type ?? ''))
        .length
    },

    close: reach.close,
  }
}

type Ask = (
  peer: PeerId,
  request: RegistryRequest,
  expected: 'listings',
  signal?: AbortSignal,
) => Promise<ResponseOf<'listings'>>

/** The first `end` listings that a registry has for the query. Stops at its total, or at an empty page. */
async function readPages(
  peer: PeerId,
  query: ListingQuery,
  end: number,
  ask: Ask,
  signal: AbortSignal,
) {
  const listings: Uint8Array[] = []
  let total = end
  while (listings.length < Math.min(total, end)) {
    const limit = Math.min(PAGE_LIMIT, end - listings.length)
    const request: RegistryRequest = { type: 'list', ...query, offset: listings.length, limit }
    const page = await ask(peer, request, 'listings', signal)
    if (page.listings.length > limit)
      throw new WrongAnswer(`got ${page.listings.length} listings, asked for ${limit}`)
    total = page.total
    if (page.listings.length === 0) break
    listings.push(...page.listings)
  }
  return { listings, total }
}

/** One question to one registry, once more where it is busy for a moment. Throws what went wrong. */
export async function askRegistry<T extends RegistryResponse['type']>(
  libp2p: Libp2p,
  peer: PeerId,
  request: RegistryRequest,
  expected: T,
  outer?: AbortSignal,
): Promise<ResponseOf<T>> {
  return within(REQUEST_LIMIT_MS, outer, async (signal) => {
    const response = await exchange(libp2p, peer, request, signal)
    if (response?.type === expected) return response as ResponseOf<T>
    if (response?.type !== 'refused') throw new WrongAnswer(`got no answer to ${request.type}`)
    const { reason, message, retryAfterMs } = response
    if (reason !== 'busy' || retryAfterMs === undefined || retryAfterMs > BUSY_WAIT_LIMIT_MS)
      throw new Error(message)
    await pause(retryAfterMs, signal)
    return askRegistry(libp2p, peer, request, expected, signal)
  })
}

async function exchange(
  libp2p: Libp2p,
  peer: PeerId,
  request: RegistryRequest,
  signal: AbortSignal,
) {
  const connection = directConnectionTo(libp2p, peer) ?? libp2p.getConnections(peer)[0]
  if (!connection) throw new Error(`not connected to ${peer}`)
  const stream = await connection.newStream(LISTING_PROTOCOL, {
    signal,
    runOnLimitedConnection: true,
  })
  try {
    const frames = lpStream(stream, { maxDataLength: FRAME_LIMIT, maxBufferSize: 2 * FRAME_LIMIT })
    await frames.write(encode(request), { signal })
    const response = decodeResponse((await frames.read({ signal })).subarray())
    await stream.close({ signal })
    return response
  } catch (thrown) {
    stream.abort(thrown instanceof Error ? thrown : new Error(String(thrown)))
    throw thrown
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop)
      resolve()
    }, ms)
    signal.addEventListener('abort', stop, { once: true })
  })
}

/** Cuts listings into requests of a page's size. */
function batches(listings: readonly Uint8Array[]): Uint8Array[][] {
  const cut: Uint8Array[][] = []
  let sum = Number.POSITIVE_INFINITY
  for (const bytes of listings) {
    invariant(
      bytes.length <= LISTING_BYTES_LIMIT,
      `a listing has at most ${LISTING_BYTES_LIMIT} bytes`,
    )
    sum += bytes.length
    if (sum > PAGE_BYTES_LIMIT || cut.at(-1)!.length >= PAGE_LIMIT) {
      cut.push([])
      sum = bytes.length
    }
    cut.at(-1)!.push(bytes)
  }
  return cut
}

/** Keeps the set of connected peers that speak the protocol. */
async function watchRegistries(libp2p: Libp2p, onRegistry: (registry: PeerId) => void) {
  const known = new Map<string, PeerId>()
  const waiting = new Set<() => void>()
  const add = (peer: PeerId) => {
    const isNew = !known.has(peer.toString())
    known.set(peer.toString(), peer)
    for (const wake of waiting) wake()
    if (isNew) onRegistry(peer)
  }
  const id = await libp2p.register(LISTING_PROTOCOL, {
    notifyOnLimitedConnection: true,
    onConnect: add,
    onDisconnect: (peer) => void known.delete(peer.toString()),
  })
  for (const peer of libp2p.getPeers()) {
    const { protocols } = await libp2p.peerStore
      .get(peer)
      .catch(() => ({ protocols: [] as string[] }))
    if (protocols.includes(LISTING_PROTOCOL)) add(peer)
  }
  return {
    peers: () => [...known.values()],
    close: () => libp2p.unregister(id),
    wait(signal: AbortSignal): Promise<void> {
      if (known.size > 0) return Promise.resolve()
      return new Promise((resolve, reject) => {
        const finish = (end: () => void) => {
          waiting.delete(wake)
          signal.removeEventListener('abort', stop)
          end()
        }
        const wake = () => finish(resolve)
        const stop = () => finish(() => reject(signal.reason))
        if (signal.aborted) return reject(signal.reason)
        waiting.add(wake)
        signal.addEventListener('abort', stop)
      })
    },
  }
}

function noRegistry(unreachable: FoundListings['unreachable']): Fault {
  const tried = unreachable
    .map(({ registry, message }) => `${registry.slice(-8)}: ${message}`)
    .join('; ')
  return new Fault({
    kind: 'network',
    type: 'no-registry',
    message: tried
      ? `none of ${unreachable.length} registries answered (${tried})`
      : 'connected to no registry',
    hint: 'give the address of a running bootstrap or peer with --join',
    registries: unreachable.length,
  })
}
