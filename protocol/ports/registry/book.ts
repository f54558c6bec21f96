import * as dagCbor from '@ipld/dag-cbor'
import { equals, toString } from 'uint8arrays'
import * as v from 'valibot'
import type { Rejection } from '../../errors.ts'
import { isListing, type Listing, readListing } from '../../listing.ts'

/**
 * What a registry remembers: listings until they expire, and for some minutes the cards of those who hold a version.
 *
 * Everything in a book was checked when it came in and is handed out as the signed bytes it came as. A book keeps one
 * listing for each pair of genesis and owner: what another key says about a genesis never replaces the owner's word.
 * Which of two owners a genesis has is not for the book to say; its manifest does.
 */
export interface ListingBook<C extends CardLike = CardLike> {
  /** Takes a listing that is new or has a higher sequence than the one it replaces. */
  put(bytes: Uint8Array, now: number): Promise<PutAnswer>
  /** One page of what fits the query, in the order of compareListings(). */
  search(query: ListingQuery, now: number): Page
  /** Whether the book has exactly the listing with this mark. */
  has(mark: Uint8Array): boolean
  /** The signed bytes of every listing: what a peer passes on to a registry that lacks them. */
  all(now: number): Uint8Array[]
  /** Takes a card; `from`, when given, must be the card's own peer. */
  putCard(bytes: Uint8Array, now: number, from?: string): Promise<PutAnswer>
  /** Cards of peers that hold this version or train in this swarm, some of them when there are many. */
  cards(cid: string, now: number, limit?: number): { card: C; bytes: Uint8Array }[]
  /** A peer that was connected is gone: its cards go too, where they name no way to it but through a relay. */
  left(peer: string): void
  counts(): { listings: number; cards: number }
  /** All listings as bytes for restore(). */
  snapshot(): Uint8Array
  /** Puts the listings of a snapshot back; what is broken or expired by now is left out and counted. */
  restore(snapshot: Uint8Array, now: number): Promise<{ restored: number; dropped: number }>
}

/** What a registry reads of a card; message.ts has the rest. */
export interface CardLike {
  peer: string
  genesis: string
  version: string
  addresses: readonly string[]
  sequence: number
  expiresAt: number
}

export type ReadCard<C extends CardLike> = (
  bytes: Uint8Array,
  now: number,
) => Promise<C | Rejection>

export type PutAnswer = { type: 'stored' } | { type: 'known' } | Rejection

/** Fields that are given must all fit. */
export interface ListingQuery {
  /** Words that must all occur in name, title, task, tags or labels. */
  query?: string
  name?: string
  task?: string
  tag?: string
  label?: string
  genesis?: string
  owner?: string
  offset?: number
  limit?: number
}

export interface Page {
  /** How many fit the query in all. */
  total: number
  entries: Entry[]
}

export interface Entry {
  listing: Listing
  bytes: Uint8Array
}

export interface BookOptions<C extends CardLike> {
  readCard: ReadCard<C>
  /** Which cards to hand out when there are too many. */
  random?: () => number
  /** Called after each change of the listings, to save a snapshot. */
  changed?: () => void
}

/** A page's most entries, and most bytes: several pages must pass a relay that carries 128 KiB. */
export const PAGE_LIMIT = 50
export const PAGE_BYTES_LIMIT = 48 * 1024
const LISTINGS_LIMIT = 20_000
const LISTINGS_BYTES_LIMIT = 32 * 1024 * 1024
const CARDS_LIMIT = 4_000
/** What is expired is swept out at most this often. */
const SWEEP_EVERY_MS = 60_000

const snapshotSchema = v.object({
  snapshot: v.literal(1),
  listings: v.array(v.instance(Uint8Array)),
})

export function createListingBook<C extends CardLike>(options: BookOptions<C>): ListingBook<C> {
  const { readCard, random = Math.random, changed = () => {} } = options
  const listings = new Map<string, Entry & { words: string }>()
  const marks = new Set<string>()
  const cards = new Map<string, { card: C; bytes: Uint8Array }>()
  let listingsBytes = 0
  let sweptAt = 0

  const drop = (key: string) => {
    const entry = listings.get(key)
    if (!entry) return
    listingsBytes -= entry.bytes.length
    marks.delete(nameOf(markOf(entry.bytes)))
    listings.delete(key)
  }
  const sweep = (now: number) => {
    if (Math.abs(now - sweptAt) < SWEEP_EVERY_MS) return
    sweptAt = now
    for (const [key, { listing }] of listings) if (listing.expiresAt <= now) drop(key)
    for (const [key, { card }] of cards) if (card.expiresAt <= now) cards.delete(key)
  }
  const keep = (entry: Entry): PutAnswer => {
    const key = keyOf(entry.listing)
    const before = listings.get(key)
    if (before && equals(before.bytes, entry.bytes)) return { type: 'known' }
    if (before && before.listing.sequence >= entry.listing.sequence)
      return outdated(before.listing, entry.listing)
    const size = listingsBytes - (before?.bytes.length ?? 0) + entry.bytes.length
    if (!before && (listings.size >= LISTINGS_LIMIT || size > LISTINGS_BYTES_LIMIT))
      return full(listings.size)
    drop(key)
    listings.set(key, { ...entry, words: wordsOf(entry.listing) })
    marks.add(nameOf(markOf(entry.bytes)))
    listingsBytes += entry.bytes.length
    changed()
    return { type: 'stored' }
  }

  return {
    async put(bytes, now) {
      sweep(now)
      const listing = await readListing(bytes, now)
      return isListing(listing) ? keep({ listing, bytes }) : listing
    },

    search(query, now) {
      sweep(now)
      const fitting = [...listings.values()]
        .filter(({ listing, words }) => listing.expiresAt > now && fits(listing, query, words))
        .sort((a, b) => compareListings(a.listing, b.listing))
      const start = query.offset ?? 0
      const page = fitting.slice(start, start + Math.min(query.limit ?? PAGE_LIMIT, PAGE_LIMIT))
      return { total: fitting.length, entries: withinBytes(page) }
    },

    has: (mark) => marks.has(nameOf(mark)),

    all: (now) =>
      [...listings.values()]
        .filter(({ listing }) => listing.expiresAt > now)
        .map(({ bytes }) => bytes),

    async putCard(bytes, now, from) {
      sweep(now)
      const card = await readCard(bytes, now)
      if (!isCard(card)) return card
      if (from !== undefined && card.peer !== from) {
        return {
          type: 'wrong-peer',
          message: `got a card of ${card.peer} from ${from}, expected it from its own peer`,
        }
      }
      const key = `${card.peer} ${card.genesis}`
      const before = cards.get(key)
      if (before && before.card.sequence >= card.sequence) return { type: 'known' }
      if (!before && cards.size >= CARDS_LIMIT) cards.delete(soonest(cards))
      cards.set(key, { card, bytes })
      return { type: 'stored' }
    },

    cards(cid, now, limit = PAGE_LIMIT) {
      const held = [...cards.values()].filter(
        ({ card }) => card.expiresAt > now && (card.genesis === cid || card.version === cid),
      )
      const start = Math.floor(random() * held.length)
      return withinBytes(
        [...held.slice(start), ...held.slice(0, start)].slice(0, Math.min(limit, PAGE_LIMIT)),
      )
    },

    left(peer) {
      for (const [key, { card }] of cards)
        if (card.peer === peer && card.addresses.every(isIntroduced)) cards.delete(key)
    },

    counts: () => ({ listings: listings.size, cards: cards.size }),

    snapshot: () =>
      dagCbor.encode({ snapshot: 1, listings: [...listings.values()].map(({ bytes }) => bytes) }),

    async restore(snapshot, now) {
      const { listings: kept } = v.parse(snapshotSchema, dagCbor.decode(snapshot))
      let restored = 0
      for (const bytes of kept) {
        const listing = await readListing(bytes, now)
        if (isListing(listing) && keep({ listing, bytes }).type === 'stored') restored++
      }
      return { restored, dropped: kept.length - restored }
    },
  }
}

/** A way that a relay opens, while its peer is connected to it. */
function isIntroduced(address: string): boolean {
  return address.includes('/p2p-circuit')
}

/** A registry's order: by name, then by genesis and owner. */
export function compareListings(a: Listing, b: Listing): number {
  return compare(a.name, b.name) || compare(a.genesis, b.genesis) || compare(a.owner, b.owner)
}

/** One listing a pair: what an owner says of a genesis. */
export function keyOf({ genesis, owner }: Listing): string {
  return `${genesis} ${owner}`
}

/** Whether a listing answers the query. */
export function fits(listing: Listing, query: ListingQuery, words = wordsOf(listing)): boolean {
  const asked = (query.query ?? '').split(/\s+/).map(folded)
  return (
    asked.every((word) => words.includes(word)) &&
    (query.name === undefined || listing.name === query.name) &&
    (query.task === undefined || listing.task === query.task) &&
    (query.genesis === undefined || listing.genesis === query.genesis) &&
    (query.owner === undefined || listing.owner === query.owner) &&
    (query.tag === undefined || holds(listing.tags, query.tag)) &&
    (query.label === undefined || holds(listing.labels, query.label))
  )
}

export function isCard<C extends CardLike>(read: C | Rejection): read is C {
  return 'peer' in read
}

/** Bytes of a mark. */
export const MARK_BYTES = 16

/** Stands for a listing's exact bytes: the end of its signature, which nobody can choose. */
export function markOf(bytes: Uint8Array): Uint8Array {
  return bytes.slice(-MARK_BYTES)
}

function nameOf(mark: Uint8Array): string {
  return toString(mark, 'base64')
}

function wordsOf({ name, title, task, tags, labels }: Listing): string {
  return folded([name, title, task, ...tags, ...labels].join('\n'))
}

function holds(texts: string[], asked: string): boolean {
  return texts.some((text) => folded(text) === folded(asked))
}

function folded(text: string): string {
  return text.normalize('NFKC').toLowerCase()
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** As many as fit a page's bytes, and always the first. */
function withinBytes<E extends { bytes: Uint8Array }>(entries: E[]): E[] {
  let sum = 0
  return entries.filter(({ bytes }, i) => {
    sum += bytes.length
    return i === 0 || sum <= PAGE_BYTES_LIMIT
  })
}

function soonest(cards: Map<string, { card: CardLike }>): string {
  let found = ''
  let least = Number.POSITIVE_INFINITY
  for (const [key, { card }] of cards) {
    if (card.expiresAt < least) [found, least] = [key, card.expiresAt]
  }
  return found
}

function outdated(ours: Listing, theirs: Listing): Rejection {
  return {
    type: 'outdated',
    message: `got sequence ${theirs.sequence} of ${theirs.name}, expected more than ${ours.sequence}`,
  }
}

function full(count: number): Rejection {
  return { type: 'full', message: `this registry is full with ${count} listings` }
}
