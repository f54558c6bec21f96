import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkpointFile } from '../../node/checkpoint.ts'
import { readCheckpoint } from '../../protocol/ports/trainer/checkpoint.ts'
import { type Random, randomFrom } from '../../protocol/random.ts'
import { tableModel } from '../support/versions.ts'
import { isFull } from './every.ts'
import { expectSound, type Line, only } from './lines.ts'
import { type Trainer, trainers } from './trainers.ts'

/**
 * A training process is interrupted, killed, or dies in the midst of writing its checkpoint, at moments drawn from a
 * seed, over and over in one home: each start goes on at most 20 swaps behind, and never from a torn state.
 */
const LIMIT_MS = isFull ? 20 * 60_000 : 180_000
/** In each of two homes. */
const ENDS = isFull ? 25 : 5
const SWAPS_BEHIND = 20
/** Lines until the end comes: from its start to some seconds of training. */
const LINES = 40
const CALLS_OF_A_WRITE = 13

const all = await trainers()
const { cid } = all
let steady: Trainer

beforeAll(async () => {
  steady = all.train('steady')
  await steady.says('round')
}, LIMIT_MS)
afterAll(() => all.end())

/** What a home must remember at its next start. */
interface Memory {
  /** At least this round. */
  rounds: number
  /** What it did since, if it did not end in order: no more than so many swaps of it are lost. */
  since: readonly Line[]
}

test.concurrent.each([
  ['one', 1],
  ['two', 2],
])(
  'home %s goes on where it was, whatever ended it',
  async (name, seed) => {
    const random = randomFrom(seed)
    let memory: Memory = { rounds: 0, since: [] }
    for (let i = 0; i < ENDS; i++) memory = await endOnce(name, random, memory)
    remembers(await trainsOn(name), memory)
  },
  LIMIT_MS,
)

/** Starts again, trains a round, and leaves as it should. */
async function trainsOn(name: string): Promise<Trainer> {
  const trainer = all.train(name)
  await trainer.says('round')
  trainer.child.kill('SIGINT')
  expect(await trainer.ended, trainer.complaints()).toBe(130)
  expectSound(trainer.heard, 130)
  return trainer
}

async function endOnce(name: string, random: Random, memory: Memory): Promise<Memory> {
  const draw = random()
  const how = draw < 0.5 ? 'interrupted' : draw < 0.75 ? 'killed' : 'crashes while saving'
  // The first call of all makes the home's own folder, before anything is trained.
  const env = { MLSTORE_CRASH: String(2 + Math.floor(random() * (CALLS_OF_A_WRITE - 1))) }
  const load = new URL('./crash-fs.ts', import.meta.url).pathname
  const trainer = all.train(name, how === 'crashes while saving' ? { load, env } : {})
  await trainer.saysLines(1 + Math.floor(random() * LINES))
  trainer.child.kill(how === 'killed' ? 'SIGKILL' : 'SIGINT')
  const end = await trainer.ended
  const resumed = remembers(trainer, memory) ?? memory.rounds
  if (end === 'SIGKILL') return { rounds: resumed, since: [...memory.since, ...trainer.heard] }
  expect(end, trainer.complaints()).toBe(130)
  expectSound(trainer.heard, 130)
  const [stopped] = only(trainer.heard, 'stopped')
  return stopped ? { rounds: stopped.rounds, since: [] } : { ...memory, rounds: resumed }
}

/** The round it went on from, held against what it must remember; undefined when its end came before it said so. */
function remembers(trainer: Trainer, { rounds, since }: Memory): number | undefined {
  const device = /^device .*$/m.exec(trainer.complaints())?.[0]
  if (device === undefined) return undefined
  const resumed = Number(/goes on from round (\d+)/.exec(device)?.[1] ?? 0)
  expect(resumed, `${trainer.name}: ${device}`).toBeGreaterThanOrEqual(rounds)
  const lost = only(since, 'swap').filter(({ round }) => round > resumed)
  expect(lost.length).toBeLessThanOrEqual(SWAPS_BEHIND)
  return resumed
}

test(
  'Ctrl-C ends the batch, says goodbye and saves; its code is 130',
  async () => {
    const trainer = all.train('polite')
    await trainer.says('swap')
    const goodbye = steady.says('peers')
    trainer.child.kill('SIGINT')
    expect(await trainer.ended, trainer.complaints()).toBe(130)
    await goodbye
    expectSound(trainer.heard, 130)
    const [stopped] = only(trainer.heard, 'stopped')
    const checkpoint = join(all.homeOf('polite'), 'checkpoints', cid)
    expect(stopped).toMatchObject({ reason: 'interrupted', checkpoint })
    const phases = only(trainer.heard, 'phase').map(({ phase }) => phase)
    expect(phases.slice(-2)).toEqual(['leaving', 'stopped'])
    const saved = await readCheckpoint(checkpointFile(checkpoint), cid, tableModel().params.length / 4)
    expect(saved!.facts.rounds).toBeGreaterThanOrEqual(stopped!.rounds)
  },
  LIMIT_MS,
)

test(
  'a second Ctrl-C stops now, and what was saved before is whole',
  async () => {
    const trainer = all.train('hasty')
    await trainer.says('round')
    const leaving = trainer.says('phase', (line) => line.ev === 'phase' && line.phase === 'leaving')
    trainer.child.kill('SIGINT')
    await leaving
    trainer.child.kill('SIGINT')
    expect(await trainer.ended).toBe(130)
    await trainsOn('hasty')
  },
  LIMIT_MS,
)
