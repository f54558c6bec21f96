import { describe, expect, test } from 'vitest'
import { simulate } from './fleet.ts'
import { consensusDistance, distanceFrom, living, loss } from './metrics.ts'
import { play } from './play.ts'
import { churn } from './scenarios/churn.ts'
import { lateJoiners } from './scenarios/late-joiners.ts'
import { partition } from './scenarios/partition.ts'
import { everyday } from './scenarios/scenario.ts'
import { steady } from './scenarios/steady.ts'

describe.each(['swap', 'mean'] as const)('under the rule %s', (rule) => {
  test('peers that train on different data end near what they could agree on', () => {
    const cast = { peers: 16, seed: 1, rounds: 30 }
    const together = play(steady, cast, { rule })
    const alone = play(steady, cast, { rule, peer: { swap: false } })
    expect(loss(living(together))).toBeLessThan(loss(living(alone)) / 8)
  })

  test('a fleet ends its budget, settles, agrees and stops by itself', () => {
    const peer = { ...everyday.peer, rounds: 6 }
    const fleet = simulate({ ...everyday, peers: 8, seed: 2, rule, peer })
    fleet.runRounds(6)
    const before = consensusDistance(fleet.members)
    fleet.runUntil(fleet.now + 120_000)
    expect(fleet.members.map(({ stopped }) => stopped)).toEqual(Array(8).fill('budget'))
    expect(consensusDistance(fleet.members)).toBeLessThan(before / 20)
    expect(fleet.now).toBeLessThan(60_000)
  })
})

test('peers that stand still shrink their consensus distance a hundredfold in 15 rounds', () => {
  const resumed = { steps: 1, rounds: 0, outcomes: [], adopt: false }
  const still = { learningRate: 0, momentum: 0, spread: 1, codec: 'float32' } as const
  const fleet = simulate({
    ...everyday,
    ...still,
    peers: 64,
    seed: 3,
    peer: { ...everyday.peer, resumed },
  })
  const before = consensusDistance(fleet.members)
  fleet.runRounds(15)
  expect(consensusDistance(fleet.members)).toBeLessThan(before / 100)
})

test('newcomers under churn end as near the swarm as those who stayed', () => {
  const fleet = play(churn, { peers: 40, seed: 4, rounds: 40 })
  const members = living(fleet)
  const newcomers = members.filter(({ index, peer }) => index >= 40 && peer.view.round >= 3)
  const stayed = members.filter(({ index }) => index < 40)
  expect(newcomers.length).toBeGreaterThan(8)
  const mean = (list: typeof members) =>
    list.reduce((sum, member) => sum + distanceFrom(member, members), 0) / list.length
  expect(mean(newcomers)).toBeLessThan(1.5 * mean(stayed))
})

test('a late joiner takes over the state of a peer: it is near before its first step', () => {
  const fleet = play(lateJoiners, { peers: 8, seed: 5, rounds: 20 })
  const late = fleet.members.filter(({ index }) => index >= 8)
  expect(late).toHaveLength(4)
  for (const { peer } of late) expect(peer.view.steps).toBeGreaterThan(peer.view.round * 40)
  const members = living(fleet)
  for (const member of late) {
    expect(distanceFrom(member, members)).toBeLessThan(4 * consensusDistance(members))
  }
})

test('halves of a parted swarm go on, and come together again when they meet', () => {
  const cast = { peers: 16, seed: 6, rounds: 30 }
  const fleet = play(partition, cast)
  const whole = play(steady, cast)
  expect(consensusDistance(living(fleet))).toBeLessThan(3 * consensusDistance(living(whole)))
  expect(Math.min(...living(fleet).map(({ peer }) => peer.view.links))).toBeGreaterThan(2)
})

test('one peer alone trains on, and says so', () => {
  const fleet = play(steady, { peers: 1, seed: 7, rounds: 10 })
  const [only] = fleet.members
  expect(only!.peer.view.round).toBeGreaterThan(8)
  const phases = only!.reports.flatMap((report) => (report.ev === 'phase' ? [report.phase] : []))
  expect(phases).toContain('training-alone')
})
