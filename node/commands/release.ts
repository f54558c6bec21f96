import { join } from 'node:path'
import type { GossipSub } from '@libp2p/gossipsub'
import { Fault } from '../../protocol/errors.ts'
import type { Listing } from '../../protocol/listing.ts'
import { compareVersions, type Manifest, semverPattern, swarmOf } from '../../protocol/manifest.ts'
import type { StoredVersion } from '../../protocol/ports/store.ts'
import { type CommandSpec, type Context, readCount, shared } from '../command.ts'
import { isInSwarm, pullParams } from '../donor.ts'
import type { Host } from '../host.ts'
import type { Listed } from '../list.ts'
import { fetchModel, withHost } from '../open.ts'

/** Peers that we meet to tell them of a release, which gossip carries to the others. */
const PEERS_TOLD = 8
/** A peer that was met says within this what it listens to. */
const SUBSCRIBED_LIMIT_MS = 3_000

/** The params in our checkpoint, or of a peer that trains → a child version, listed as its model's newest; its CID on stdout. */
export const release: CommandSpec = {
  arguments: '<model>',
  options: [
    {
      flags: '--version <semver>',
      text: 'the number of the new version (default: the next minor one)',
    },
    shared.join,
    shared.home,
    shared.listen,
    { flags: '--serve', text: 'stay and serve it until Ctrl-C' },
    { flags: '--replicas <n>', text: 'stay until n other peers hold it', read: readCount(1) },
    {
      ...shared.timeout,
      text: 'how long to wait for the network, or for the replicas (default 30s, 10m)',
    },
  ],
  examples: ['mlstore release digits', 'mlstore release digits --version 2.0.0 --replicas 2'],
  async run(context) {
    const { args, options, print, signal } = context
    await withHost(context, async (host) => {
      const { addListed, registriesText, untilListable } = await import('../list.ts')
      const { version: named } = await fetchModel(context, host, String(args[0]))
      await requireOwner(host, named.manifest)
      await untilListable(context, host)
      const newest = await newestListed(host, named, signal)
      const parent = await parentOf(context, host, named, newest)
      const number = nextVersion([parent, newest], options.version as string | undefined)
      const genesis = swarmOf(parent.manifest, parent.cid)
      const params = await trainedParams(context, host, parent)
      const metrics = await measured(context, parent, params)
      signal.throwIfAborted() // what was not measured to its end is no release
      const { makeChild } = await import('../../protocol/ports/version.ts')
      const limits = { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }
      const source = { cid: parent.cid, files: parent, checked: parent.checked }
      const change = { version: number, params, ...(metrics && { metrics }) }
      const files = await makeChild(source, change, parent.manifest.owner, limits)
      const listed = await addListed(context, host, files)
      const { cid, manifest, registries } = listed
      const { name, version } = manifest
      const object = { cid, genesis, name, version, metrics: metrics ?? null, registries }
      print.answer({ id: cid, object, text: cid })
      const score = metrics
        ? `, accuracy ${(100 * metrics.accuracy!).toFixed(1)} % on ${metrics.examples} examples`
        : ''
      print.note(
        `released ${name}@${version}${score}; listed by ${registriesText(registries.length)}`,
      )
      await tellSwarm(host, listed, signal)
      await stay(context, host, listed)
    })
  },
}

/** Only the owner's key moves `latest`. */
async function requireOwner(host: Host, { owner, name }: Manifest): Promise<void> {
  const ours = (await host.home.ownerKey()).publicKey.toString()
  if (ours === owner) return
  throw new Fault({
    kind: 'verification',
    type: 'not-the-owner',
    message: `the owner key of this home is …${ours.slice(-8)}, expected …${owner.slice(-8)}, the owner of ${name}`,
    hint: 'release from the home that published it, or publish a model of your own',
  })
}

/**
 * The params of our checkpoint, float32 little-endian in tensor order; where there is none, those of a peer that trains.
 * Throws Fault `no-checkpoint` (not-found) where there is no such peer either.
 */
async function trainedParams(
  { print, signal }: Context,
  host: Host,
  parent: StoredVersion,
): Promise<Uint8Array> {
  const [{ checkpointFile }, { readCheckpoint }, { codecs, sizeOf }] = await Promise.all([
    import('../checkpoint.ts'),
    import('../../protocol/ports/trainer/checkpoint.ts'),
    import('../../protocol/index.ts'),
  ])
  const { manifest, cid } = parent
  const genesis = swarmOf(manifest, cid)
  const file = checkpointFile(join(host.home.checkpoints, genesis))
  const found = await readCheckpoint(file, genesis, sizeOf(manifest.tensors))
  const params = found?.arrays.params
  if (params) return codecs.float32.encode(params, manifest.tensors)
  const pulled = await print.waiting('a peer that trains', pullParams(host, parent, signal))
  if (pulled) {
    print.note(
      `no checkpoint here: takes the params of ${pulled.peer}, after ${pulled.steps} steps`,
    )
    return pulled.params
  }
  throw new Fault({
    kind: 'not-found',
    type: 'no-checkpoint',
    message: `no checkpoint of ${manifest.name} in ${host.home.checkpoints}, and no peer in reach that trains it gives its params`,
    hint: `release while others train it, or train it here for a few rounds first: mlstore train ${manifest.name} --data PATH --rounds 20`,
  })
}

/** Accuracy and loss on the version's own eval data, by the code that `mlstore eval` runs; nothing when it has none. */
async function measured(
  context: Context,
  parent: StoredVersion,
  params: Uint8Array,
): Promise<Manifest['metrics']> {
  const [{ measureParams }, { dataFilesOf }] = await Promise.all([
    import('../measure.ts'),
    import('../../protocol/ports/version.ts'),
  ])
  const files = await dataFilesOf(parent.checked, parent, 'eval')
  if (files.length === 0) return undefined
  const { readEvalFiles } = await import('../data.ts')
  const examples = await readEvalFiles(files, parent.manifest)
  const metrics = await measureParams(
    { ...context, options: { ...context.options, backend: 'auto' } },
    { ...parent.checked, params },
    examples,
  )
  return metrics && { accuracy: metrics.accuracy, loss: metrics.loss, examples: examples.size }
}

/** What is listed as this model's newest under our own key, by whoever is in reach and by ourselves. */
async function newestListed(
  host: Host,
  { manifest, cid }: StoredVersion,
  signal: AbortSignal,
): Promise<Listing | undefined> {
  const query = { genesis: swarmOf(manifest, cid), owner: manifest.owner }
  if (host.registry.registries().length === 0)
    return host.book.search(query, Date.now()).entries[0]?.listing
  return (await host.registry.list(query, { signal })).listings[0]?.listing
}

/**
 * The version that a release follows: a child of an older one would hide those between from who looks for them by their
 * numbers. What is named by `@` is taken as it is.
 */
async function parentOf(
  context: Context,
  host: Host,
  named: StoredVersion,
  newest: Listing | undefined,
): Promise<StoredVersion> {
  const { readReference } = await import('../../protocol/ports/resolve.ts')
  const { at } = readReference(String(context.args[0]))
  const isNewest = newest === undefined || newest.version === named.cid
  if (isNewest || (at !== undefined && at !== 'latest')) return named
  try {
    return (await fetchModel(context, host, `${newest.genesis}@${newest.version}`)).version
  } catch (error) {
    if (!(error instanceof Fault) || error.detail.type !== 'artifact-not-found') throw error
    const hint = `join a peer that holds ${newest.manifestVersion}, or name the version to follow instead: mlstore release ${newest.genesis}@${named.cid}`
    throw new Fault({ ...error.detail, hint }, error)
  }
}

/** The next minor one, or the one asked for, which rises above all of `before`. Throws Fault `wrong-version` (usage). */
function nextVersion(
  [parent, newest]: [StoredVersion, Listing | undefined],
  asked: string | undefined,
): string {
  const before = [parent.manifest.version, newest?.manifestVersion ?? parent.manifest.version]
  const highest = before.toSorted(compareVersions).at(-1)!
  const [major = 0, minor = 0] = highest.split('.').map((part) => Number.parseInt(part, 10))
  const next = `${major}.${minor + 1}.0`
  if (asked === undefined) return next
  if (semverPattern.test(asked) && compareVersions(asked, highest) > 0) return asked
  throw new Fault({
    kind: 'usage',
    type: 'wrong-version',
    message: `--version got ${JSON.stringify(asked)}, expected three numbers above ${highest}, the newest of ${parent.manifest.name}`,
    hint: `give ${next} or more, or leave it out`,
  })
}

/** Tells those who train at once, by gossip; whoever misses it learns of it from a registry. */
async function tellSwarm(host: Host, { genesis, signed }: Listed, signal: AbortSignal) {
  const [{ topicOf }, { dial }] = await Promise.all([
    import('../../protocol/ports/network.ts'),
    import('../serve.ts'),
  ])
  const found = await host.registry.cards(genesis, { signal }).catch(() => undefined)
  const peers = (found?.cards ?? []).filter(({ card }) => isInSwarm(card))
  await Promise.all(
    peers.slice(0, PEERS_TOLD).map(({ card }) => dial(host, card.addresses, signal)),
  )
  const { pubsub } = host.libp2p.services
  if (peers.length > 0) await subscribed(pubsub, topicOf(genesis))
  await pubsub.publish(topicOf(genesis), signed).catch(() => undefined)
}

/** Resolves when a peer that we are connected to listens to the topic, which it says after we met; or after the limit. */
function subscribed(pubsub: GossipSub, topic: string): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer)
      pubsub.removeEventListener('subscription-change', look)
      resolve()
    }
    const look = () => pubsub.getSubscribers(topic).length > 0 && over()
    const timer = setTimeout(over, SUBSCRIBED_LIMIT_MS)
    pubsub.addEventListener('subscription-change', look)
    look()
  })
}

async function stay(context: Context, host: Host, { cid, manifest }: Listed): Promise<void> {
  const { serve, untilReplicas } = await import('../serve.ts')
  const { replicas, serve: stays } = context.options
  if (replicas !== undefined) await untilReplicas(context, host, cid, replicas as number)
  else if (stays === true) await serve(context, host)
  else context.print.note(`keep it reachable with mlstore seed ${manifest.name}`)
}
