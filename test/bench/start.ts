import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  dealDigits,
  readDigits,
  splitDigits,
  writeDigitsCsv,
  writeDigitsDraft,
} from '../../node/samples/digits.ts'
import { type Bench, type BenchOptions, columns, median, type Result } from './bench.ts'
import { endAll, freePort, mlstore, start } from './programs.ts'

/**
 * From the start of a process to what its user waits for, in milliseconds. Everything has been started once before: files are
 * in the system's cache, compiled code in ours, and the version in the peer's blockstore.
 */
export interface StartResult extends Result {
  /** A process that imports libp2p with our transports, listens, and has dialled one peer. */
  bareMs: number
  /** `mlstore train NAME`: listening, subscribed, the version named by a peer and verified from the blockstore. */
  joinedMs: number
  /** From there to the first swap, with a peer that trains already. */
  firstSwapMs: number
  helpMs: number
}

export const bench: Bench<StartResult> = {
  name: 'start',
  reach: 'joined <= 1.5 x bare; first swap <= 3000 ms later; mlstore --help <= 200 ms',
  run,
  table: ({ bareMs, joinedMs, firstSwapMs, helpMs }) =>
    columns([
      ['bare ms', 'joined ms', 'x bare', 'first swap ms', 'help ms'],
      [bareMs, joinedMs, (joinedMs / bareMs).toFixed(2), firstSwapMs, helpMs],
    ]),
}

const TIMES = 7
const SWAP_TIMES = 5
const barePeer = fileURLToPath(new URL('./bare-peer.ts', import.meta.url))

async function run({ quick, say }: BenchOptions): Promise<StartResult> {
  const dir = await mkdtemp(join(tmpdir(), 'mlstore-start-'))
  try {
    return await measure(dir, quick, say)
  } finally {
    await endAll()
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

async function measure(
  dir: string,
  quick: boolean,
  say: BenchOptions['say'],
): Promise<StartResult> {
  const { train, test } = splitDigits(await readDigits())
  const [ours, theirs] = dealDigits(train, 2)
  await writeDigitsDraft(join(dir, 'draft'), test)
  await writeDigitsCsv(join(dir, 'ours.csv'), ours!)
  await writeDigitsCsv(join(dir, 'theirs.csv'), theirs!)
  // One port for both lives of the partner, so that one address finds it.
  const partner = [
    '--home',
    join(dir, 'partner'),
    '--listen',
    `/ip4/127.0.0.1/tcp/${await freePort()}`,
    '--json',
  ]

  say('publishing the model, and once through everything ...')
  const seeder = start([mlstore, 'publish', join(dir, 'draft'), '--serve', ...partner])
  const { cid, addresses: [address] = [] } = await seeder.says((line) => line.cid !== undefined)
  const bare = [barePeer, address!]
  const ownData = ['--data', join(dir, 'ours.csv'), '--fresh', '--json']
  const peer = ['--home', join(dir, 'peer'), '--listen', '/ip4/127.0.0.1/tcp/0', '--join', address!]
  const trainHere = [mlstore, 'train', 'digits', ...ownData, ...peer]
  await timed(bare, 'dialled')
  await timed(trainHere, 'joined')

  const all = {
    bare: [] as number[],
    joined: [] as number[],
    help: [] as number[],
    swap: [] as number[],
  }
  for (let i = 0; i < (quick ? 1 : TIMES); i++) {
    all.bare.push(await timed(bare, 'dialled'))
    all.joined.push(await timed(trainHere, 'joined'))
    all.help.push(await timed([mlstore, '--help']))
    say(`bare ${last(all.bare)} ms, joined ${last(all.joined)} ms, help ${last(all.help)} ms`)
  }
  await seeder.end()

  const partnerTrains = [mlstore, 'train', cid!, '--data', join(dir, 'theirs.csv'), ...partner]
  for (let i = 0; i < (quick ? 1 : SWAP_TIMES); i++) {
    all.swap.push(await toFirstSwap(partnerTrains, trainHere))
    say(`first swap ${last(all.swap)} ms after joining`)
  }
  return {
    bench: 'start',
    bareMs: Math.round(median(all.bare)),
    joinedMs: Math.round(median(all.joined)),
    firstSwapMs: Math.round(median(all.swap)),
    helpMs: Math.round(median(all.help)),
  }
}

/** Milliseconds from the start of a program to a line with `ev`, or to its end. It is ended either way. */
async function timed(args: string[], ev?: string): Promise<number> {
  const startedAt = performance.now()
  const program = start(args)
  if (ev === undefined) await program.ended
  else await program.says((line) => line.ev === ev)
  const took = performance.now() - startedAt
  await program.end()
  return took
}

/** A newcomer each time, and a partner that has not yet served one: it does so once in 30 s. */
async function toFirstSwap(partner: string[], newcomer: string[]): Promise<number> {
  const trainer = start(partner)
  await trainer.says(({ ev }) => ev === 'round')
  const program = start(newcomer)
  await program.says(({ ev }) => ev === 'joined')
  const joinedAt = performance.now()
  await program.says(({ ev }) => ev === 'swap')
  const took = performance.now() - joinedAt
  await program.end()
  await trainer.end()
  return took
}

function last(values: readonly number[]): number {
  return Math.round(values.at(-1)!)
}
