import type { Listing } from '../listing.ts'
import { type Manifest, swarmOf } from '../manifest.ts'
import type { Card } from '../message.ts'
import type { ListingBook } from './registry.ts'
import { type Finder, fetchResolved, holdersOf } from './resolve.ts'
import type { StoredVersion } from './store.ts'

/** What a peer that trains does with its owner's releases, the same on every host. */
export interface ReleaseKeeper extends Finder {
  book: Pick<ListingBook<Card>, 'put' | 'search'>
}

/**
 * A release by the model's owner: peers who train keep it and serve it, and pass its listing on (`bytes` as it was announced).
 * Throws as fetchResolved does; the listing stays known then.
 */
export async function keepRelease(
  host: ReleaseKeeper,
  listing: Listing,
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<StoredVersion> {
  const { version: cid, genesis } = listing
  await host.book.put(bytes, Date.now())
  const providers = await holdersOf(host, [cid, genesis], signal)
  return fetchResolved(host, { cid, genesis, listing, providers }, { signal })
}

/** Sequence of the owner's newest listing that is known here: what was announced before it is no release. */
export function newestKnown(
  { book }: Pick<ReleaseKeeper, 'book'>,
  { manifest, cid }: { manifest: Manifest; cid: string },
): number | undefined {
  const query = { genesis: swarmOf(manifest, cid), owner: manifest.owner }
  return book.search(query, Date.now()).entries[0]?.listing.sequence
}
