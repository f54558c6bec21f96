/** Bundles what `npm pack` ships into dist/, with the licences. npm runs it before it packs (package.json, `prepack`). */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundle, root, shipped } from './bundle.ts'

const folder = join(root, 'dist')
const inputs = await bundle(shipped, folder)
await writeFile(join(folder, 'LICENSES.txt'), await licensesOf(inputs))

/** The licence texts of the packages whose code is in the bundle, as their licences ask. */
async function licensesOf(inputs: string[]): Promise<string> {
  const packages = inputs.flatMap(
    (path) => path.match(/^.*node_modules\/(@[^/]+\/)?[^/]+/)?.[0] ?? [],
  )
  const texts = [...new Set(packages)].sort().map(async (path) => {
    const { name, version, license } = JSON.parse(
      await readFile(join(root, path, 'package.json'), 'utf8'),
    )
    const files = (await readdir(join(root, path))).filter((file) => /^licen[cs]e/i.test(file))
    const notices = files.map((file) => readFile(join(root, path, file), 'utf8'))
    return [`${name} ${version} (${license})`, ...(await Promise.all(notices))].join('\n\n')
  })
  return `${(await Promise.all(texts)).join('\n\n---\n\n')}\n`
}
