/** Checks the types of the page's templates, with `vue-tsc`. It needs a TypeScript that is a JavaScript library: 7 is none. */
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const { run } = require('vue-tsc') as { run(tscPath: string): void }
process.argv.splice(2, Number.POSITIVE_INFINITY, '--noEmit')
run(require.resolve('typescript-6/lib/tsc'))
