import { expect, test } from 'vitest'
import { living, swapShare } from './metrics.ts'
import { play } from './play.ts'
import { steady } from './scenarios/steady.ts'

/** Rounds of about a second; one way takes 10 to 50 ms. */
const cases = [2, 3, 16].flatMap((peers) =>
  [1, 2].map((swapsPerRound) => ({ peers, swapsPerRound })),
)

test.each(cases)(
  '$peers peers make 80 % of the swaps their budget of $swapsPerRound has room for',
  ({ peers, swapsPerRound }) => {
    for (const seed of [1, 2, 3]) {
      const fleet = play(steady, { peers, seed, rounds: 25 }, { peer: { swapsPerRound } })
      expect(swapShare(fleet, swapsPerRound), `seed ${seed}`).toBeGreaterThan(0.8)
    }
  },
)

test('1,000 peers do, too, each with about eight links of its own making', () => {
  for (const swapsPerRound of [1, 2]) {
    const fleet = play(steady, { peers: 1000, seed: 1, rounds: 5 }, { peer: { swapsPerRound } })
    expect(swapShare(fleet, swapsPerRound)).toBeGreaterThan(0.8)
    const links = living(fleet).map(({ peer }) => peer.view.links)
    const mean = links.reduce((sum, count) => sum + count, 0) / links.length
    expect(mean).toBeGreaterThan(8)
    expect(mean).toBeLessThan(24)
  }
})

test('twice as far apart, with swaps that take half a round, they still make four in five', () => {
  const far = { latencyMs: [20, 100] } as const
  const fleet = play(steady, { peers: 100, seed: 1, rounds: 10 }, far)
  expect(swapShare(fleet, 2)).toBeGreaterThan(0.8)
})

test('as many bytes a peer and round at 4 peers as at 64', () => {
  const upPerRound = [4, 64].map((peers) => {
    const fleet = play(steady, { peers, seed: 2, rounds: 20 }, { peer: { swapsPerRound: 1 } })
    return (
      fleet.members.reduce((sum, { peer }) => sum + peer.view.bytesUp / peer.view.round, 0) / peers
    )
  })
  expect(upPerRound[1]! / upPerRound[0]!).toBeGreaterThan(0.8)
  expect(upPerRound[1]! / upPerRound[0]!).toBeLessThan(1.2)
})
