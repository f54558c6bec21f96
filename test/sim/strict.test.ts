import { expect, test } from 'vitest'
import { randomFrom } from '../../protocol/random.ts'
import { type Fleet, type FleetOptions, simulate } from './fleet.ts'

/** Short strict rounds of peers that share cores: each stands still now and then, for longer than a round takes. */
const BEGIN_MS = 3000
const [GAP_MS, STALL_MS] = [500, 150]
const ROUNDS = 16
const strict: Partial<FleetOptions> = {
  peers: 4,
  latencyMs: [3, 12],
  stepMs: [8, 14],
  peer: {
    strict: true,
    rounds: ROUNDS,
    paused: true,
    resumed: { steps: 0, rounds: 0, outcomes: [], adopt: false },
  },
}

/** All begin together, linked, and stall at random. Returns how often a round began before another peer's last was over. */
function stalling(fleet: Fleet, seed: number): { early: number } {
  const found = { early: 0 }
  const chance = randomFrom(seed)
  const drawn = (meanMs: number) => -Math.log(1 - chance()) * meanMs
  fleet.intercept = ({ peer }, effect) => {
    if (effect.type !== 'train') return true
    const others = fleet.members.filter(({ alive }) => alive)
    if (others.some((other) => other.peer.view.round < peer.view.round)) found.early += 1
    return true
  }
  fleet.runUntil(BEGIN_MS)
  for (const { index } of fleet.members) {
    fleet.tell(index, { type: 'resume' })
    for (let at = BEGIN_MS; at < 60_000; at += drawn(GAP_MS)) {
      const forMs = drawn(STALL_MS)
      fleet.at(at, () => fleet.freeze(index, forMs))
      at += forMs
    }
  }
  return found
}

test.each([1, 2, 3, 4, 5])('strict rounds keep in step though peers stall (seed %d)', (seed) => {
  const fleet = simulate({ ...strict, seed })
  const found = stalling(fleet, seed)
  fleet.runUntil(120_000)
  expect(fleet.members.map(({ peer }) => peer.view.round)).toEqual(Array(4).fill(ROUNDS))
  expect(fleet.members.map(({ stopped }) => stopped)).toEqual(Array(4).fill('budget'))
  expect(found.early).toBe(0)
  // Two swaps a round, and eight to settle.
  for (const { peer } of fleet.members) expect(peer.view.swaps).toBeGreaterThan(1.5 * ROUNDS + 8)
})

test('strict rounds go on in ten seconds past a peer that stands still for a minute', () => {
  const peer = { ...strict.peer, rounds: undefined }
  const fleet = simulate({ ...strict, seed: 1, peer })
  fleet.runUntil(BEGIN_MS)
  for (const { index } of fleet.members) fleet.tell(index, { type: 'resume' })
  fleet.runUntil(BEGIN_MS + 2000)
  fleet.freeze(3, 60_000)
  const others = fleet.members.slice(0, 3)
  fleet.runUntil(fleet.now + 10_000)
  const before = others.map(({ peer }) => peer.view.round)
  fleet.runUntil(fleet.now + 10_000)
  for (const [at, { peer }] of others.entries())
    expect(peer.view.round - before[at]!).toBeGreaterThan(8)
})

test('peers of which one is five times as slow all go on, and meet', () => {
  const fleet = simulate({ ...strict, seed: 2, stepMs: [5, 25] })
  fleet.runUntil(BEGIN_MS)
  for (const { index } of fleet.members) fleet.tell(index, { type: 'resume' })
  fleet.runUntil(120_000)
  expect(fleet.members.map(({ stopped }) => stopped)).toEqual(Array(4).fill('budget'))
  for (const { peer } of fleet.members) expect(peer.view.swaps).toBeGreaterThan(ROUNDS)
})

test('peers of which one is thirty times as slow wait for it at first, and then go at their own pace', () => {
  const peer = { ...strict.peer, rounds: undefined }
  const roundsIn10s = (slowest: number) => {
    const fleet = simulate({ ...strict, seed: 3, peer, stepMs: [5, 5] })
    fleet.members[3]!.stepMs = slowest
    fleet.runUntil(BEGIN_MS)
    for (const { index } of fleet.members) fleet.tell(index, { type: 'resume' })
    fleet.runUntil(BEGIN_MS + 20_000)
    const before = fleet.members[0]!.peer.view.round
    fleet.runUntil(fleet.now + 10_000)
    return fleet.members[0]!.peer.view.round - before
  }
  expect(roundsIn10s(150)).toBeGreaterThan(roundsIn10s(5) / 2)
})

test('two quick and two slow peers do not become two swarms: a slow one meets a quick one at least every other round', () => {
  const peer = { ...strict.peer, rounds: undefined }
  const fleet = simulate({ ...strict, seed: 4, peer, stepMs: [5, 5] })
  const slow = fleet.members.slice(2)
  for (const member of slow) member.stepMs = 150
  fleet.runUntil(BEGIN_MS)
  for (const { index } of fleet.members) fleet.tell(index, { type: 'resume' })
  fleet.runUntil(BEGIN_MS + 30_000)
  const quick = fleet.members.slice(0, 2)
  const across = () =>
    quick.flatMap(({ reports }) =>
      reports.filter((report) => report.ev === 'swap' && slow.some(({ id }) => id === report.with)),
    ).length
  const rounds = () => slow.reduce((sum, { peer }) => sum + peer.view.round, 0)
  const [swaps, done] = [across(), rounds()]
  fleet.runUntil(fleet.now + 30_000)
  expect(rounds()).toBeGreaterThan(done + 10)
  expect(across() - swaps).toBeGreaterThan((rounds() - done) / 2)
})

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'strict peers that end some rounds apart agree and leave within five seconds (seed %d)',
  (seed) => {
    const peer = { ...strict.peer, rounds: undefined }
    const fleet = simulate({ ...strict, seed, peers: 3, peer })
    fleet.runUntil(BEGIN_MS)
    for (const { index } of fleet.members) fleet.tell(index, { type: 'resume' })
    fleet.runUntil(BEGIN_MS + 5000)
    for (const { index } of fleet.members) {
      fleet.tell(index, { type: 'finish' })
      fleet.runUntil(fleet.now + 300)
    }
    const rounds = fleet.members.map(({ peer }) => peer.view.round)
    expect(Math.max(...rounds) - Math.min(...rounds)).toBeGreaterThan(0)
    fleet.runUntil(fleet.now + 5000)
    expect(fleet.members.map(({ stopped }) => stopped)).toEqual(Array(3).fill('finished'))
  },
)

test('who is done is not drawn to the data of one that trains on alone', () => {
  const peer = { ...strict.peer, rounds: 40 }
  const fleet = simulate({ ...strict, seed: 6, peers: 3, peer, stepMs: [10, 10] })
  const late = fleet.members[2]!
  fleet.runUntil(BEGIN_MS)
  for (const index of [0, 1]) fleet.tell(index, { type: 'resume' })
  while (fleet.members[0]!.peer.view.round < 20) fleet.runUntil(fleet.now + 100)
  fleet.tell(late.index, { type: 'resume' })
  fleet.runUntil(fleet.now + 120_000)
  expect(fleet.members.map(({ stopped }) => stopped)).toEqual(Array(3).fill('budget'))
  const middle = late.target.map((_, i) => {
    const all = fleet.members.map(({ target }) => target[i]!)
    return all.reduce((sum, value) => sum + value, 0) / all.length
  })
  const distance = (a: Float32Array, b: Float32Array) => Math.hypot(...a.map((x, i) => x - b[i]!))
  // Answered while it trained on, it drew all to 0.63 of the way.
  for (const { state } of fleet.members)
    expect(distance(state.params, middle)).toBeLessThan(distance(late.target, middle) / 2)
})
