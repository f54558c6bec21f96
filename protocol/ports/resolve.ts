/**
 * What users type for a model, as a version to fetch: a listing's name, a CID, or a share link
 * `#/m/<CID>?via=<address>`, each with `@latest`, `@1.2.0` or `@<CID>` behind it.
 */
import type { Libp2p } from '@libp2p/interface'
import { Fault } from '../errors.ts'
import type { Listing } from '../listing.ts'
import { compareVersions, type Manifest, swarmOf } from '../manifest.ts'
import type { Card } from '../message.ts'
import { parseAddress } from './libp2p.ts'
import { plain } from './plain.ts'
import type { Presence } from './presence.ts'
import type { Lie, RegistryClient } from './registry.ts'
import type { FetchProgress, Store, StoredVersion } from './store.ts'

/** What a host has that finds models. */
export interface Finder extends Pick<Presence, 'join' | 'online'> {
  libp2p: Pick<Libp2p, 'dial'>
  store: Store
  registry: RegistryClient<Card>
}

/** What was typed, before anything is asked. */
export interface Reference {
  name?: string
  cid?: string
  /** `latest`, a semver, or a CID. */
  at?: string
  /** Addresses in a share link: opening one is the user giving them. */
  via: string[]
}

export interface Resolved {
  /** The version to fetch. */
  cid: string
  genesis?: string
  listing?: Listing
  /** Addresses of peers that hold it. */
  providers: string[]
}

export interface ResolveOptions {
  /** How long to wait for the first registry. */
  timeoutMs: number
  signal?: AbortSignal
}

/** How long commands look for the network unless --timeout says otherwise. */
export const NETWORK_LIMIT_MS = 30_000
/** A model that is here already waits only this long for news of a later version. */
const NEWER_LIMIT_MS = 5_000
/** Versions of a lineage that are looked through. */
const ANCESTORS_LIMIT = 64
const VIA_LIMIT = 3
/** One manifest on the way to an older version, or a genesis' owner. */
const MANIFEST_LIMIT_MS = 20_000
/** How often a fetch looks for new holders, and how long it tries to reach them. */
const MEET_EVERY_MS = 2_000
const MEET_LIMIT_MS = 10_000
/** Peers whose addresses are handed to the store. */
const PROVIDERS_LIMIT = 16

const cidPattern = /^baf[a-z2-7]{56}$/
const namePattern = /^[a-z0-9][a-z0-9-]{0,63}$/
const versionPattern = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/

/** Reads what a user typed. Throws Fault `wrong-model-name` (usage). */
export function readReference(text: string): Reference {
  const link = /#\/m\/([^?]+)(?:\?(.*))?$/.exec(text)
  const [model = '', at, ...more] = (link?.[1] ?? text).split('@')
  const via = new URLSearchParams(link?.[2] ?? '').getAll('via').slice(0, VIA_LIMIT)
  const isAt = at === undefined || at === 'latest' || versionPattern.test(at) || cidPattern.test(at)
  if (more.length === 0 && isAt) {
    if (cidPattern.test(model)) return { cid: model, at, via }
    if (namePattern.test(model)) return { name: model, at, via }
  }
  throw new Fault({
    kind: 'usage',
    type: 'wrong-model-name',
    name: plain(text),
    message: `got ${JSON.stringify(plain(text))}, expected a name such as digits, a CID, or a share link, with @latest, @1.2.0 or @CID behind it`,
    hint: 'mlstore ls shows what is listed',
  })
}

/** The version that a user means, and who holds it. Throws Faults of kind usage, network and not-found. */
export async function resolveModel(
  text: string,
  host: Finder,
  options: ResolveOptions,
): Promise<Resolved> {
  const reference = readReference(text)
  if (reference.via.length > 0) host.join(reference.via)
  const kept = await keptHere(reference, host)
  if (kept !== undefined) return kept
  const isHere = (await keptOf(reference, host)) !== undefined
  const timeoutMs = isHere ? Math.min(options.timeoutMs, NEWER_LIMIT_MS) : options.timeoutMs
  const online = host.online(timeoutMs, options.signal)
  if (
    reference.cid !== undefined &&
    (reference.at === undefined || cidPattern.test(reference.at))
  ) {
    const cid = reference.at ?? reference.cid
    if (!(await host.store.has(cid))) await online
    online.catch(() => undefined)
    return {
      cid,
      providers: [
        ...reference.via,
        ...(await holdersOf(host, [cid, reference.cid], options.signal)),
      ],
    }
  }
  const offline = await online.then(
    () => undefined,
    async (error: unknown) => {
      const newest = await keptOf(reference, host)
      if (newest === undefined) throw error
      return newest
    },
  )
  if (offline !== undefined) return offline
  const listing = await listingOf(reference, host, options.signal)
  const cid = await versionAt(reference.at ?? 'latest', listing, host, options.signal)
  const providers = [
    ...reference.via,
    ...(await holdersOf(host, [cid, listing.genesis], options.signal)),
  ]
  return { cid, genesis: listing.genesis, listing, providers }
}

/**
 * Fetches what was resolved and checks it against its listing: the same swarm, the same owner, in the version and
 * in the genesis. Throws Faults of kind verification: `wrong-owner` when somebody lists what is another's, and
 * `contested-genesis` when two list it and nobody has the genesis, which alone could tell.
 */
export async function fetchResolved(
  host: Finder,
  { cid, listing, providers }: Resolved,
  options: {
    signal?: AbortSignal
    memoryBytes?: number
    onProgress?: (progress: FetchProgress) => void
  } = {},
): Promise<StoredVersion> {
  const done = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, done.signal]) : done.signal
  const meeting = meetHolders(host, cid, listing?.genesis ?? cid, signal)
  let version: StoredVersion
  try {
    version = await host.store.fetchVersion(cid, {
      ...options,
      providers,
    })
  } finally {
    done.abort()
    await meeting
  }
  if (listing !== undefined) await checkOwner(version, listing, host, options.signal)
  return version
}

/** While a version is fetched: connects to whoever comes to hold it, since bitswap never looks two hops away. */
async function meetHolders(
  host: Finder,
  cid: string,
  genesis: string,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(MEET_EVERY_MS, signal)
    if (signal.aborted) return
    const addresses = await holdersOf(host, [cid, genesis], signal).catch(() => [])
    const limit = AbortSignal.any([signal, AbortSignal.timeout(MEET_LIMIT_MS)])
    await Promise.all(
      addresses.map((address) =>
        host.libp2p.dial(parseAddress(address), { signal: limit }).catch(() => undefined),
      ),
    )
  }
}

/** Sooner when the signal says so. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', over)
      resolve()
    }
    const timer = setTimeout(over, ms)
    signal.addEventListener('abort', over)
  })
}

/** Whoever has the genesis decides whose it is; where nobody has it, all who list it must name one owner. */
async function checkOwner(
  { manifest, cid, genesis }: StoredVersion,
  listing: Listing,
  host: Finder,
  signal?: AbortSignal,
): Promise<void> {
  const swarm = swarmOf(manifest, cid)
  if (swarm !== listing.genesis) throw wrongListing(listing, `genesis ${listing.genesis}`, swarm)
  for (const owner of [manifest.owner, genesis?.owner ?? manifest.owner])
    if (owner !== listing.owner) throw wrongListing(listing, `owner ${listing.owner}`, owner)
  if (genesis !== undefined) return
  const { listings } = await host.registry.list({ genesis: swarm }, { ...(signal && { signal }) })
  const owners = new Set([listing, ...listings.map((found) => found.listing)].map(ownerIn))
  if (owners.size > 1) throw contested(swarm, [...owners])
}

function ownerIn({ owner }: Listing): string {
  return owner
}

/** Whom a genesis' own manifest names, or undefined when nobody has it any more. */
async function ownerOf(
  host: Finder,
  genesis: string,
  providers: string[],
  signal?: AbortSignal,
): Promise<string | undefined> {
  const limit = AbortSignal.any([
    AbortSignal.timeout(MANIFEST_LIMIT_MS),
    ...(signal === undefined ? [] : [signal]),
  ])
  try {
    return (await host.store.fetchManifest(genesis, { providers, signal: limit })).owner
  } catch {
    signal?.throwIfAborted()
    return undefined
  }
}

/** The one listing that is meant. */
async function listingOf(
  reference: Reference,
  host: Finder,
  signal?: AbortSignal,
): Promise<Listing> {
  const { name, cid } = reference
  const query = name === undefined ? { genesis: cid } : { name }
  const holders = (genesis: string) => holdersOf(host, [genesis], signal)
  const found = await host.registry.list(query, {
    signal,
    ownerOf: async (genesis) => ownerOf(host, genesis, await holders(genesis), signal),
  })
  const listings = found.listings.map(({ listing }) => listing)
  if (listings.length === 1) return listings[0]!
  const isHonest = (registry: string) => !found.lies.some((lie) => lie.registry === registry)
  const [lie] = found.answered.some(isHonest) ? [] : found.lies
  if (listings.length === 0 && lie !== undefined) throw badListing(name ?? cid!, lie)
  if (listings.length === 0) throw notListed(name ?? cid!, found.answered.length)
  const [{ genesis }] = listings as [Listing]
  if (listings.every((listing) => listing.genesis === genesis))
    throw contested(genesis, listings.map(ownerIn))
  throw new Fault({
    kind: 'usage',
    type: 'ambiguous-name',
    message: `${listings.length} models are called ${name ?? cid}: ${listings.slice(0, 5).map(lineOf).join('; ')}`,
    hint: 'give the CID of the one you mean',
    name: name ?? cid!,
    count: listings.length,
  })
}

function lineOf({ genesis, title }: Listing): string {
  return `${genesis} (${plain(title, 40)})`
}

/** The listing's newest version, the one of that number among its ancestors, or the CID itself. */
async function versionAt(
  at: string,
  listing: Listing,
  host: Finder,
  signal?: AbortSignal,
): Promise<string> {
  if (cidPattern.test(at)) return at
  if (at === 'latest' || at === listing.manifestVersion) return listing.version
  for await (const { cid, manifest } of lineageFrom(listing.version, listing.genesis, host, signal))
    if (manifest.version === at) return cid
  throw new Fault({
    kind: 'not-found',
    type: 'version-not-found',
    message: `no version ${at} of ${listing.name}, whose latest is ${listing.manifestVersion}`,
    hint: `mlstore show ${listing.name} says what there is`,
    name: listing.name,
    version: at,
    latest: listing.manifestVersion,
  })
}

/** A version and its ancestors, by first parents: nearest first, back to the genesis or as many as are looked through. */
export async function* lineageFrom(
  from: string,
  genesis: string,
  host: Pick<Finder, 'store' | 'registry'>,
  signal?: AbortSignal,
): AsyncGenerator<{ cid: string; manifest: Manifest }> {
  let next: string | undefined = from
  for (let i = 0; i < ANCESTORS_LIMIT && next !== undefined; i++) {
    const cid: string = next
    const providers = await holdersOf(host, [cid, genesis], signal)
    const manifest = await host.store.fetchManifest(cid, { providers, signal })
    yield { cid, manifest }
    next = cid === genesis ? undefined : manifest.parents[0]
  }
}

/**
 * Addresses from the cards of those who hold one of the CIDs. Who holds the first comes first, and among them who is reached
 * without a relay, then whose card is newest: tabs come and go, and their cards outlive them.
 */
export async function holdersOf(
  host: Pick<Finder, 'registry'>,
  cids: string[],
  signal?: AbortSignal,
): Promise<string[]> {
  const addresses: string[] = []
  for (const cid of new Set(cids)) {
    const found = await host.registry.cards(cid, { signal }).catch(() => undefined)
    signal?.throwIfAborted()
    const best = (found?.cards ?? []).toSorted(
      (a, b) =>
        rankOf(b.card, cids[0]) - rankOf(a.card, cids[0]) || b.card.expiresAt - a.card.expiresAt,
    )
    for (const { card } of best.slice(0, PROVIDERS_LIMIT)) {
      if (card.phase !== 'leaving')
        addresses.push(...card.addresses.map((address) => withPeer(address, card.peer)))
    }
  }
  return [...new Set(addresses)]
}

function rankOf({ version, addresses }: Card, wanted: string | undefined): number {
  const isDirect = addresses.some((address) => !address.includes('/p2p-circuit'))
  return (version === wanted ? 2 : 0) + (isDirect ? 1 : 0)
}

function withPeer(address: string, peer: string): string {
  return address.endsWith(`/p2p/${peer}`) ? address : `${address}/p2p/${peer}`
}

/** A version that is here already and needs nobody to be asked. */
async function keptHere({ name, cid, at }: Reference, host: Finder): Promise<Resolved | undefined> {
  const exact = at !== undefined && cidPattern.test(at) ? at : at === undefined ? cid : undefined
  if (exact !== undefined && (await host.store.has(exact))) return { cid: exact, providers: [] }
  if (name === undefined || at === undefined || !versionPattern.test(at)) return undefined
  const kept = (await host.store.versions()).filter(
    (version) => version.name === name && version.version === at,
  )
  return kept.length === 1
    ? { cid: kept[0]!.cid, genesis: kept[0]!.genesis, providers: [] }
    : undefined
}

/** The newest version here of the model that is meant, for when nobody can be asked. */
async function keptOf({ name, cid, at }: Reference, host: Finder): Promise<Resolved | undefined> {
  const kept = (await host.store.versions()).filter(
    (version) => version.name === name || version.genesis === cid,
  )
  const isOne = new Set(kept.map(({ genesis }) => genesis)).size === 1
  if (!isOne || (at !== undefined && at !== 'latest')) return undefined
  const [newest] = kept.toSorted((a, b) => compareVersions(b.version, a.version))
  return { cid: newest!.cid, genesis: newest!.genesis, providers: [] }
}

function notListed(model: string, registries: number): Fault {
  return new Fault({
    kind: 'not-found',
    type: 'model-not-found',
    message: `no model ${model} is listed by the ${registries === 1 ? 'one registry' : `${registries} registries`} that answered`,
    hint: 'mlstore ls shows what is listed; a model that is not listed can be named by its CID',
    name: model,
    registries,
  })
}

function badListing(model: string, { registry, message }: Lie): Fault {
  return new Fault({
    kind: 'verification',
    type: 'bad-listing',
    message: `no listing of ${model} passed its check: ${registry} sent one that is wrong: ${plain(message)}`,
    hint: 'join through another bootstrap, or name the version by its CID',
    name: model,
    registry,
  })
}

function contested(genesis: string, owners: string[]): Fault {
  const named = owners.slice(0, 3).map((owner) => `…${owner.slice(-8)}`)
  return new Fault({
    kind: 'verification',
    type: 'contested-genesis',
    message: `${owners.length} owners (${named.join(', ')}) list genesis ${genesis}, and nobody who could be asked has it, expected one owner`,
    hint: 'join a peer that holds the genesis, which says whose it is, or name the version by its CID if you trust it',
    genesis,
    owners,
  })
}

function wrongListing(listing: Listing, expected: string, came: string): Fault {
  return new Fault({
    kind: 'verification',
    type: 'wrong-owner',
    message: `the listing of ${listing.name} is signed for ${expected}, but the version says ${came}`,
    hint: 'somebody lists what is not theirs; name the version by its CID if you trust it',
    name: listing.name,
  })
}
