import { expect, test } from 'vitest'
import { CARD_LIFETIME_MAX_MS, CARD_LIFETIME_MS } from '../../../protocol/message.ts'
import { cardEveryMs, cardLifetimeMs } from '../../../protocol/peer/lifetime.ts'
import { randomFrom } from '../../../protocol/random.ts'
import { cardOf, only, trainingPeer } from '../../support/peer.ts'

const MINUTE_MS = 60_000

test.each([
  [1, 1, 10],
  [60, 1, 10],
  [300, 5, 12.5],
  [480, 8, 20],
  [1000, 1000 / 60, 2500 / 60],
  [1200, 20, 50],
  [4096, 20, 50],
])('of %i peers each speaks every %f minutes and is believed %f', (peers, every, life) => {
  expect(cardEveryMs(peers)).toBeCloseTo(every * MINUTE_MS)
  expect(cardLifetimeMs(peers)).toBeCloseTo(life * MINUTE_MS)
  expect(cardLifetimeMs(peers)).toBeGreaterThanOrEqual(CARD_LIFETIME_MS)
  expect(cardLifetimeMs(peers)).toBeLessThanOrEqual(CARD_LIFETIME_MAX_MS)
  // The longest wait between two cards, twice: one may be lost.
  expect(cardLifetimeMs(peers)).toBeGreaterThanOrEqual(2 * 1.25 * cardEveryMs(peers))
})

test.each([1000, 1500])(
  'of %i peers nobody who lives is forgotten, though every other card is lost; the dead are, in 50 minutes',
  (peers) => {
    const swarm = listenTo(peers)
    swarm.runUntil(42 * MINUTE_MS)
    expect(swarm.count()).toBe(peers)
    swarm.runUntil(180 * MINUTE_MS)
    expect(swarm.least).toBe(peers)

    const dead = peers / 4
    swarm.kill(dead)
    swarm.runUntil(swarm.now + CARD_LIFETIME_MAX_MS + MINUTE_MS)
    expect(swarm.count()).toBe(peers - dead)
    swarm.runUntil(swarm.now + 120 * MINUTE_MS)
    expect(swarm.least).toBe(peers - dead)
  },
)

test.each([1, 10, 50])('a card of %i minutes is believed so long, and no longer', (minutes) => {
  const bench = trainingPeer({ swap: false }, [])
  bench.tell({ type: 'card', card: cardOf('a'), livesMs: minutes * MINUTE_MS })
  expect(counts(bench.wait(minutes * MINUTE_MS - 1))).toEqual([])
  expect(counts(bench.wait(2000))).toEqual([0])
})

/** A Peer that hears so many others, each of which speaks as one does that knows them all. */
function listenTo(peers: number) {
  const random = randomFrom(1)
  const bench = trainingPeer({ swap: false }, [])
  const jittered = (ms: number) => ms * (0.75 + 0.5 * random())
  const speakers = Array.from({ length: peers }, (_, index) => ({
    card: cardOf(`p${index}`),
    at: bench.now + 2 * cardEveryMs(peers) * random(),
    said: 0,
  }))
  let count = 0
  const look = (seen: number[]) => {
    for (const now of seen) {
      count = now
      swarm.least = Math.min(swarm.least, now)
    }
  }
  const swarm = {
    /** The fewest it knew of, since all were heard. */
    least: Number.POSITIVE_INFINITY,
    get now() {
      return bench.now
    },
    count: () => count,
    kill(dead: number) {
      speakers.splice(0, dead)
    },
    runUntil(ms: number) {
      swarm.least = count || Number.POSITIVE_INFINITY
      while (bench.now < ms) {
        look(counts(bench.wait(1000)))
        for (const speaker of speakers) {
          if (speaker.at > bench.now) continue
          speaker.at += jittered(cardEveryMs(peers))
          if (speaker.said++ % 2 > 0) continue
          const { card } = speaker
          look(counts(bench.tell({ type: 'card', card, livesMs: cardLifetimeMs(peers) })))
        }
      }
    },
  }
  return swarm
}

/** How many peers it said it knows. */
function counts(effects: Parameters<typeof only>[0]): number[] {
  return only(effects, 'report').flatMap(({ report }) =>
    report.ev === 'peers' ? [report.count] : [],
  )
}
