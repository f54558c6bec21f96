import { type CommandSpec, readCount, shared } from '../command.ts'
import { withHost } from '../open.ts'
import { sizeText } from '../print.ts'
import { serve, untilReplicas } from '../serve.ts'

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
      const { addListed, registriesText, untilListable } = await import('../list.ts')
      const owner = await host.home.ownerKey()
      const limits = { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }
      const files = await makeVersion(draft, owner.publicKey.toString(), limits)
      await untilListable(context, host)
      const { cid, genesis, manifest, registries } = await addListed(context, host, files)
      const { name, version } = manifest
      const bytes = [...files.values()].reduce((sum, file) => sum + file.length, 0)
      print.answer({
        id: cid,
        object: { cid, genesis, name, version, bytes, registries, addresses: host.addresses() },
        text: cid,
      })
      print.note(
        `published ${name}@${version}, ${sizeText(bytes)}, listed by ${registriesText(registries.length)}`,
      )
      if (options.replicas !== undefined)
        await untilReplicas(context, host, cid, options.replicas as number)
      else if (options.serve === true) await serve(context, host)
      else print.note(`nobody else holds it yet: keep it reachable with mlstore seed ${name}`)
    })
  },
}
