/** Listing a version of ours on the registries: what publish and release share. */
import { Fault } from '../protocol/errors.ts'
import { signListing } from '../protocol/listing.ts'
import { bytesOf, MANIFEST_FILE, type Manifest, readManifest } from '../protocol/manifest.ts'
import type { Context } from './command.ts'
import type { Host } from './host.ts'

/** A registry must be in reach within this unless --timeout says otherwise. */
const LIST_LIMIT_MS = 30_000

/** A version that is kept here and listed. */
export interface Listed {
  cid: string
  genesis: string
  manifest: Manifest
  /** The peers whose registry took its listing. */
  registries: string[]
  /** The listing as it was signed. */
  signed: Uint8Array
}

/**
 * Waits until somebody is in reach who could list a version. A peer that stays to serve answers the listing protocol
 * itself, and needs no other. Throws Faults `nobody-to-list` (usage) and `no-network`.
 */
export async function untilListable({ options, print, signal }: Context, host: Host) {
  const timeoutMs = (options.timeout as number | undefined) ?? LIST_LIMIT_MS
  const known = host.joins.size + host.home.config.peers.length
  if (known === 0 && !stays(options)) {
    throw new Fault({
      kind: 'usage',
      type: 'nobody-to-list',
      message:
        'no bootstrap or peer is known that could list this, expected --join with the address of one',
      hint: 'give --join, or --serve to answer for it yourself',
    })
  }
  if (known > 0)
    await print.waiting('a bootstrap or a peer to list it with', host.online(timeoutMs, signal))
}

/**
 * Keeps a new version, lists it as its model's newest and tells who serves it. What all registries refuse is not kept,
 * unless it was here before. Throws as listVersion does.
 */
export async function addListed(
  { options, signal }: Context,
  host: Host,
  files: ReadonlyMap<string, Uint8Array>,
): Promise<Listed> {
  const manifest = readManifest(files.get(MANIFEST_FILE)!)
  const before = await host.store.versions()
  signal.throwIfAborted()
  const cid = await host.store.addVersion(files)
  const genesis = manifest.genesis ?? cid
  try {
    const { accepted, signed } = await listVersion(host, manifest, cid, {
      ...{ signal, alone: stays(options) },
    })
    await host.announce({ cid, genesis })
    return { cid, genesis, manifest, registries: accepted, signed }
  } catch (error) {
    const isNew = before.every((version) => version.cid !== cid)
    if (isNew && error instanceof Fault && error.detail.type === 'listing-refused')
      await host.store.remove(cid)
    throw error
  }
}

export interface ListOptions {
  /** Nobody else need be in reach: this peer stays, and answers for the listing itself. */
  alone?: boolean
  signal?: AbortSignal
}

/**
 * Lists a version of ours as its model's newest. Gives the registries that took it; this peer's own book follows them,
 * and answers the listing protocol too. Throws Fault `listing-refused` (verification) when registries answered and none
 * took it, and `no-registry` (network) when none answered: the own book is then as it was.
 */
export async function listVersion(
  host: Host,
  manifest: Manifest,
  cid: string,
  { alone = false, signal }: ListOptions = {},
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
  if (alone && host.registry.registries().length === 0) {
    await host.book.put(signed, now)
    return { accepted: [host.libp2p.peerId.toString()], signed }
  }
  const { accepted, refused } = await host.registry.put(signed, { ...(signal && { signal }) })
  if (accepted.length > 0) return { accepted, signed }
  throw new Fault({
    kind: 'verification',
    type: 'listing-refused',
    message: `${refused.length === 1 ? 'the one registry in reach' : `all of ${refused.length} registries`} refused the listing: ${refused[0]?.message ?? 'no reason given'}`,
    hint: 'an outdated sequence means that another machine with your owner key listed since: try again',
    refused,
  })
}

/** Whether the command goes on as a peer that serves. */
function stays({ serve, replicas }: Context['options']): boolean {
  return serve === true || replicas !== undefined
}

/** Above what this peer knows of its own listings, and above other machines with the same key by the clock. */
function nextSequence(host: Host, genesis: string, owner: string, now: number): number {
  const known = host.book.search({ genesis, owner }, now).entries[0]?.listing.sequence ?? 0
  return Math.max(known + 1, now)
}

/** "1 registry", "3 registries" */
export function registriesText(count: number): string {
  return count === 1 ? '1 registry' : `${count} registries`
}
