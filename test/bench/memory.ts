import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import {
  readDigits,
  splitDigits,
  take,
  writeDigitsCsv,
  writeDigitsDraft,
} from '../../node/samples/digits.ts'
import { type Bench, type BenchOptions, columns, median, type Result, rounded } from './bench.ts'
import { endAll, mlstore, type Program, start } from './programs.ts'

/**
 * Resident memory, MB of 2^20 bytes: medians from the third to the tenth minute of programs that run side by side, all joined to
 * one that serves the model.
 */
export interface MemoryResult extends Result {
  /** A process with the libraries of a peer that is connected and nothing more: no model, no TensorFlow.js. */
  bareMB: number
  /** `mlstore seed`. */
  idleMB: number
  /** `mlstore train` on half of 8,000 digits, with a partner that has the other half. */
  trainingMB: number
  /** Of the partner, whose threads collect their garbage before it is looked at. */
  slopeMBPerHour: number
}

export const bench: Bench<MemoryResult> = {
  name: 'memory',
  reach: 'idle <= bare + 40 MB; training <= bare + 140 MB; growth <= 12 MB an hour',
  run,
  table: ({ bareMB, idleMB, trainingMB, slopeMBPerHour }) =>
    columns([
      ['bare MB', 'idle MB', '+', 'training MB', '+', 'MB an hour'],
      [
        bareMB,
        idleMB,
        rounded(idleMB - bareMB),
        trainingMB,
        rounded(trainingMB - bareMB),
        slopeMBPerHour,
      ],
    ]),
}

const WARM_UP_MS = 3 * 60_000
const WINDOW_MS = 7 * 60_000
const LOOK_EVERY_MS = 5000
const QUICK = { warmUpMs: 10_000, windowMs: 20_000, everyMs: 1000 }

const bareHost = fileURLToPath(new URL('./bare-host.ts', import.meta.url))
const collect = fileURLToPath(new URL('./collect.ts', import.meta.url))

async function run({ quick, say }: BenchOptions): Promise<MemoryResult> {
  const dir = await mkdtemp(join(tmpdir(), 'mlstore-memory-'))
  try {
    const programs = await startAll(dir)
    const spans = quick
      ? QUICK
      : { warmUpMs: WARM_UP_MS, windowMs: WINDOW_MS, everyMs: LOOK_EVERY_MS }
    return await watch(programs, spans, say)
  } finally {
    await endAll()
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

interface Programs {
  bare: Program
  idle: Program
  training: Program
  partner: Program
}

async function startAll(dir: string): Promise<Programs> {
  const { train, test } = splitDigits(await readDigits())
  const rows = Array.from({ length: train.size / 2 }, (_, row) => row)
  await writeDigitsDraft(join(dir, 'draft'), test)
  await writeDigitsCsv(join(dir, 'first.csv'), take(train, rows))
  await writeDigitsCsv(
    join(dir, 'second.csv'),
    take(
      train,
      rows.map((row) => row + rows.length),
    ),
  )
  const listen = ['--listen', '/ip4/127.0.0.1/tcp/0', '--json']
  const home = (name: string) => ['--home', join(dir, name)]
  const server = start([
    mlstore,
    'publish',
    join(dir, 'draft'),
    '--serve',
    ...home('server'),
    ...listen,
  ])
  const { cid, addresses: [address] = [] } = await server.says((line) => line.cid !== undefined)
  const peer = (name: string, args: string[], options: string[] = []) =>
    start([...options, mlstore, ...args, ...home(name), ...listen, '--join', address!])
  const programs = {
    bare: start([bareHost, join(dir, 'bare'), address!]),
    idle: peer('idle', ['seed', cid!]),
    training: peer('training', ['train', cid!, '--data', join(dir, 'first.csv')]),
    partner: peer(
      'partner',
      ['train', cid!, '--data', join(dir, 'second.csv')],
      ['--import', collect],
    ),
  }
  await Promise.all([
    programs.bare.says(({ ev }) => ev === 'connected'),
    programs.idle.says((line) => line.cid !== undefined),
    programs.training.says(({ ev }) => ev === 'swap'),
    programs.partner.says(({ ev }) => ev === 'swap'),
  ])
  return programs
}

async function watch(
  programs: Programs,
  { warmUpMs, windowMs, everyMs }: typeof QUICK,
  say: BenchOptions['say'],
): Promise<MemoryResult> {
  const seen = {
    bare: [] as number[],
    idle: [] as number[],
    training: [] as number[],
    partner: [] as number[],
  }
  const names = Object.keys(seen) as (keyof typeof seen)[]
  const hours: number[] = []
  const startedAt = performance.now()
  let saidAt = startedAt
  for (let now = startedAt; now < startedAt + warmUpMs + windowMs; now = performance.now()) {
    const looks = await Promise.all(names.map((name) => residentMB(programs[name].pid)))
    if (now >= startedAt + warmUpMs) {
      hours.push((now - startedAt) / 3_600_000)
      names.forEach((name, i) => seen[name].push(looks[i]!))
    }
    if (now - saidAt >= 10 * everyMs) {
      saidAt = now
      say(
        `${Math.round((now - startedAt) / 1000)} s: ${names.map((name, i) => `${name} ${Math.round(looks[i]!)}`).join(', ')} MB`,
      )
    }
    await sleep(everyMs)
  }
  return {
    bench: 'memory',
    bareMB: rounded(median(seen.bare)),
    idleMB: rounded(median(seen.idle)),
    trainingMB: rounded(median(seen.training)),
    slopeMBPerHour: rounded(slope(hours, seen.partner)),
  }
}

async function residentMB(pid: number): Promise<number> {
  const pages = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined)
  const kibibytes = pages
    ? /VmRSS:\s+(\d+)/.exec(pages)?.[1]
    : execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })
  return Number(kibibytes) / 1024
}

/** Of the line through the points that is nearest to them, by least squares. */
function slope(x: readonly number[], y: readonly number[]): number {
  const [meanX, meanY] = [x, y].map(
    (values) => values.reduce((sum, value) => sum + value, 0) / values.length,
  )
  const products = x.map((value, i) => (value - meanX!) * (y[i]! - meanY!))
  const squares = x.map((value) => (value - meanX!) ** 2)
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0)
  return sum(products) / sum(squares)
}
