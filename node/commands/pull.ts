import { plain } from '../../protocol/ports/plain.ts'
import { type CommandSpec, shared } from '../command.ts'
import { fetchModel, withHost } from '../open.ts'
import { sizeText } from '../print.ts'

/** A version → a directory, as it was published. */
export const pull: CommandSpec = {
  arguments: '<model>',
  options: [
    { flags: '-o, --out <dir>', text: 'a new directory for it', required: true },
    shared.join,
    shared.home,
    shared.listen,
    shared.timeout,
  ],
  examples: ['mlstore pull digits -o ./digits', 'mlstore pull digits@1.2.0 -o ./digits-1.2.0'],
  async run(context) {
    const { args, options, print } = context
    const { requireAbsent, writeDirectory } = await import('../files.ts')
    const out = options.out as string
    await requireAbsent(out)
    await withHost(context, async (host) => {
      const { version } = await fetchModel(context, host, args[0] as string)
      const files = new Map<string, Uint8Array>()
      for (const path of await version.paths()) files.set(path, await version.read(path))
      await writeDirectory(out, files)
      const { name, version: number } = version.manifest
      const bytes = [...files.values()].reduce((sum, file) => sum + file.length, 0)
      print.answer({
        id: version.cid,
        object: { cid: version.cid, name, version: number, bytes, out },
        text: `${plain(name)}@${number} ${version.cid}: ${files.size} files, ${sizeText(bytes)}, in ${out}`,
      })
    })
  },
}
