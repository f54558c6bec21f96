import { type CommandSpec, readChoice, shared } from '../command.ts'
import { fetchModel, withHost } from '../open.ts'
import { sizeText } from '../print.ts'

/** The weights of a version in a form for use elsewhere. */
export const exportModel: CommandSpec = {
  arguments: '<model>',
  options: [
    { flags: '-o, --out <dir>', text: 'a new directory for it', required: true },
    {
      flags: '--format <name>',
      text: 'tfjs or safetensors (default tfjs)',
      read: readChoice(['tfjs', 'safetensors']),
    },
    shared.join,
    shared.home,
    shared.listen,
    shared.timeout,
  ],
  examples: [
    'mlstore export digits -o ./web',
    'mlstore export digits -o ./weights --format safetensors',
  ],
  async run(context) {
    const { args, options, print } = context
    const { requireAbsent, writeDirectory } = await import('../files.ts')
    const out = options.out as string
    const format = (options.format as string | undefined) ?? 'tfjs'
    await requireAbsent(out)
    await withHost(context, async (host) => {
      const { version } = await fetchModel(context, host, args[0] as string)
      const { manifest, topology, params, frozen } = version.checked
      const files = new Map<string, Uint8Array>()
      const copied =
        format === 'tfjs' ? ['model.json', ...topology.paths, 'labels.txt'] : ['labels.txt']
      for (const { path } of manifest.files)
        if (copied.includes(path)) files.set(path, await version.read(path))
      if (format === 'safetensors') {
        const { concat, writeSafetensors } = await import('../../protocol/ports/version.ts')
        const about = {
          format: 'tfjs',
          name: manifest.name,
          version: manifest.version,
          cid: version.cid,
        }
        const tensors = [...topology.tensors, ...topology.frozen]
        const bytes = concat([params, frozen])
        files.set('model.safetensors', writeSafetensors(tensors, bytes, about))
        files.set('model.json', await version.read('model.json'))
      }
      await writeDirectory(out, files)
      const bytes = [...files.values()].reduce((sum, file) => sum + file.length, 0)
      const paths = [...files.keys()]
      print.answer({
        id: out,
        object: {
          cid: version.cid,
          name: manifest.name,
          version: manifest.version,
          format,
          out,
          files: paths,
          bytes,
        },
        text: `${manifest.name}@${manifest.version} as ${format}: ${paths.join(', ')} (${sizeText(bytes)}) in ${out}`,
      })
    })
  },
}
