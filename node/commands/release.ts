import { join } from 'node:path'
import { Fault } from '../../protocol/errors.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import type { StoredVersion } from '../../protocol/ports/store.ts'
import { type CommandSpec, type Context, readCount, shared } from '../command.ts'
import type { Host } from '../host.ts'
import { fetchModel, withHost } from '../open.ts'

/** The params in our checkpoint → a child version, listed as its model's newest; its CID on stdout. */
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
    const { args, options, print } = context
    await withHost(context, async (host) => {
      const { version: parent } = await fetchModel(context, host, String(args[0]))
      await requireOwner(host, parent.manifest)
      const genesis = parent.manifest.genesis ?? parent.cid
      const params = await trainedParams(host, genesis, parent)
      const metrics = await measured(context, parent, params)
      const number = nextVersion(parent.manifest.version, options.version as string | undefined)
      const { makeChild } = await import('../../protocol/ports/version.ts')
      const limits = { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }
      const source = { cid: parent.cid, files: parent, checked: parent.checked }
      const change = { version: number, params, ...(metrics && { metrics }) }
      const files = await makeChild(source, change, parent.manifest.owner, limits)
      const cid = await host.store.addVersion(files)
      const manifest = await host.store.fetchManifest(cid)
      const { listVersion } = await import('../list.ts')
      const { accepted, signed } = await listVersion(host, manifest, cid, context.signal)
      await host.announce({ cid, genesis })
      await gossip(host, genesis, signed)
      const { name, version } = manifest
      const object = { cid, genesis, name, version, metrics: metrics ?? null, registries: accepted }
      print.answer({ id: cid, object, text: cid })
      const score = metrics
        ? `, accuracy ${(100 * metrics.accuracy!).toFixed(1)} % on ${metrics.examples} examples`
        : ''
      print.note(`released ${name}@${version}${score}; listed by ${accepted.length} registries`)
      await stay(context, host, cid)
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

/** The params of our checkpoint, float32 little-endian in tensor order. */
async function trainedParams(
  host: Host,
  genesis: string,
  { manifest }: StoredVersion,
): Promise<Uint8Array> {
  const [{ checkpointFile }, { readCheckpoint }, { codecs, sizeOf }] = await Promise.all([
    import('../checkpoint.ts'),
    import('../../protocol/ports/trainer/checkpoint.ts'),
    import('../../protocol/index.ts'),
  ])
  const file = checkpointFile(join(host.home.checkpoints, genesis))
  const found = await readCheckpoint(file, genesis, sizeOf(manifest.tensors))
  const params = found?.arrays.params
  if (params) return codecs.float32.encode(params, manifest.tensors)
  throw new Fault({
    kind: 'not-found',
    type: 'no-checkpoint',
    message: `no checkpoint of ${manifest.name} in ${host.home.checkpoints}, expected the params that a run left there`,
    hint: `train it first: mlstore train ${manifest.name} --data PATH`,
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

function nextVersion(parent: string, asked: string | undefined): string {
  if (asked !== undefined) return asked
  const [major = 0, minor = 0] = parent.split('.').map((part) => Number.parseInt(part, 10))
  return `${major}.${minor + 1}.0`
}

/** Tells the swarm at once; whoever misses it learns of it from a registry. */
async function gossip(host: Host, genesis: string, signed: Uint8Array): Promise<void> {
  const { topicOf } = await import('../../protocol/ports/network.ts')
  const { pubsub } = host.libp2p.services
  pubsub.subscribe(topicOf(genesis))
  await pubsub.publish(topicOf(genesis), signed).catch(() => undefined)
}

async function stay(context: Context, host: Host, cid: string): Promise<void> {
  const { serve, untilReplicas } = await import('../serve.ts')
  const { replicas, serve: stays } = context.options
  if (replicas !== undefined) await untilReplicas(context, host, cid, replicas as number)
  else if (stays === true) await serve(context, host)
}
