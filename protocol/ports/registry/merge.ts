import { compare } from 'uint8arrays'
import type { Rejection } from '../../errors.ts'
import { isListing, type Listing, readListing } from '../../listing.ts'
import { compareListings, type Entry, fits, keyOf, type ListingQuery } from './book.ts'

export interface FoundListings {
  listings: FoundListing[]
  /** How many fit the query in all, as far as the registries told and we could check. */
  total: number
  /** Registries that answered. */
  answered: string[]
  /** What was wrong with the others' answers, and what was dropped from these. */
  lies: Lie[]
  unreachable: { registry: string; message: string }[]
}

export interface FoundListing extends Entry {
  /** Peer ids of the registries that have exactly this. */
  from: string[]
  /** Another key lists the same genesis: only the genesis' manifest tells whose it is. */
  contested: boolean
}

export interface Lie extends Rejection {
  registry: string
}

/** What came is no answer to what was asked: the registry's fault, not the network's. */
export class WrongAnswer extends Error {}

/** Answers of several registries, becoming one list. */
export class Merge {
  private readonly best = new Map<string, FoundListing>()
  private readonly lies = new Map<string, Lie>()
  private readonly answers: string[] = []
  private readonly unreachable: FoundListings['unreachable'] = []
  private readonly query: ListingQuery
  private total = 0

  constructor(query: ListingQuery) {
    this.query = query
  }

  answered(registry: string, total: number): void {
    this.answers.push(registry)
    this.total = Math.max(this.total, total)
  }

  failed(registry: string, error: unknown): void {
    if (error instanceof WrongAnswer)
      this.lie(registry, { type: 'malformed', message: error.message })
    else this.unreachable.push({ registry, message: messageOf(error) })
  }

  add(registry: string, bytes: Uint8Array, read: Listing | Rejection): void {
    if (!isListing(read)) return this.lie(registry, read)
    if (!fits(read, this.query)) return this.lie(registry, notAsked(read))
    const before = this.best.get(keyOf(read))
    const order = before ? orderOf(before, read, bytes) : -1
    if (before && order === 0) before.from.push(registry)
    if (order < 0)
      this.best.set(keyOf(read), { listing: read, bytes, from: [registry], contested: false })
  }

  /** Asks whose a genesis is where two keys claim it, and drops the other's listing. */
  async settle(ownerOf: (genesis: string) => Promise<string | undefined>): Promise<void> {
    for (const [genesis, claims] of this.claims()) {
      const owner = claims.length > 1 ? await ownerOf(genesis) : undefined
      if (owner === undefined) continue
      for (const { listing, from } of claims) {
        if (listing.owner === owner) continue
        this.best.delete(keyOf(listing))
        for (const registry of from) this.lie(registry, notTheOwner(listing, owner))
      }
    }
  }

  result(start: number, end: number): FoundListings {
    const claims = this.claims()
    const merged = [...this.best.values()]
      .map((found) => ({
        ...found,
        contested: (claims.get(found.listing.genesis)?.length ?? 0) > 1,
      }))
      .sort((a, b) => compareListings(a.listing, b.listing))
    return {
      listings: merged.slice(start, end),
      total: Math.max(merged.length, this.lies.size > 0 ? 0 : this.total),
      answered: this.answers,
      lies: [...this.lies.values()],
      unreachable: this.unreachable,
    }
  }

  private claims(): Map<string, FoundListing[]> {
    return Map.groupBy(this.best.values(), ({ listing }) => listing.genesis)
  }

  /** One line for each registry and kind of lie. */
  private lie(registry: string, { type, message }: Rejection): void {
    const key = `${registry} ${type}`
    if (!this.lies.has(key)) this.lies.set(key, { registry, type, message })
  }
}

/** Negative when the new one is to be kept: the higher sequence; of two under one sequence the same for everyone. */
function orderOf(before: FoundListing, listing: Listing, bytes: Uint8Array): number {
  return before.listing.sequence - listing.sequence || compare(bytes, before.bytes)
}

/** Reads a listing once, however many registries send it. */
export function cachedCheck(now: number): (bytes: Uint8Array) => Promise<Listing | Rejection> {
  const checked: { bytes: Uint8Array; read: Listing | Rejection }[][] = []
  return async (bytes) => {
    const slot = (checked[hashOf(bytes)] ??= [])
    const before = slot.find((known) => compare(known.bytes, bytes) === 0)
    if (before) return before.read
    const read = await readListing(bytes, now)
    slot.push({ bytes, read })
    return read
  }
}

/** The last bytes of an envelope are its signature: as good as chance. */
function hashOf(bytes: Uint8Array): number {
  return ((bytes.at(-1) ?? 0) << 8) | (bytes.at(-2) ?? 0)
}

function notAsked({ name }: Listing): Rejection {
  return { type: 'not-asked', message: `got ${name}, which does not fit the query` }
}

function notTheOwner({ name, owner, genesis }: Listing, expected: string): Rejection {
  return {
    type: 'not-the-owner',
    message: `${owner} lists ${name} (${genesis}), which belongs to ${expected}`,
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
