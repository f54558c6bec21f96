import { describe, expect, test } from 'vitest'
import type { Card } from '../../../protocol/message.ts'
import {
  backOff,
  choose,
  hear,
  LINK_TARGET,
  type Links,
  linked,
  live,
  meanSteps,
  newLinks,
  succeeded,
  tend,
  unlinked,
  unreached,
} from '../../../protocol/peer/links.ts'
import { randomFrom } from '../../../protocol/random.ts'
import { cardOf } from '../../support/peer.ts'

const LIFETIME_MS = 600_000
const NONE = new Set<string>()
const random = () => randomFrom(1)

/** Cards of so many strangers. */
function knowing(count: number, changes: Partial<Card> = {}, links = newLinks()): Links {
  for (let index = 0; index < count; index++)
    hear(links, cardOf(`p${index}`, changes), 0, LIFETIME_MS)
  return links
}

describe('who can be swapped with', () => {
  test.each(['tcp', 'ws', 'webrtc', 'webrtc-direct', 'memory'] as const)(
    'a peer over %s',
    (path) => {
      const links = knowing(1)
      linked(links, 'p0', path, 0)
      expect(live(links).map(({ peer }) => peer)).toEqual(['p0'])
    },
  )

  test('never one behind a relay: params do not travel there', () => {
    const links = knowing(1)
    linked(links, 'p0', 'relay', 0)
    expect(live(links)).toEqual([])
    linked(links, 'p0', 'webrtc', 1)
    expect(live(links)).toHaveLength(1)
  })

  test.each(['seeding', 'leaving'] as const)('never one that is %s', (phase) => {
    const links = knowing(1)
    linked(links, 'p0', 'tcp', 0)
    expect(live(links)).toHaveLength(1)
    hear(links, cardOf('p0', { phase }), 0, LIFETIME_MS)
    expect(live(links)).toEqual([])
  })

  test('not one whose connection closed', () => {
    const links = knowing(2)
    linked(links, 'p0', 'tcp', 0)
    linked(links, 'p1', 'tcp', 0)
    unlinked(links, 'p0')
    expect(live(links).map(({ peer }) => peer)).toEqual(['p1'])
  })

  test('chance decides evenly among them', () => {
    const links = knowing(4)
    for (let index = 0; index < 4; index++) linked(links, `p${index}`, 'tcp', 0)
    const draw = random()
    const counts: Record<string, number> = {}
    for (let turn = 0; turn < 4000; turn++) {
      const { peer } = choose(links, draw, 0, NONE)!
      counts[peer] = (counts[peer] ?? 0) + 1
    }
    for (const count of Object.values(counts)) expect(Math.abs(count - 1000)).toBeLessThan(120)
  })

  test('who was tried or failed is passed over, twice as long each time, until it succeeds', () => {
    const links = knowing(1)
    linked(links, 'p0', 'tcp', 0)
    const draw = random()
    expect(choose(links, draw, 0, new Set(['p0']))).toBeUndefined()
    const waits: number[] = []
    for (let failure = 0; failure < 10; failure++) {
      backOff(links, 'p0', 0, draw)
      waits.push(links.known.get('p0')!.notBefore)
    }
    expect(waits[0]).toBeGreaterThanOrEqual(1000)
    expect(waits[3]).toBeGreaterThanOrEqual(8000)
    expect(waits[9]).toBeGreaterThanOrEqual(60_000)
    expect(waits[9]).toBeLessThanOrEqual(90_000)
    expect(choose(links, draw, 999, NONE)).toBeUndefined()
    succeeded(links, 'p0')
    backOff(links, 'p0', 0, draw)
    expect(links.known.get('p0')!.notBefore).toBeLessThanOrEqual(1500)
  })
})

describe('tending', () => {
  test(`strangers are dialled until there are ${LINK_TARGET} links`, () => {
    const links = knowing(30)
    const dialled = tend(links, 0, random())
    expect(dialled).toHaveLength(LINK_TARGET)
    for (const effect of dialled) if (effect.type === 'dial') linked(links, effect.peer, 'tcp', 0)
    expect(tend(links, 60_000, random())).toEqual([])
  })

  test('cards that come one by one lead to no more dials than that', () => {
    const links = newLinks()
    const draw = random()
    let dialled = 0
    for (let index = 0; index < 30; index++) {
      hear(links, cardOf(`p${index}`), 0, LIFETIME_MS)
      dialled += tend(links, 0, draw).length
    }
    expect(dialled).toBe(LINK_TARGET)
  })

  test('dials that take over three seconds are no longer counted on', () => {
    const links = knowing(30)
    const draw = random()
    tend(links, 0, draw)
    expect(tend(links, 2999, draw)).toEqual([])
    expect(tend(links, 3000, draw)).toHaveLength(LINK_TARGET)
  })

  test('a dial without answer is tried again after ten seconds, not before', () => {
    const links = knowing(1)
    const draw = random()
    expect(tend(links, 0, draw)).toHaveLength(1)
    expect(tend(links, 9999, draw)).toEqual([])
    expect(tend(links, 15_001, draw)).toHaveLength(1)
  })

  test('a dial that failed is tried again after one second, then after four, then after eight', () => {
    const links = knowing(1)
    const draw = random()
    const waits: number[] = []
    for (let now = 0, failedAt = 0; waits.length < 6 && now < 100_000; now += 100) {
      if (tend(links, now, draw).length === 0) continue
      waits.push(now - failedAt)
      failedAt = now
      unreached(links, 'p0', now)
    }
    expect(waits.slice(0, 4)).toEqual([0, 1000, 4000, 8000])
    for (const wait of waits.slice(4)) expect(wait).toBeLessThanOrEqual(10_100)
  })

  test('whoever failed long is left alone only while there is another to meet', () => {
    const failing = (count: number) => {
      const links = knowing(count)
      for (let index = 0; index < count; index++) linked(links, `p${index}`, 'tcp', 0)
      for (let failure = 0; failure < 8; failure++) backOff(links, 'p0', 0, random())
      tend(links, 0, random())
      return links.known.get('p0')!.notBefore
    }
    expect(failing(2)).toBeGreaterThanOrEqual(60_000)
    expect(failing(1)).toBe(10_000)
  })

  test('each five swaps one link is exchanged, if there are others', () => {
    const links = knowing(30)
    for (let index = 0; index < LINK_TARGET + 1; index++) linked(links, `p${index}`, 'tcp', 0)
    const draw = random()
    for (let swap = 0; swap < 4; swap++) succeeded(links, 'p0')
    expect(tend(links, 0, draw)).toEqual([])
    succeeded(links, 'p0')
    expect(tend(links, 0, draw).map(({ type }) => type)).toEqual(['dial', 'hang-up'])
    expect(tend(links, 0, draw)).toEqual([])
  })

  test('above its limit one link is given up at each look, and nobody dialled', () => {
    const links = knowing(30, { phase: 'training' }, newLinks(10))
    for (let index = 0; index < 12; index++) linked(links, `p${index}`, 'tcp', 0)
    const draw = random()
    for (let left = 12; left > 10; left--) {
      const [effect, ...more] = tend(links, 0, draw)
      expect(more).toEqual([])
      if (effect?.type !== 'hang-up') throw new Error(`expected to hang up, got ${effect?.type}`)
      unlinked(links, effect.peer)
    }
    expect(tend(links, 0, draw)).toEqual([])
    expect(live(links)).toHaveLength(10)
  })

  test('a newcomer is not hung up on', () => {
    const links = newLinks(9)
    for (let index = 0; index < 12; index++) linked(links, `p${index}`, 'tcp', 0)
    expect(tend(links, 0, random())).toEqual([])
  })

  test('a card without renewal is forgotten, a connected peer is not', () => {
    const links = knowing(2)
    linked(links, 'p0', 'tcp', 0)
    tend(links, LIFETIME_MS + 1, random())
    expect([...links.known.keys()]).toEqual(['p0'])
  })
})

describe('a flood of cards', () => {
  test('is kept up to 4,096 identities', () => {
    expect(knowing(10_000).known.size).toBe(4096)
  })

  test('pushes out nobody that we are connected to, and connected peers are still heard', () => {
    const links = newLinks()
    linked(links, 'friend', 'tcp', 0)
    for (let index = 0; index < 5000; index++) hear(links, cardOf(`p${index}`), 0, LIFETIME_MS)
    hear(links, cardOf('friend', { steps: 77 }), 0, LIFETIME_MS)
    linked(links, 'newcomer', 'tcp', 0)
    expect(links.known.get('friend')?.steps).toBe(77)
    expect(live(links).map(({ peer }) => peer)).toEqual(['friend', 'newcomer'])
  })
})

test('the mean of steps counts us and those who train, settle or are done', () => {
  const links = newLinks()
  const phases = ['training', 'settling', 'done', 'joining', 'seeding', 'leaving'] as const
  for (const phase of phases) hear(links, cardOf(phase, { phase, steps: 30 }), 0, LIFETIME_MS)
  expect(meanSteps(links, 10)).toBe((10 + 3 * 30) / 4)
})

test('a card never takes back steps that were said before', () => {
  const links = knowing(1, { steps: 50 })
  hear(links, cardOf('p0', { steps: 20 }), 1, LIFETIME_MS)
  expect(links.known.get('p0')!.steps).toBe(50)
})
