/** Opens what the page works with: home, network, store and training, behind the one face that services.ts describes. */
import { Fault } from '../protocol/errors.ts'
import { compareVersions, swarmOf } from '../protocol/manifest.ts'
import { sizeOf } from '../protocol/params.ts'
import type { Examples } from '../protocol/ports/examples.ts'
import { openOwnerKey, sealOwnerKey } from '../protocol/ports/owner-key.ts'
import { fetchResolved, resolveModel } from '../protocol/ports/resolve.ts'
import type { KeptVersion, StoredVersion } from '../protocol/ports/store.ts'
import { dataFilesOf, README_FILE } from '../protocol/ports/version.ts'
import { abilities } from './abilities.ts'
import { forgetCheckpoint, keptParams, listCheckpoints } from './checkpoint.ts'
import { readFiles } from './data.ts'
import { openHome } from './home.ts'
import { type Host, startHost } from './host.ts'
import { memoryLimit } from './memory.ts'
import { startPredictor } from './predictor.ts'
import { readRoute } from './route.ts'
import type { ListedModel, ModelList, OpenVersion, Services } from './services.ts'
import { startRun } from './training.ts'

/** How long a model is looked for, and how long a list waits for the first peer when nothing is kept here. */
const NETWORK_LIMIT_MS = 30_000
const LIST_WAIT_MS = 10_000
const LIST_WAIT_KEPT_MS = 2_000
/** Models whose peers are counted, and how long that may take. */
const COUNTED = 24
const COUNT_MS = 4_000
/** A sample that lies outside its version. */
const SAMPLE_BYTES = 64 * 2 ** 20
/** More of a key file is not read: it is none then. */
const KEY_FILE_BYTES = 64 * 2 ** 10
/** Versions whose bytes stay in memory. */
const HELD = 4

/** Starts everything. Throws Fault `insecure-origin` where the browser hides what a peer needs. */
export async function createServices(): Promise<Services> {
  requireSecure()
  const [home, near] = await Promise.all([openHome(), peersNearby()])
  const route = readRoute(location.hash)
  const host = await startHost(home, [...(route.type === 'model' ? route.via : []), ...near])
  const held = new Map<string, StoredVersion>()
  const hold = (version: StoredVersion) => {
    held.delete(version.cid)
    held.set(version.cid, version)
    if (held.size > HELD) held.delete(held.keys().next().value!)
    return version
  }
  const stored = async (cid: string) =>
    hold(held.get(cid) ?? (await host.store.fetchVersion(cid, { memoryBytes: memoryLimit() })))

  return {
    onNetwork: host.watch,
    join: host.dial,
    listModels: (signal) => listModels(host, signal),

    async openVersion(reference, via, { onProgress, signal }) {
      const link = via.map((address) => `via=${encodeURIComponent(address)}`).join('&')
      const text = link ? `#/m/${reference}?${link}` : reference
      const resolved = await resolveModel(text, host, {
        timeoutMs: NETWORK_LIMIT_MS,
        ...(signal && { signal }),
      })
      const version = await fetchResolved(host, resolved, {
        memoryBytes: memoryLimit(),
        onProgress,
        ...(signal && { signal }),
      })
      hold(version)
      const genesis = swarmOf(version.manifest, version.cid)
      void host.announce({ cid: version.cid, genesis }).catch(() => undefined)
      return openOf(version, genesis)
    },

    async sampleOf({ cid }, signal) {
      return sampleOf(host, await stored(cid), signal)
    },

    async train({ cid }, options) {
      return startRun(host, await stored(cid), options)
    },

    async predictor({ cid, params }) {
      return startPredictor((await stored(cid)).checked, params)
    },

    runs: listCheckpoints,
    keptParams: ({ genesis, manifest }) => keptParams(genesis, sizeOf(manifest.tensors)),
    forgetRun: forgetCheckpoint,

    owner: home.owner,

    async exportOwner(passphrase) {
      const key = await home.ownerKey()
      const owner = key.publicKey.toString()
      const text = await sealOwnerKey(key, passphrase)
      return { name: `mlstore-owner-${owner.slice(-8)}.json`, text }
    },

    async importOwner(file, passphrase) {
      const key = await openOwnerKey(await file.slice(0, KEY_FILE_BYTES).text(), passphrase)
      await home.setOwnerKey(key)
      return key.publicKey.toString()
    },
  }
}

async function openOf(version: StoredVersion, genesis: string): Promise<OpenVersion> {
  const { cid, manifest, checked } = version
  const readme = await version.read(README_FILE).catch(() => new Uint8Array())
  return {
    cid,
    genesis,
    manifest,
    readme: new TextDecoder().decode(readme),
    modelJson: checked.modelJson,
    params: checked.params,
  }
}

/** The sample that its owner chose; without one, what the version is measured on. */
async function sampleOf(
  host: Host,
  version: StoredVersion,
  signal: AbortSignal | undefined,
): Promise<Examples | undefined> {
  const { manifest } = version
  const which = manifest.data.sample === undefined ? 'eval' : 'sample'
  const place = manifest.data[which]
  if (place === undefined) return undefined
  const files = await dataFilesOf(version, version, which)
  if (files.length === 0) {
    const options = { maxBytes: SAMPLE_BYTES, ...(signal && { signal }) }
    files.push({ path: 'sample.csv', bytes: await host.store.fetchFile(place, options) })
  }
  const found = files.map(({ path, bytes }) => ({
    path,
    file: new File([bytes as BlobPart], path.split('/').at(-1)!),
  }))
  return (await readFiles(found, manifest)).examples
}

/** What registries in reach list, then what is kept here and nobody lists. Throws when there is neither. */
async function listModels(host: Host, signal?: AbortSignal): Promise<ModelList> {
  const kept = await host.store.versions()
  const known = kept.length > 0 || host.book.all(Date.now()).length > 0
  const outer = signal && { signal }
  await host
    .online(known ? LIST_WAIT_KEPT_MS : LIST_WAIT_MS, signal)
    .catch(() => signal?.throwIfAborted())
  const found = await host.registry.list({}, { ...outer }).catch((error: unknown) => {
    signal?.throwIfAborted()
    if (!known) throw error
    return undefined
  })
  const isKept = new Set(kept.map(({ cid }) => cid))
  const listed = (found?.listings ?? []).map(
    ({ listing }): ListedModel => ({
      listing,
      name: listing.name,
      title: listing.title,
      task: listing.task,
      tags: listing.tags ?? [],
      labels: listing.labels ?? [],
      genesis: listing.genesis,
      version: listing.version,
      manifestVersion: listing.manifestVersion,
      bytes: listing.bytes,
      peers: undefined,
      kept: isKept.has(listing.version),
      issuedAt: listing.issuedAt,
    }),
  )
  const isListed = new Set(listed.map(({ genesis }) => genesis))
  const unlisted = await keptModels(
    host,
    kept.filter(({ genesis }) => !isListed.has(genesis)),
  )
  const answered = found?.answered.length ?? 0
  if (answered > 0) await countPeers(host, listed.slice(0, COUNTED))
  return { models: [...listed, ...unlisted], answered, at: Date.now() }
}

/** The newest version of each model that is here. */
async function keptModels(host: Host, kept: readonly KeptVersion[]): Promise<ListedModel[]> {
  const newest = new Map<string, KeptVersion>()
  for (const version of kept.toSorted((a, b) => compareVersions(a.version, b.version)))
    newest.set(version.genesis, version)
  return Promise.all(
    [...newest.values()].map(async ({ cid, genesis, bytes }): Promise<ListedModel> => {
      const manifest = await host.store.fetchManifest(cid)
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

async function countPeers(host: Host, models: ListedModel[]): Promise<void> {
  const signal = AbortSignal.timeout(COUNT_MS)
  await Promise.all(
    models.map(async (model) => {
      const found = await host.registry.cards(model.genesis, { signal }).catch(() => undefined)
      model.peers = found?.cards.filter(({ card }) => card.phase !== 'leaving').length
    }),
  )
}

/** Peers that whoever serves this page names beside it, in peers.json; a plain static host names none. */
async function peersNearby(): Promise<string[]> {
  try {
    const response = await fetch(new URL('peers.json', document.baseURI))
    const named: unknown = response.ok ? await response.json() : []
    return Array.isArray(named) ? named.filter((item) => typeof item === 'string').slice(0, 8) : []
  } catch {
    return []
  }
}

function requireSecure(): void {
  if (abilities().some(({ name, has }) => name === 'secure' && has)) return
  throw new Fault({
    kind: 'resource',
    type: 'insecure-origin',
    message: `this page came from ${location.origin}, where browsers hide the cryptography that a peer needs`,
    hint: 'open it over https, or from localhost on the machine that serves it',
  })
}
