import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
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
/** In each of two homes: so many ends, or, when full, as many as it takes for 50 interrupts in both. */
const ENDS = 3
const FULL_INTERRUPTS = 25
const SWAPS_BEHIND = 20
/** Lines until the end comes: from its start to some seconds of training. */
const LINES = 25
/** The first of them makes the home's own folder, too, before anything is trained. */
const CALLS_OF_A_WRITE = 13
const load = new URL('./crash-fs.ts', import.meta.url).pathname

const all = await trainers()
const { cid } = all
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
    const ends: End[] = []
    const isEnough = () =>
      isFull
        ? ends.filter((end) => end === 'interrupted').length === FULL_INTERRUPTS
        : ends.length === ENDS
    while (!isEnough()) {
      const end = drawEnd(random)
      memory = await endOnce(name, end, random, memory)
      ends.push(end)
    }
    remembers(await trainsOn(name), memory)
  },
  LIMIT_MS,
)

/** Calls of a checkpoint's write: the worker's first, after 20 swaps or 10 s. */
const calls = Array.from({ length: CALLS_OF_A_WRITE - 1 }, (_, i) => i + 2)

test.concurrent.each(isFull ? calls : [4])(
  'a SIGINT in the midst of saving, at call %i, ends it in order, and the checkpoint is whole',
  async (call) => {
    const name = `saves-${call}`
    const env = { MLSTORE_CRASH: String(call), MLSTORE_CRASH_BY: 'SIGINT' }
    const trainer = all.train(name, { load, env })
    expect(await trainer.ended, trainer.complaints()).toBe(130)
    await savedAsItSaid(trainer)
    const [{ rounds }] = only(trainer.heard, 'stopped') as [Line & { rounds: number }]
    remembers(await trainsOn(name), { rounds, since: [] })
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

type End = 'interrupted' | 'killed' | 'crashes while saving'

function drawEnd(random: Random): End {
  const draw = random()
  return draw < 0.5 ? 'interrupted' : draw < 0.75 ? 'killed' : 'crashes while saving'
}

async function endOnce(name: string, how: End, random: Random, memory: Memory): Promise<Memory> {
  const env = { MLSTORE_CRASH: String(2 + Math.floor(random() * (CALLS_OF_A_WRITE - 1))) }
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
  const data = /^data .*$/m.exec(trainer.complaints())?.[0]
  if (data === undefined) return undefined
  const resumed = Number(/goes on from round (\d+)/.exec(data)?.[1] ?? 0)
  expect(resumed, `${trainer.name}: ${data}`).toBeGreaterThanOrEqual(rounds)
  const lost = only(since, 'swap').filter(({ round }) => round > resumed)
  expect(lost.length).toBeLessThanOrEqual(SWAPS_BEHIND)
  return resumed
}

test(
  'Ctrl-C ends the batch, says goodbye and saves; a second one stops now, and what was saved before is whole',
  async () => {
    const [polite, hasty] = [all.train('polite'), all.train('hasty')]
    await Promise.all([polite, hasty].map((trainer) => trainer.says('swap')))
    const goodbye = hasty.says('peers')
    polite.child.kill('SIGINT')
    expect(await polite.ended, polite.complaints()).toBe(130)
    await goodbye
    await savedAsItSaid(polite)
    const leaving = hasty.says('phase', (line) => line.ev === 'phase' && line.phase === 'leaving')
    hasty.child.kill('SIGINT')
    await leaving
    hasty.child.kill('SIGINT')
    expect(await hasty.ended).toBe(130)
    expectSound(hasty.heard, 130)
    await trainsOn('hasty')
  },
  LIMIT_MS,
)

async function savedAsItSaid({ heard, name }: Trainer): Promise<void> {
  expectSound(heard, 130)
  const [stopped] = only(heard, 'stopped')
  const checkpoint = join(all.homeOf(name), 'checkpoints', cid)
  expect(stopped).toMatchObject({ reason: 'interrupted', checkpoint })
  const phases = only(heard, 'phase').map(({ phase }) => phase)
  expect(phases.slice(-2)).toEqual(['leaving', 'stopped'])
  const size = tableModel().params.length / 4
  const saved = await readCheckpoint(checkpointFile(checkpoint), cid, size)
  expect(saved!.facts.rounds).toBeGreaterThanOrEqual(stopped!.rounds)
}
