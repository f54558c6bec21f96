import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundle, root, shipped } from '../../node/bundle.ts'

/**
 * The programs that tests start, bundled as npm ships them: from the sources a start takes 1.6 times the CPU time. They lie beside
 * dist/, where package.json and packages are found, and are made anew when a file that they are made of has changed.
 */
const folder = join(root, 'dist-test')
const stampFile = join(folder, 'made-of.json')
/** What decides how they are made. */
const makers = ['node/bundle.ts', 'test/support/programs.ts', 'package-lock.json']
const entries = { ...shipped, 'fault-peer': 'test/faults/peer.ts' }

/** Times of change, by paths from the project's folder. */
type Stamp = Record<string, number>

/** The file of one of them. */
export function program(name: 'cli' | 'bootstrap' | 'fault-peer'): string {
  return join(folder, `${name}.js`)
}

/** Once for a run of tests, before any of them: see vitest.config.ts. */
export async function setup(): Promise<void> {
  if (await isFresh()) return
  const inputs = await bundle(entries, folder)
  const stamp = await stampOf([...inputs, ...makers])
  await writeFile(stampFile, JSON.stringify(stamp))
}

async function isFresh(): Promise<boolean> {
  try {
    const made = JSON.parse(await readFile(stampFile, 'utf8')) as Stamp
    const now = await stampOf(Object.keys(made))
    return Object.entries(made).every(([path, time]) => now[path] === time)
  } catch {
    return false
  }
}

async function stampOf(paths: string[]): Promise<Stamp> {
  const times = paths.map(async (path) => [path, (await stat(join(root, path))).mtimeMs] as const)
  return Object.fromEntries(await Promise.all(times))
}
