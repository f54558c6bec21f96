import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Boundary } from './boundaries.ts'
import { boundaries, chosen, freezeBefore, isQuestion, nameOf, questions } from './every.ts'
import type { Trap } from './peer.ts'
import { type PeerProcess, type Said, STALL_MS, swarmOfProcesses, thawAt } from './swarm.ts'

/**
 * One side of a swap is killed at a message boundary. Three peers; two of them live on. What all held at the start,
 * what the victim held when it died and what the others hold now tell exactly what became of its last swap.
 */
const LIMIT_MS = 120_000
/** What float32 sums of 100,000 params lose over a run: far less than any swap here moves. */
const ROUNDING = 50
const LEAST_GAIN = 1_000

const swarm = await swarmOfProcesses()
let others: PeerProcess[]
let victims: Promise<PeerProcess>
/** What the others held together, and in doubt, after the last case. */
let held = { ledger: 0, inDoubt: 0 }

/** Its params are far from the others', so that its swaps move much. */
const newVictim = () => swarm.start('victim', { start: 3, drift: 4 })

beforeAll(async () => {
  others = [
    await swarm.start('a', { start: 1, drift: 1 }),
    await swarm.start('b', { start: -1, drift: -1 }),
  ]
  for (const peer of others) peer.tell({ word: 'join' })
  // Three swaps and deadlines follow what was measured, not what was planned.
  await Promise.all(others.map((peer) => peer.says('swap', ({ round }) => round! > 2)))
  held = await swarm.balance({ settled: true })
  victims = newVictim()
}, LIMIT_MS)
afterAll(() => swarm.end())

/**
 * What the victim's last swap did to the sum of params over the living: nothing, or as much as the victim would have
 * gained (+1) or has gained (-1) by it; and how many doubts the others are left with.
 */
const outcomes: Record<string, { moved: number; doubts: number }> = {
  'offerer hears READY': { moved: 0, doubts: 1 },
  'offerer sends COMMIT': { moved: -1, doubts: 1 },
  'accepter hears COMMIT': { moved: 1, doubts: 0 },
  'asker sends ASK': { moved: 1, doubts: 0 },
  'asker hears TOLD': { moved: 1, doubts: 0 },
  'asked hears ASK': { moved: -1, doubts: 1 },
  'asked sends TOLD': { moved: -1, doubts: 1 },
}

const some = [
  ...['offerer hears READY', 'offerer sends COMMIT'],
  ...['accepter hears COMMIT', 'asker sends ASK'],
]

test.each(chosen([...boundaries, ...questions], some))(
  'killed as %s',
  async (name, boundary) => {
    const { moved, doubts } = outcomes[name] ?? { moved: 0, doubts: 0 }
    const victim = await victims
    const last = await killAt(victim, boundary, moved === 0 ? 0 : LEAST_GAIN)
    victims = newVictim()
    await goOnWithout(last.t)
    const now = await swarm.balance({ settled: false })
    const before = held
    held = now
    const missing = before.ledger + victim.up.ledger! - last.ledger! - now.ledger
    if (moved !== 0) expect(Math.abs(last.gain!)).toBeGreaterThan(LEAST_GAIN)
    expect(Math.abs(missing - moved * (last.gain ?? 0))).toBeLessThan(ROUNDING)
    expect(now.inDoubt - before.inDoubt).toBe(doubts)
  },
  LIMIT_MS,
)

/** Joins and dies there, in a swap that moves more than `least`; gives its last words. */
async function killAt(victim: PeerProcess, boundary: Boundary, least: number) {
  const trap: Trap = { ...boundary, act: 'kill', least }
  const last = await (isQuestion(boundary) ? askFirst(victim, trap) : joinTill(victim, trap))
  expect(await victim.ended, nameOf(boundary)).toBe('SIGKILL')
  return last
}

async function joinTill(victim: PeerProcess, trap: Trap): Promise<Said> {
  const words = victim.says('trapped')
  victim.arm(trap)
  victim.tell({ word: 'join' })
  return words
}

/** It freezes for longer than its deadline. Paused, it begins no other swap before it asks. */
async function askFirst(victim: PeerProcess, trap: Trap): Promise<Said> {
  victim.tell({ word: 'join' })
  await victim.says('round', ({ round }) => round! > 3)
  const frozen = victim.says('trapped', ({ act }) => act === 'freeze')
  victim.arm({ ...freezeBefore(trap), least: trap.least! }, { ...trap, same: true })
  const thaw = thawAt(await frozen)
  await others[0]!.says('round', ({ t }) => t > thaw)
  const words = victim.says('trapped', ({ act }) => act === 'kill')
  victim.tell({ word: 'pause' })
  victim.child.kill('SIGCONT')
  return words
}

/** The others swap with each other, soon; a peer that ended would not. */
async function goOnWithout(since: number): Promise<void> {
  const swaps = await Promise.all(
    others.map((peer, i) => peer.says('swap', (said) => said.with === others[1 - i]!.up.peer)),
  )
  for (const { t } of swaps) expect(t - since).toBeLessThan(STALL_MS)
}
