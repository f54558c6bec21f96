/**
 * The Node we run on: one clear line, and exit code 1, when it is too old.
 *
 * Plain JavaScript that imports nothing new, because it runs on exactly the Nodes that cannot read the rest.
 * The npm scripts run it first; both bins import it first.
 */
import { existsSync } from 'node:fs'
import module from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'
import v8 from 'node:v8'

/** Helia's dependencies and unflagged type stripping need it; the same number stands in package.json's engines. */
const OLDEST = [22, 19]

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
  process.stderr.write(
    `ml-store: this is Node ${process.versions.node}, and ml-store needs Node ${OLDEST.join('.')} or newer. ` +
      'On Linux (x64, arm64) a clone brings its own: run "npm ci", then "npm start" or "npx mlstore". ' +
      'Elsewhere install Node 24 and try again.\n',
  )
  process.exit(1)
}

/**
 * Keeps compiled code in the user's own cache folder: a second start takes two thirds of the first one's time. Workers and
 * programs we start find it by the environment. Where nothing can be written there is none, without a word.
 */
function keepCompiled() {
  if (process.env.NODE_COMPILE_CACHE || process.env.NODE_DISABLE_COMPILE_CACHE) return
  try {
    const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'ml-store')
    const { directory } = module.enableCompileCache(folder)
    if (directory) process.env.NODE_COMPILE_CACHE = folder
  } catch {}
}

/**
 * Imports a bin's module: its source in a clone, its bundle in an installed package, which has no source.
 *
 * @param {URL} source the .ts file
 * @param {URL} bundle the .js file made from it by node/pack.ts
 */
export async function start(source, bundle) {
  // Young objects keep to 2 MB: V8 would take 64, and 32 more for the worker, to spare us a few per cent of time at the start.
  v8.setFlagsFromString('--semi-space-growth-factor=1')
  keepCompiled()
  await import((existsSync(source) ? source : bundle).href)
}
