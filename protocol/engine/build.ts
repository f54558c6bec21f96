/**
 * Compiles kernels/ to binaries/, once plain and once with relaxed SIMD: node protocol/engine/build.ts. The same sources and
 * compiler give the same bytes, so the binaries stand under version control and a test builds them again.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { main } from 'assemblyscript/asc'

const features = {
  plain: ['--enable', 'simd'],
  relaxed: ['--enable', 'simd', '--enable', 'relaxed-simd'],
} as const

/** Where the kernels' table of numbers lies: below what engine.ts gives out, or the compiler complains. */
const data = ['--memoryBase', '64', '--lowMemoryLimit', '4096']
const fixed = ['-O3', '--noAssert', '--runtime', 'stub', '--importMemory', '--outFile', 'out.wasm']

/** Both binaries' bytes. Throws what the compiler says. */
export async function build(): Promise<Record<keyof typeof features, Uint8Array>> {
  return { plain: await compileWith('plain'), relaxed: await compileWith('relaxed') }
}

async function compileWith(name: keyof typeof features): Promise<Uint8Array> {
  let binary: Uint8Array | undefined
  const { error, stderr } = await main(['index.ts', ...fixed, ...data, ...features[name]], {
    readFile,
    writeFile(_, contents) {
      binary = contents as Uint8Array
    },
    listFiles: () => [],
  })
  if (error || !binary) throw new Error(`${name}: ${stderr.toString() || error?.message}`)
  return binary
}

/** Our imports name the .ts file; the compiler adds those letters itself. */
function readFile(name: string): string | null {
  try {
    const text = readFileSync(new URL(name, new URL('./kernels/', import.meta.url)), 'utf8')
    return text.replace(/( from '\.\/[\w-]+)\.ts'/g, "$1'")
  } catch {
    return null
  }
}

if (import.meta.main) {
  for (const [name, bytes] of Object.entries(await build()))
    writeFileSync(new URL(`./binaries/${name}.wasm`, import.meta.url), bytes)
}
