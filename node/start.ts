import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { constants } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Fault, faultFrom, type Report } from '../protocol/index.ts'
import {
  dealDigits,
  labelsOf,
  readDigits,
  splitDigits,
  take,
  writeDigitsCsv,
  writeDigitsDraft,
} from './samples/digits.ts'
import { block, fold, lines, newRow, type PeerRow, percent } from './start/block.ts'
import { buildPage, type ServedPage, servePage } from './start/page.ts'
import {
  failed,
  killAll,
  limited,
  type Program,
  run,
  start,
  stop,
  talking,
} from './start/processes.ts'

/**
 * `npm start`: a whole swarm on this machine, of real processes. A bootstrap, three peers that hold only some of the
 * digits each, the sample model published by the first; they train, swap, agree; the first releases what they found,
 * and a process that never trained measures it.
 */
const help = `npm start -- [options]

Starts a bootstrap and three peers on this machine; each holds only some of the ten digits.
They train the sample model "digits" together, and a release is made of what they found.

  --rounds N   rounds of training of each peer at least, then end (default: until
               Ctrl-C)
  --json       one JSON object at the end, on stdout
  --no-swap    the control: the same peers, each training alone
  --home DIR   where their homes and data are put (default: .mlstore/demo, emptied first)
  --help       this text

Ctrl-C ends the training, makes the release and prints its CID; once more, or before there is
anything trained, it stops at once.
`

const PEERS = 3
/** Digits kept for a fourth peer who joins from another terminal. */
const GUEST_DIGITS = 800
/** Off a terminal it is said this often how far they are. */
const LINE_EVERY_MS = 5000
const DRAW_EVERY_MS = 200
/** Programs dial the first, pages the second. */
const LISTEN = ['--listen', '/ip4/127.0.0.1/tcp/0', '--listen', '/ip4/127.0.0.1/tcp/0/ws']

interface Options {
  rounds: number | undefined
  json: boolean
  swap: boolean
  home: string
}

interface Demo extends Options {
  bootstrap: Program
  page: ServedPage
  address: string
  genesis: string
  shares: string[]
  rows: PeerRow[]
  startedAt: number
}

/** Of a model, on digits that no peer trained on; `alone` where it was measured what each reaches alone. */
interface Accuracy {
  alone: number | null
  local: number
  released: number
}

/** Aborts when the training is to end, with a release of what there is. */
const stopping = new AbortController()
/** Whether there is something trained that a release could be made of. */
let isTraining = false

async function main(): Promise<void> {
  const options = readOptions()
  if (!options) return
  const demo = await prepare(options)
  try {
    const accuracy = await trainAll(demo, options.swap)
    const seconds = (performance.now() - demo.startedAt) / 1000
    const releaser = release(demo)
    const cid = String((await firstLine(releaser)).cid)
    const released = await measure(demo, cid)
    const alone = options.swap ? await measureAlone(demo) : accuracy
    await stop(releaser)
    tellResult(demo, { alone, local: accuracy, released }, seconds, cid)
  } finally {
    demo.page.close()
    await stop(demo.bootstrap)
  }
}

function readOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string' },
      json: { type: 'boolean', default: false },
      'no-swap': { type: 'boolean', default: false },
      home: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(help)
    return undefined
  }
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds)
  if (rounds !== undefined && !(Number.isSafeInteger(rounds) && rounds > 0)) {
    throw usage(`--rounds got ${JSON.stringify(values.rounds)}, expected a whole number above 0`)
  }
  const home = values.home ?? fileURLToPath(new URL('../.mlstore/demo', import.meta.url))
  return { rounds, json: values.json, swap: !values['no-swap'], home }
}

// Preparing ------------------------------------------------------------------------------------------------------------

/** Deals the digits, starts the bootstrap, publishes the model. */
async function prepare(options: Options): Promise<Demo> {
  const { home } = options
  await emptied(home)
  const building = buildPage()
  building.catch(() => {}) // thrown below
  say('dealing 7,200 handwritten digits: each of three peers gets some of the ten ...')
  const { train, test } = splitDigits(await readDigits())
  const all = Array.from({ length: train.size }, (_, row) => row)
  const guest = take(train, all.slice(0, GUEST_DIGITS))
  const dealt = dealDigits(take(train, all.slice(GUEST_DIGITS)), PEERS)
  const shares = dealt.map((_, index) => join(home, `digits-${index + 1}.csv`))
  await Promise.all(dealt.map((digits, index) => writeDigitsCsv(shares[index]!, digits)))
  await writeDigitsCsv(join(home, 'digits-guest.csv'), guest)
  await writeDigitsDraft(join(home, 'draft'), test)
  const bootstrap = start('the bootstrap', 'bootstrap', [
    ...['--json', '--host', '127.0.0.1', '--ws', '0', '--tcp', '0', '--udp', '0', '--http', '0'],
    ...['--home', join(home, 'bootstrap')],
  ])
  const { tcp: address, ws } = await addressesOf(bootstrap)
  const publisher = start('mlstore publish', 'mlstore', [
    ...['publish', join(home, 'draft'), '--serve', '--json', '--join', address],
    ...['--home', join(home, 'peer-1'), ...LISTEN],
  ])
  const genesis = String((await firstLine(publisher)).cid)
  say(`published the model digits:\n  ${genesis}`)
  const rows = dealt.map((digits, index) => newRow(`peer-${index + 1}`, labelsOf(digits).join('')))
  await building
  const demo = {
    ...options,
    bootstrap,
    page: await servePage([ws]),
    address,
    genesis,
    shares,
    rows,
    startedAt: performance.now(),
  }
  await spread(demo)
  await stop(publisher)
  return demo
}

/** The other peers fetch the model from its publisher before any trains, so that all start together. */
async function spread({ address, genesis, home, rows }: Demo): Promise<void> {
  const seeders = rows
    .slice(1)
    .map(({ name }) =>
      start('mlstore seed', 'mlstore', [
        ...['seed', genesis, '--json', '--join', address],
        ...['--home', join(home, name), ...LISTEN],
      ]),
    )
  await Promise.all(seeders.map(firstLine))
  await Promise.all(seeders.map(stop))
}

/** The demonstration's own folder; anything else is left alone. */
async function emptied(home: string): Promise<void> {
  const marks = ['bootstrap', 'draft', 'digits-guest.csv']
  if (existsSync(home) && !marks.some((name) => existsSync(join(home, name)))) {
    const { readdir } = await import('node:fs/promises')
    if ((await readdir(home)).length > 0) {
      throw usage(
        `--home ${home} holds something else, expected an empty folder or one of an earlier npm start`,
      )
    }
  }
  await rm(home, { recursive: true, force: true })
  await mkdir(home, { recursive: true })
}

/** Where the bootstrap is reached by programs, and by pages. */
async function addressesOf(bootstrap: Program): Promise<{ tcp: string; ws: string }> {
  const read = async () => {
    for await (const said of bootstrap.lines) {
      const addresses = (said.addresses as string[] | undefined) ?? []
      const tcp = addresses.find((address) => /\/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\//.test(address))
      const ws = addresses.find((address) =>
        /\/ip4\/127\.0\.0\.1\/tcp\/\d+\/ws\/p2p\//.test(address),
      )
      if (tcp && ws) return { tcp, ws }
    }
    throw failed(bootstrap, await bootstrap.ended)
  }
  return limited(bootstrap, read())
}

// Training -------------------------------------------------------------------------------------------------------------

/** Trains all peers side by side; gives the mean accuracy of their own params at the end. */
async function trainAll(demo: Demo, swap: boolean): Promise<number> {
  const { json, rows, rounds } = demo
  if (swap) tellGuest(demo)
  isTraining = true
  demo.startedAt = performance.now()
  const peers = demo.shares.map((_, index) => startPeer(demo, index, swap, ''))
  // All stop training at one moment: whoever trained on alone would drag the others to its own digits.
  let isFinishing = false
  const onStop = () => {
    isFinishing = true
    for (const peer of peers) peer.tell('finish')
  }
  const onReport = (row: PeerRow, report: Report) => {
    fold(row, report)
    // The slowest counts: one that came up before the others may do dozens of short rounds alone.
    const slowest = Math.min(...rows.map(({ round }) => round))
    if (!isFinishing && swap && rounds !== undefined && slowest >= rounds) onStop()
  }
  stopping.signal.addEventListener('abort', onStop)
  const { default: logUpdate } = await import('log-update')
  const isLive = process.stderr.isTTY === true && !json
  const seconds = () => (performance.now() - demo.startedAt) / 1000
  const draw = () => {
    if (isLive) logUpdate(block(rows, seconds()))
    else say(lines(rows, seconds()))
  }
  const timer = setInterval(draw, isLive ? DRAW_EVERY_MS : LINE_EVERY_MS)
  try {
    return await meanOf(
      peers.map((peer, index) => follow(peer, (report) => onReport(rows[index]!, report))),
    )
  } finally {
    clearInterval(timer)
    stopping.signal.removeEventListener('abort', onStop)
    draw()
    if (isLive) logUpdate.done()
  }
}

function startPeer(
  { address, home, rounds, shares, genesis }: Demo,
  index: number,
  swap: boolean,
  suffix: string,
): Program {
  const name = `peer-${index + 1}${suffix}`
  return start(name, 'mlstore', [
    // The version by its CID: the control starts where the swarm did, not from the swarm's release.
    ...['train', genesis, '--json', '--data', shares[index]!, '--join', address],
    ...['--home', join(home, name), ...LISTEN, '--seed', String(index + 1)],
    // Three peers on one machine do not take its cores from each other.
    ...['--threads', '1'],
    // A peer of a swarm is told when to finish; one that trains alone counts for itself.
    ...(swap ? [] : ['--no-swap', ...(rounds === undefined ? [] : ['--rounds', String(rounds)])]),
  ])
}

/** Reads one peer's reports to its end; gives the last accuracy it measured, and its bytes through the row. */
async function follow(peer: Program, take: (report: Report) => void): Promise<number> {
  let accuracy: number | undefined
  let last: Record<string, unknown> = {}
  for await (const said of talking(peer)) {
    const report = said as unknown as Report
    take(report)
    if (report.ev === 'eval') accuracy = report.metrics.accuracy
    last = said
  }
  const code = await peer.ended
  if (code !== 0) throw failed(peer, code, last)
  if (accuracy === undefined) throw failed(peer, code, { message: 'it never measured its model' })
  return accuracy
}

async function meanOf(values: Promise<number>[]): Promise<number> {
  const all = await Promise.all(values)
  return all.reduce((sum, value) => sum + value, 0) / all.length
}

/**
 * The control: the same peers with the same data, seeds and rounds, each in a process that never averages; they fetch
 * the model from its owner. Nothing when nobody said how many rounds, or when it was called off.
 */
async function measureAlone(demo: Demo): Promise<number | null> {
  const { signal } = stopping
  if (demo.rounds === undefined || signal.aborted) return null
  say('what would each have reached alone? training the same peers without a swarm ...')
  const peers = demo.shares.map((_, index) => startPeer(demo, index, false, '-alone'))
  const giveUp = () => {
    for (const peer of peers) peer.kill()
  }
  if (signal.aborted) giveUp()
  signal.addEventListener('abort', giveUp)
  try {
    return await meanOf(peers.map((peer) => follow(peer, () => {})))
  } catch (error) {
    if (signal.aborted) return null
    throw error
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}

// Releasing --------------------------------------------------------------------------------------------------------------

/** The owner releases what it has, and serves it. */
function release({ address, home }: Demo): Program {
  say('releasing ...')
  return start('mlstore release', 'mlstore', [
    ...['release', 'digits', '--serve', '--json', '--join', address],
    ...['--home', join(home, 'peer-1'), ...LISTEN],
  ])
}

/** A process that never trained fetches the release, and says how good it is. */
async function measure({ address, home }: Demo, cid: string): Promise<number> {
  const measured = await run('mlstore eval', 'mlstore', [
    ...['eval', cid, '--json', '--join', address, '--home', join(home, 'visitor')],
  ])
  return (measured.metrics as { accuracy: number }).accuracy
}

/** The first thing a program says that is no progress. */
async function firstLine(program: Program): Promise<Record<string, unknown>> {
  const read = async () => {
    for await (const said of program.lines) {
      if (said.ev === 'failed') throw failed(program, Number(said.code), said)
      if (typeof said.cid === 'string') return said
    }
    throw failed(program, await program.ended)
  }
  return limited(program, read())
}

// Telling ----------------------------------------------------------------------------------------------------------------

function tellGuest({ address, home, page, genesis }: Demo): void {
  const data = relative(process.cwd(), join(home, 'digits-guest.csv'))
  const own = relative(process.cwd(), join(home, 'guest'))
  say(`\nJoin from a browser, and draw digits of your own:\n\n  ${page.address}#/m/${genesis}`)
  say('\nA fourth peer joins from another terminal, in this folder, with:\n')
  say(`  npx mlstore train digits --data ${data} \\\n    --home ${own} --join \\\n    ${address}\n`)
}

function tellResult(demo: Demo, accuracy: Accuracy, seconds: number, release: string): void {
  const { alone, local, released } = accuracy
  const bytesUp = demo.rows.reduce((sum, { up }) => sum + up, 0) / demo.rows.length
  const rounded = (value: number) => Number(value.toFixed(4))
  say(`\naccuracy on 500 digits that no peer trained on:`)
  if (demo.swap && alone !== null) say(`  each alone         ${percent(alone)}`)
  say(`  ${demo.swap ? 'each in the swarm ' : 'each alone        '} ${percent(local)}`)
  say(`  the release        ${percent(released)}   ${release}`)
  if (!demo.json) return
  const result = {
    peers: PEERS,
    rounds: roundsOf(demo),
    accuracy: {
      alone: alone === null ? null : rounded(alone),
      local: rounded(local),
      released: rounded(released),
    },
    bytesUpPerPeer: Math.round(bytesUp),
    seconds: Number(seconds.toFixed(1)),
    release,
  }
  process.stdout.write(`${JSON.stringify(result)}\n`)
}

/** Those that were asked for, where every peer did them; else what they did, on average. */
function roundsOf({ rows, rounds: asked }: Demo): number {
  const done = rows.map(({ round }) => round)
  if (asked !== undefined && Math.min(...done) >= asked) return asked
  return Math.round(done.reduce((sum, round) => sum + round, 0) / done.length)
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

function usage(message: string): Fault {
  return new Fault({
    kind: 'usage',
    type: 'usage',
    message,
    hint: 'npm start -- --help shows every option',
  })
}

function onSignal(name: 'SIGINT' | 'SIGTERM'): void {
  if (!isTraining) say('\nstopped before anything was trained')
  if (!isTraining || stopping.signal.aborted) process.exit(128 + constants.signals[name])
  say('\nstopping, with a release of what there is (Ctrl-C once more stops now)')
  stopping.abort()
}

process.on('SIGINT', onSignal)
process.on('SIGTERM', onSignal)
process.on('exit', killAll)

try {
  await main()
} catch (thrown) {
  const fault =
    thrown instanceof TypeError && 'code' in thrown ? usage(thrown.message) : faultFrom(thrown)
  say(`npm start: ${fault.message}${fault.detail.hint ? `; ${fault.detail.hint}` : ''}`)
  // Nobody else ends the programs and the page's server that are still there, and they would keep us.
  process.exit(fault.exitCode)
}
