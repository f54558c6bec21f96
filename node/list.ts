/** Signing an owner's listing and putting it on the registries: what publish and release share. */
import { Fault } from '../protocol/errors.ts'
import { signListing } from '../protocol/listing.ts'
import { bytesOf, type Manifest } from '../protocol/manifest.ts'
import type { Host } from './host.ts'

/**
 * Lists a version of ours as its model's newest. Gives the registries that took it; this peer's own book always does,
 * and it answers the listing protocol too. Throws a Fault when registries answered and none took it.
 */
export async function listVersion(
  host: Host,
  manifest: Manifest,
  cid: string,
  signal?: AbortSignal,
): Promise<{ accepted: string[]; signed: Uint8Array }> {
  const owner = await host.home.ownerKey()
  const genesis = manifest.genesis ?? cid
  const now = Date.now()
  const { name, title, task, tags = [], output, version } = manifest
  const signed = await signListing(
    {
      name,
      title,
      task,
      tags,
      labels: output.labels,
      genesis,
      version: cid,
      manifestVersion: version,
      bytes: bytesOf(manifest),
      sequence: nextSequence(host, genesis, owner.publicKey.toString(), now),
    },
    owner,
    now,
  )
  await host.book.put(signed, now)
  if (host.registry.registries().length === 0)
    return { accepted: [host.libp2p.peerId.toString()], signed }
  const { accepted, refused } = await host.registry.put(signed, { signal })
  if (accepted.length > 0) return { accepted, signed }
  throw new Fault({
    kind: 'verification',
    type: 'listing-refused',
    message: `${refused.length} registries refused the listing: ${refused[0]?.message ?? 'no reason given'}`,
    hint: 'an outdated sequence means that another machine with your owner key listed since: try again',
    refused,
  })
}

/** Above what this peer knows of its own listings, and above other machines with the same key by the clock. */
function nextSequence(host: Host, genesis: string, owner: string, now: number): number {
  const known = host.book.search({ genesis, owner }, now).entries[0]?.listing.sequence ?? 0
  return Math.max(known + 1, now)
}
