/**
 * Bundles what `npm pack` ships into dist/: the two bins' modules and the workers, as JavaScript that needs only the two
 * native packages, with every WebAssembly binary beside them. npm runs it before it packs (package.json, `prepack`).
 *
 * Code is split into chunks, so that `mlstore --help` stays quick: a command's libraries load with the command.
 * All files lie flat in dist/, so what our sources find from their own address is found there too:
 *   new URL('./worker.ts', import.meta.url)       becomes ./worker.js; it must be an entry below
 *   new URL('../some/a.wasm', import.meta.url)    becomes ./a.wasm, which is copied
 *   import.meta.resolve('some-package/a.wasm')    becomes ./a.wasm, and all .wasm files of that folder are copied
 */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, extname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Plugin } from 'esbuild'

/** A file's name in dist/, and its source. */
const entries: Record<string, string> = {
  cli: 'node/cli.ts',
  worker: 'node/worker.ts',
  helper: 'node/helper.ts',
  bootstrap: 'bootstrap/main.ts',
}

/** The packages with a native part: package.json's only dependencies, installed beside the bundle. */
const native = ['classic-level', 'node-datachannel', 'node-datachannel/polyfill']

/** Bundled CommonJS (TensorFlow.js, ws) asks for Node's modules, and for its own folder, in the old way. */
const banner = [
  "import { createRequire as requireFrom } from 'node:module'",
  'const require = requireFrom(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname',
].join('\n')

const ownUrl = /new URL\('(\.[^']+\.ts)', import\.meta\.url\)/g
const ownWasm = /new URL\('(\.[^']+\.wasm)', import\.meta\.url\)/g
const packageUrl = /import\.meta\.resolve\(\s*'([^']+)',?\s*\)/g

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = join(root, 'dist')

await rm(folder, { recursive: true, force: true })
await mkdir(folder)
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: entries,
  outdir: folder,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node22.19',
  mainFields: ['module', 'main'],
  external: native,
  banner: { js: banner },
  minifySyntax: true,
  minifyWhitespace: true,
  plugins: [addresses()],
  metafile: true,
  logLevel: 'warning',
})
await writeFile(join(folder, 'LICENSES.txt'), await licensesOf(Object.keys(metafile.inputs)))

/** Rewrites both kinds of address in our own sources. */
function addresses(): Plugin {
  return {
    name: 'addresses',
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (relative(root, path).includes('node_modules')) return null
        const source = await readFile(path, 'utf8')
        for (const [, name] of source.matchAll(ownWasm)) {
          await copyFile(resolve(dirname(path), name!), join(folder, basename(name!)))
        }
        for (const [, name] of source.matchAll(packageUrl)) await copyWasm(dirname(fileOf(name!)))
        const contents = source
          .replace(ownUrl, (_, target) => urlOf(`${entryOf(resolve(dirname(path), target))}.js`))
          .replace(ownWasm, (_, name) => urlOf(basename(name)))
          .replace(packageUrl, (_, name) => `${urlOf(basename(fileOf(name)))}.href`)
        if (contents.includes('import.meta.resolve('))
          throw new Error(`${path} resolves a computed name`)
        return { contents, loader: 'ts' }
      })
    },
  }
}

function urlOf(name: string): string {
  return `new URL('./${name}', import.meta.url)`
}

function fileOf(name: string): string {
  return fileURLToPath(import.meta.resolve(name))
}

function entryOf(path: string): string {
  const source = relative(root, path)
  const entry = Object.keys(entries).find((name) => entries[name] === source)
  if (entry === undefined)
    throw new Error(`${source} is started by its address but is no entry of node/pack.ts`)
  return entry
}

async function copyWasm(from: string): Promise<void> {
  for (const name of await readdir(from)) {
    if (extname(name) === '.wasm') await copyFile(join(from, name), join(folder, name))
  }
}

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
