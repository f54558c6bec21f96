import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Fault, faultFrom } from '../../protocol/errors.ts'
import { type Cast, type Figures, figuresOf, play } from './play.ts'
import type { Scenario } from './scenarios/scenario.ts'
import { scenarios } from './scenarios/table.ts'

/** npm run sim: plays one scenario and prints what it came to beside the recorded baseline. */

const baselinesPath = new URL('./baselines.json', import.meta.url)
const SWAPS_PER_ROUND = 2
const defaults: Cast = { peers: 100, seed: 1, rounds: 30 }

const help = `npm run sim -- NAME [--peers N] [--seed S] [--rounds R] [--json] [--record]

Plays a scenario with the shipped Peer, aggregators, codecs and messages under virtual time, and prints
what it came to beside the recorded baseline. The same seed gives the same run to the last bit.

${scenarios.map(({ name, tells }) => `  ${name.padEnd(14)}${tells}`).join('\n')}

  --peers N     how many peers begin (${defaults.peers})
  --seed S      what chance follows from (${defaults.seed})
  --rounds R    rounds of about a second (${defaults.rounds})
  --json        one object on one line
  --record      keep the figures as the baseline of these arguments
`

const rows: [keyof Figures, string][] = [
  ['living', 'peers living at the end'],
  ['roundsEach', 'rounds of each, mean'],
  ['consensusDistance', 'consensus distance'],
  ['loss', 'distance to the mean target'],
  ['swapShare', 'share of possible swaps'],
  ['bytesPerRound', 'bytes up per peer and round'],
  ['swapsFailed', 'swaps failed'],
  ['inDoubt', 'swaps in doubt now'],
  ['lostDoubts', 'doubts given up'],
  ['fingerprint', 'fingerprint'],
]

try {
  main(process.argv.slice(2))
} catch (thrown) {
  const { message, detail, exitCode } = faultFrom(thrown)
  console.error(detail.hint ? `${message}: ${detail.hint}` : message)
  process.exitCode = exitCode
}

function main(argv: string[]): void {
  const { values, positionals } = parse(argv)
  if (values.help) return console.log(help)
  const scenario = scenarioOf(positionals)
  const cast: Cast = {
    peers: whole('peers', values.peers, 1),
    seed: whole('seed', values.seed, 0),
    rounds: whole('rounds', values.rounds, 1),
  }
  const started = performance.now()
  const figures = figuresOf(play(scenario, cast), SWAPS_PER_ROUND)
  const seconds = (performance.now() - started) / 1000
  const key = [scenario.name, cast.peers, cast.seed, cast.rounds].join(' ')
  const baselines: Record<string, Figures> = JSON.parse(readFileSync(baselinesPath, 'utf8'))
  const baseline = baselines[key]
  if (values.json)
    console.log(JSON.stringify({ scenario: scenario.name, ...cast, ...figures, baseline, seconds }))
  else print(figures, baseline)
  if (!values.record) return
  writeFileSync(baselinesPath, `${JSON.stringify({ ...baselines, [key]: figures }, null, 2)}\n`)
  console.error(`recorded as the baseline of "${key}"`)
}

function print(figures: Figures, baseline: Figures | undefined): void {
  console.log(`${''.padEnd(30)}${'now'.padStart(18)}${'baseline'.padStart(18)}`)
  for (const [key, name] of rows) {
    const before = baseline ? show(baseline[key]) : '-'
    console.log(`${name.padEnd(30)}${show(figures[key]).padStart(18)}${before.padStart(18)}`)
  }
}

function show(value: number | string): string {
  return typeof value === 'string' ? value : Number(value.toPrecision(4)).toString()
}

function scenarioOf(positionals: string[]): Scenario {
  const found = scenarios.find(({ name }) => name === positionals[0])
  if (found && positionals.length === 1) return found
  const names = scenarios.map(({ name }) => name).join(', ')
  throw wrong(
    `got ${JSON.stringify(positionals.join(' '))}, expected one scenario`,
    `choose of ${names}; --help says more`,
  )
}

function whole(option: string, value: string | undefined, least: number): number {
  const number = Number(value ?? defaults[option as keyof Cast])
  if (Number.isSafeInteger(number) && number >= least) return number
  throw wrong(`got --${option} ${value}, expected a whole number from ${least}`, '--help says more')
}

function parse(argv: string[]) {
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' },
        peers: { type: 'string' },
        seed: { type: 'string' },
        rounds: { type: 'string' },
        json: { type: 'boolean' },
        record: { type: 'boolean' },
      },
    })
  } catch (thrown) {
    throw wrong(faultFrom(thrown).message, '--help lists the options')
  }
}

function wrong(message: string, hint: string): Fault {
  return new Fault({ kind: 'usage', type: 'wrong-option', message, hint })
}
