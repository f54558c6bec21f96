import { parseArgs } from 'node:util'
import { Fault, faultFrom } from '../../protocol/errors.ts'
import { setup as makePrograms } from '../support/programs.ts'
import type { Bench, Result } from './bench.ts'

/** npm run bench: measures one figure of the README's table, or all, on this machine. */

/** Loaded when asked for: some bring a trainer or WebRTC along. */
const benches = {
  skew: () => import('./skew.ts'),
  bytes: () => import('./bytes.ts'),
  swap: () => import('./swap.ts'),
  overhead: () => import('./overhead.ts'),
  memory: () => import('./memory.ts'),
  start: () => import('./start.ts'),
  train: () => import('./train.ts'),
  browser: () => import('./browser.ts'),
  page: () => import('./page.ts'),
  crowd: () => import('./crowd.ts'),
  large: () => import('./large.ts'),
} as const
const names = Object.keys(benches) as (keyof typeof benches)[]

const help = `npm run bench -- NAME [--quick] [--json]

Measures one figure on this machine; without a name it says what each measures and what it is to reach.
Figures of a machine that does other things are provisional: compare what stands in one run only.

  NAME      one of ${names.join(', ')}, or all
  --quick   the smallest sizes, once each: shows that it works, says nothing about speed
  --json    the last line is one object (with all: one line each)

Progress goes to stderr, the figures to stdout.
`

try {
  await main(process.argv.slice(2))
  // A bench ends what it started; a library's timer must not keep us.
  process.exit()
} catch (thrown) {
  const { message, detail, exitCode, stack } = faultFrom(thrown)
  console.error(
    detail.hint ? `${message}: ${detail.hint}` : detail.kind === 'unexpected' ? stack : message,
  )
  process.exit(exitCode)
}

async function main(argv: string[]): Promise<void> {
  const { values, positionals } = parse(argv)
  if (values.help) return console.log(help)
  if (positionals.length === 0) return list()
  const options = { json: values.json ?? false, quick: values.quick ?? false, say: console.error }
  await makePrograms()
  for (const name of namesIn(positionals)) {
    const bench = await load(name)
    const result = await bench.run(options)
    console.log(
      options.json
        ? JSON.stringify(result)
        : `${bench.name}: ${bench.reach}\n${bench.table(result)}`,
    )
  }
}

async function list(): Promise<void> {
  for (const name of names) console.log(`${name.padEnd(10)}${(await load(name)).reach}`)
}

async function load(name: keyof typeof benches): Promise<Bench> {
  const { bench } = await benches[name]()
  return bench as Bench<Result>
}

function namesIn(positionals: string[]): readonly (keyof typeof benches)[] {
  const [first, ...more] = positionals
  if (first === 'all' && more.length === 0) return names
  const found = names.find((name) => name === first)
  if (found && more.length === 0) return [found]
  throw wrong(
    `got ${JSON.stringify(positionals.join(' '))}, expected one bench`,
    `choose of ${names.join(', ')} and all; --help says more`,
  )
}

function parse(argv: string[]) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' },
        quick: { type: 'boolean' },
        json: { type: 'boolean' },
      },
    })
  } catch (thrown) {
    throw wrong(faultFrom(thrown).message, '--help lists the options')
  }
}

function wrong(message: string, hint: string): Fault {
  return new Fault({ kind: 'usage', type: 'wrong-option', message, hint })
}
