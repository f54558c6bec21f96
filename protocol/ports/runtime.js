/**
 * The Node we run on: one clear line, and exit code 1, when it is too old.
 *
 * Plain JavaScript that imports nothing new, because it runs on exactly the Nodes that cannot read the rest.
 * The npm scripts run it first; both bins import it first.
 */
import { existsSync } from 'node:fs'

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
 * Imports a bin's module: its source in a clone, its bundle in an installed package, which has no source.
 *
 * @param {URL} source the .ts file
 * @param {URL} bundle the .js file made from it by node/pack.ts
 */
export async function start(source, bundle) {
  await import((existsSync(source) ? source : bundle).href)
}
