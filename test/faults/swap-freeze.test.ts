import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { boundaries, chosen, freezeBefore, isQuestion, questions } from './every.ts'
import type { Trap } from './peer.ts'
import { type PeerProcess, type Said, STALL_MS, swarmOfProcesses, thawAt } from './swarm.ts'

/**
 * One side of a swap is stopped at a message boundary for longer than any deadline, or its connection is cut there,
 * and goes on afterwards: the sum of params over the three peers is what it was, to the last swap.
 */
const LIMIT_MS = 120_000
/** What float32 sums of 100,000 params lose over a run. */
const ROUNDING = 100

const swarm = await swarmOfProcesses()
let victim: PeerProcess
let others: PeerProcess[]
let total = 0

beforeAll(async () => {
  const [a, b, c] = [
    await swarm.start('a', { start: 1, drift: 1 }),
    await swarm.start('b', { start: -1, drift: -2 }),
    await swarm.start('victim', { start: 3, drift: 1 }),
  ]
  for (const peer of [a, b, c]) peer.tell({ word: 'join' })
  others = [a, b]
  victim = c
  await Promise.all([a, b, c].map((peer) => peer.says('swap', ({ round }) => round! > 2)))
  total = 300_000
}, LIMIT_MS)
afterEach(() => victim.child.kill('SIGCONT'))
afterAll(() => swarm.end())

const some = ['offerer sends COMMIT', 'accepter hears half the copy', 'asked sends TOLD']

test.each(chosen([...boundaries, ...questions], some))(
  'frozen as %s',
  async (_, boundary) => {
    const trap: Trap = { ...boundary, act: 'freeze' }
    if (isQuestion(boundary)) await thaw(freezeBefore(boundary), { ...trap, same: true })
    else await thaw(trap)
    const now = await swarm.balance({ settled: true })
    expect(Math.abs(now.ledger - total)).toBeLessThan(ROUNDING)
  },
  LIMIT_MS,
)

const cuts = ['accepter sends READY', 'offerer sends COMMIT']

test.each(chosen(boundaries, cuts))(
  'the line is cut as %s',
  async (_, boundary) => {
    const cut = victim.says('trapped')
    victim.arm({ ...boundary, act: 'cut' })
    const { with: partner } = await cut
    await victim.says('swap', (said) => said.with === partner)
    const now = await swarm.balance({ settled: true })
    expect(Math.abs(now.ledger - total)).toBeLessThan(ROUNDING)
  },
  LIMIT_MS,
)

test(
  'a slow peer swaps with the others and slows none of them',
  async () => {
    const slow = await swarm.start('slow', { start: 2, drift: 1, stepMs: 100 })
    total += slow.up.ledger!
    slow.tell({ word: 'join' })
    const swaps = [slow.says('swap'), others[0]!.says('swap', (said) => said.with === slow.up.peer)]
    for (const { t } of await Promise.all(swaps)) await goOnAfter(t)
    const now = await swarm.balance({ settled: true })
    expect(Math.abs(now.ledger - total)).toBeLessThan(ROUNDING)
    slow.tell({ word: 'leave' })
    expect(await slow.ended, slow.complaints()).toBe(0)
  },
  LIMIT_MS,
)

/** The others' rounds stay as short as they were: a quarter of a second, and the swaps in between. */
async function goOnAfter(since: number): Promise<void> {
  for (const peer of others) {
    const first = await peer.says('round', ({ t }) => t > since)
    const next = await peer.says('round')
    expect(next.t - first.t).toBeLessThan(STALL_MS)
  }
}

/** Freezes it at each trap in turn; the others go on meanwhile. */
async function thaw(...traps: Trap[]): Promise<void> {
  let frozen = victim.says('trapped')
  victim.arm(...traps)
  for (const trap of traps) {
    await goOn(await frozen)
    if (trap !== traps.at(-1)) frozen = victim.says('trapped')
    victim.child.kill('SIGCONT')
  }
}

/** It stays frozen until the others have trained for long, and have swapped with each other: they do not wait for it. */
async function goOn(frozen: Said): Promise<void> {
  const swaps = others.map((peer, i) =>
    peer.says('swap', (said) => said.with === others[1 - i]!.up.peer),
  )
  await Promise.all(others.map((peer) => peer.says('round', ({ t }) => t > thawAt(frozen))))
  for (const { t } of await Promise.all(swaps)) expect(t - frozen.t).toBeLessThan(STALL_MS)
}
