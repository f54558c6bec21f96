import type { CommandSpec } from '../command.ts'
import { sizeText } from '../print.ts'

/** A directory, judged as a peer would judge it: a version that was pulled, or a draft before it is published. */
export const check: CommandSpec = {
  arguments: '<dir>',
  examples: [
    'mlstore check ./my-model',
    'mlstore pull digits -o ./digits && mlstore check ./digits',
  ],
  async run({ args, print }) {
    const { filesIn } = await import('../files.ts')
    const { checkVersion, filesOf, makeVersion, readDraft } = await import(
      '../../protocol/ports/version.ts'
    )
    const { bytesOf, MANIFEST_FILE } = await import('../../protocol/manifest.ts')
    const { sizeOf } = await import('../../protocol/params.ts')
    const { memoryLimit } = await import('../memory.ts')
    const dir = args[0] as string
    const limits = { memoryBytes: memoryLimit(), batchSize: 1 }
    const given = await filesIn(dir)
    const isVersion = await hasFiles(given.read, MANIFEST_FILE)
    const files = isVersion
      ? given
      : filesOf(await makeVersion(await readDraft(given), someOwner, limits))
    const { manifest, topology } = await checkVersion(files, limits)
    const kind = isVersion ? 'version' : 'draft'
    const { name, version } = manifest
    print.answer({
      id: 'ok',
      object: {
        ok: true,
        kind,
        name,
        version,
        params: sizeOf(topology.tensors),
        memoryBytes: topology.demand.memoryBytes,
        bytes: bytesOf(manifest),
      },
      text: `ok: ${kind} ${name}@${version}, ${sizeOf(topology.tensors).toLocaleString('en')} params, ${sizeText(bytesOf(manifest))}, trains in about ${sizeText(topology.demand.memoryBytes)}`,
    })
  },
}

/** An owner for the check of a draft, whose real one publishing fills in. */
const someOwner = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'

/** A manifest that lists files is a version's; a draft's does not. */
async function hasFiles(
  read: (path: string) => Promise<Uint8Array>,
  path: string,
): Promise<boolean> {
  try {
    const manifest: unknown = JSON.parse(new TextDecoder().decode(await read(path)))
    return manifest instanceof Object && 'files' in manifest
  } catch {
    return true
  }
}
