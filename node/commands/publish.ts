import { Fault } from '../../protocol/errors.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { type CommandSpec, type Context, readCount, shared } from '../command.ts'
import type { Host } from '../host.ts'
import { withHost } from '../open.ts'
import { sizeText } from '../print.ts'
import { serve, untilReplicas } from '../serve.ts'

/** A listing must be accepted within this unless --timeout says otherwise. */
const LIST_LIMIT_MS = 30_000

/** A draft directory → a version in the store, a signed listing on every registry, its CID on stdout. */
export const publish: CommandSpec = {
  arguments: '<dir>',
  options: [
    shared.join,
    shared.home,
    shared.listen,
    { flags: '--serve', text: 'stay and serve it until Ctrl-C' },
    { flags: '--replicas <n>', text: 'stay until n other peers hold it', read: readCount(1) },
    {
      ...shared.timeout,
      text: 'how long to wait for the listing, or for the replicas (default 30s, 10m)',
    },
  ],
  examples: [
    'mlstore publish ./my-model --serve --join /ip4/192.0.2.1/tcp/4001/p2p/12D3...',
    'mlstore publish ./my-model --replicas 2 --timeout 10m',
  ],
  async run(context) {
    const { args, options, print } = context
    const { filesIn } = await import('../files.ts')
    const { makeVersion, readDraft } = await import('../../protocol/ports/version.ts')
    const draft = await readDraft(await filesIn(args[0] as string))
    await withHost(context, async (host) => {
      const owner = await host.home.ownerKey()
      const limits = { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }
      const files = await makeVersion(draft, owner.publicKey.toString(), limits)
      const { readManifest } = await import('../../protocol/manifest.ts')
      const manifest = readManifest(files.get('mlstore.json')!)
      const cid = await host.store.addVersion(files)
      const genesis = manifest.genesis ?? cid
      const registries = await list(context, host, manifest, cid)
      await host.announce({ cid, genesis })
      const { name, version } = manifest
      const bytes = [...files.values()].reduce((sum, file) => sum + file.length, 0)
      print.answer({
        id: cid,
        object: { cid, genesis, name, version, bytes, registries, addresses: host.addresses() },
        text: cid,
      })
      print.note(
        `published ${name}@${version}, ${sizeText(bytes)}, listed by ${registries.length} registries`,
      )
      if (options.replicas !== undefined)
        await untilReplicas(context, host, cid, options.replicas as number)
      else if (options.serve === true) await serve(context, host)
      else print.note(`nobody else holds it yet: keep it reachable with mlstore seed ${name}`)
    })
  },
}

/**
 * Signs a listing and puts it on every registry in reach; gives those that took it. A peer that stays to serve
 * answers the listing protocol itself, and needs no other.
 */
async function list(
  context: Context,
  host: Host,
  manifest: Manifest,
  cid: string,
): Promise<string[]> {
  const { options, print, signal } = context
  const { listVersion } = await import('../list.ts')
  const timeoutMs = (options.timeout as number | undefined) ?? LIST_LIMIT_MS
  const known =
    ((options.join as string[] | undefined) ?? []).length + host.home.config.peers.length
  if (known === 0 && options.serve !== true && options.replicas === undefined) {
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
  const { accepted } = await listVersion(host, manifest, cid, signal)
  return accepted
}
