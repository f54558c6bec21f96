/** What can be trained: what registries in reach list, and what is kept here. */

import type { Listing } from '../protocol/listing.ts'
import { compareVersions } from '../protocol/manifest.ts'
import type { KeptVersion } from '../protocol/ports/store.ts'
import type { Home } from './home.ts'
import type { Host } from './host.ts'
import type { Asked, ListedModel, ModelList } from './services.ts'

/** What of a host finds models. */
export interface Lister extends Pick<Host, 'registry' | 'book' | 'online'> {
  store: Pick<Host['store'], 'versions' | 'fetchManifest'>
  home: Pick<Home, 'readListedAt' | 'saveListedAt'>
}

/** How long a list waits for the first peer, and when something is known already. */
const LIST_WAIT_MS = 10_000
const LIST_WAIT_KNOWN_MS = 2_000
/** More than these are not on a page; a search asks registries for others. */
const LISTED = 200
/** Models whose peers are counted, the newest first; a registry answers 16 requests at once and 256 in a burst. */
const COUNTED = 64
const COUNTED_AT_ONCE = 8
const COUNT_MS = 4_000

/** What registries in reach list, then what is kept here and nobody lists. Throws when there is neither. */
export async function listModels(
  host: Lister,
  asked: Asked,
  signal?: AbortSignal,
): Promise<ModelList> {
  const kept = await host.store.versions()
  const known = kept.length > 0 || host.book.all(Date.now()).length > 0
  await host
    .online(known ? LIST_WAIT_KNOWN_MS : LIST_WAIT_MS, signal)
    .catch(() => signal?.throwIfAborted())
  const query = {
    ...(asked.query && { query: asked.query }),
    ...(asked.task && { task: asked.task }),
  }
  const found = await host.registry
    .list({ ...query, limit: LISTED }, { ...(signal && { signal }) })
    .catch((error: unknown) => {
      signal?.throwIfAborted()
      if (!known) throw error
      return undefined
    })
  const answered = found?.answered.length ?? 0
  const { total, listings } = answered > 0 ? found! : inBook(host, query)
  const isKept = new Set(kept.map(({ cid }) => cid))
  const listed = listings.map(({ listing }) => modelOf(listing, isKept))
  const isListed = new Set(listed.map(({ genesis }) => genesis))
  const more = await keptModels(
    host,
    kept.filter(({ genesis }) => !isListed.has(genesis)),
    isKept,
  )
  if (answered > 0) await countPeers(host, listed)
  return {
    models: [...listed, ...more],
    listed: listed.length,
    total,
    asked,
    answered,
    at: await timeOf(host, answered),
  }
}

/** When somebody last answered; undefined when nobody ever did. */
async function timeOf({ home }: Lister, answered: number): Promise<number | undefined> {
  if (answered === 0) return home.readListedAt().catch(() => undefined)
  const now = Date.now()
  await home.saveListedAt(now).catch(() => undefined)
  return now
}

/** What registries told before: the client asks our own book for one page alone. */
function inBook(
  { book }: Lister,
  query: object,
): { total: number; listings: { listing: Listing }[] } {
  const now = Date.now()
  const listings: { listing: Listing }[] = []
  for (;;) {
    const { total, entries } = book.search({ ...query, offset: listings.length }, now)
    listings.push(...entries)
    if (entries.length === 0 || listings.length >= LISTED)
      return { total, listings: listings.slice(0, LISTED) }
  }
}

function modelOf(listing: Listing, isKept: ReadonlySet<string>): ListedModel {
  const { name, title, task, genesis, version, manifestVersion, bytes, issuedAt } = listing
  return {
    ...{ listing, name, title, task, genesis, version, manifestVersion, bytes, issuedAt },
    tags: listing.tags ?? [],
    labels: listing.labels ?? [],
    peers: undefined,
    kept: isKept.has(version),
  }
}

/** The newest version of each model that is here, or what a registry once told of it. */
async function keptModels(
  { book, store }: Lister,
  kept: readonly KeptVersion[],
  isKept: ReadonlySet<string>,
): Promise<ListedModel[]> {
  const newest = new Map<string, KeptVersion>()
  for (const version of kept.toSorted((a, b) => compareVersions(a.version, b.version)))
    newest.set(version.genesis, version)
  return Promise.all(
    [...newest.values()].map(async ({ cid, genesis, bytes }): Promise<ListedModel> => {
      const [told] = book.search({ genesis }, Date.now()).entries
      if (told) return { ...modelOf(told.listing, isKept), kept: true }
      const manifest = await store.fetchManifest(cid)
      const { name, title, task, tags, output, version } = manifest
      return {
        listing: undefined,
        ...{ name, title, task, genesis, bytes },
        tags: tags ?? [],
        labels: output.labels,
        version: cid,
        manifestVersion: version,
        peers: undefined,
        kept: true,
        issuedAt: undefined,
      }
    }),
  )
}

async function countPeers({ registry }: Lister, models: readonly ListedModel[]): Promise<void> {
  const signal = AbortSignal.timeout(COUNT_MS)
  const waiting = models
    .toSorted((a, b) => (b.issuedAt ?? 0) - (a.issuedAt ?? 0))
    .slice(0, COUNTED)
    .values()
  const count = async () => {
    for (const model of waiting) {
      const found = await registry.cards(model.genesis, { signal }).catch(() => undefined)
      model.peers = found?.cards.filter(({ card }) => card.phase !== 'leaving').length
    }
  }
  await Promise.all(Array.from({ length: COUNTED_AT_ONCE }, count))
}
