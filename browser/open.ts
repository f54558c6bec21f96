/** Opens what the page works with: home, network, store and training, behind the one face that services.ts describes. */
import { swarmOf } from '../protocol/manifest.ts'
import { sizeOf } from '../protocol/params.ts'
import type { Examples } from '../protocol/ports/examples.ts'
import { openOwnerKey, sealOwnerKey } from '../protocol/ports/owner-key.ts'
import { fetchResolved, lineageFrom, resolveModel } from '../protocol/ports/resolve.ts'
import type { StoredVersion } from '../protocol/ports/store.ts'
import { dataFilesOf, README_FILE } from '../protocol/ports/version.ts'
import { abilities } from './abilities.ts'
import { forgetCheckpoint, keptParams, listCheckpoints } from './checkpoint.ts'
import { measureCost } from './cost.ts'
import { readFiles } from './data.ts'
import { openHome } from './home.ts'
import { type Host, startHost } from './host.ts'
import { freeVersion, versionsHere } from './kept.ts'
import { listModels } from './list.ts'
import { memoryLimit } from './memory.ts'
import { startPredictor } from './predictor.ts'
import { readRoute } from './route.ts'
import { selfTest } from './self-test.ts'
import type { OpenVersion, Services } from './services.ts'
import { startRun } from './training.ts'
import { pageFault } from './words.ts'

/** How long a model is looked for. */
const NETWORK_LIMIT_MS = 30_000
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
  const host = await startHost(home, { link: route.type === 'model' ? route.via : [], near })
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
    unjoin: host.forget,
    listModels: (asked, signal) => listModels(host, asked, signal),

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

    async *ancestorsOf({ cid, genesis, manifest: { parents } }, signal) {
      if (cid === genesis || parents[0] === undefined) return
      for await (const found of lineageFrom(parents[0], genesis, host, signal)) {
        const { version, metrics } = found.manifest
        yield { cid: found.cid, number: version, accuracy: metrics?.accuracy }
      }
    },

    async sampleOf({ cid }, signal) {
      return sampleOf(host, await stored(cid), signal)
    },

    async measure({ cid }, options) {
      return measureCost(await stored(cid), options)
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

    versions: () => versionsHere(host),

    async freeVersion(cid, training) {
      await freeVersion(host, cid, training)
      held.delete(cid)
    },

    selfTest: (tell) => selfTest(host, tell),

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
    frozen: checked.frozen,
    demand: checked.topology.demand,
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
  throw pageFault('resource', 'insecure-origin', { origin: location.origin })
}
