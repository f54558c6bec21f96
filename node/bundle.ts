import { copyFile, mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, extname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Plugin } from 'esbuild'

/** Also where Vitest runs this, which knows no import.meta.resolve. */
const require = createRequire(import.meta.url)

/** The project's folder, which paths of sources start from. */
export const root = fileURLToPath(new URL('..', import.meta.url))

/** A program's name in the bundle, and its source. */
export type Entries = Readonly<Record<string, string>>

/** The programs that are shipped: the two bins' modules and the workers. */
export const shipped: Entries = {
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

/**
 * Bundles programs into `folder`, which is emptied first, as JavaScript that needs only the two native packages, with every
 * WebAssembly binary beside them. Returns the files it was made of, binaries too, by their paths from the project's folder.
 *
 * Code is split into chunks, so that `mlstore --help` stays quick: a command's libraries load with the command.
 * All files lie flat, so what our sources find from their own address is found there too:
 *   new URL('./worker.ts', import.meta.url)       becomes ./worker.js; it must be one of `entries`
 *   new URL('../some/a.wasm', import.meta.url)    becomes ./a.wasm, which is copied
 *   import.meta.resolve('some-package/a.wasm')    becomes ./a.wasm, and all .wasm files of that folder are copied
 */
export async function bundle(entries: Entries, folder: string): Promise<string[]> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const copied = new Set<string>()
  const copy = async (path: string) => {
    copied.add(relative(root, path))
    await copyFile(path, join(folder, basename(path)))
  }
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
    plugins: [addresses(entries, copy)],
    metafile: true,
    logLevel: 'warning',
  })
  return [...Object.keys(metafile.inputs), ...copied]
}

/** Rewrites both kinds of address in our own sources. */
function addresses(entries: Entries, copy: (path: string) => Promise<void>): Plugin {
  const copyWasm = async (from: string) => {
    for (const name of await readdir(from)) {
      if (extname(name) === '.wasm') await copy(join(from, name))
    }
  }
  return {
    name: 'addresses',
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (relative(root, path).includes('node_modules')) return null
        const source = await readFile(path, 'utf8')
        for (const [, name] of source.matchAll(ownWasm)) {
          await copy(resolve(dirname(path), name!))
        }
        for (const [, name] of source.matchAll(packageUrl)) await copyWasm(dirname(fileOf(name!)))
        const contents = source
          .replace(ownUrl, (_, target) => {
            const name = entryOf(entries, resolve(dirname(path), target))
            return urlOf(`${name}.js`)
          })
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
  return require.resolve(name)
}

function entryOf(entries: Entries, path: string): string {
  const source = relative(root, path)
  const entry = Object.keys(entries).find((name) => entries[name] === source)
  if (entry === undefined)
    throw new Error(`${source} is started by its address but is no entry of the bundle`)
  return entry
}
