import { expect, test } from 'vitest'
import { integerBelow, normal, pick, randomFrom, shuffle } from '../../protocol/random.ts'

const DRAWS = 20_000

test('one seed gives one sequence, for good', () => {
  const random = randomFrom(1)
  expect([random(), random(), random()].map((value) => Math.floor(value * 2 ** 32))).toEqual([
    2_420_951_833, 2_513_034_076, 3_847_892_949,
  ])
})

test('neighbouring seeds, and seeds beyond 32 bits, give different sequences', () => {
  const seeds = [0, 1, 2, -1, 2 ** 32, 2 ** 32 + 1, 2 ** 52]
  expect(new Set(seeds.map((seed) => randomFrom(seed)())).size).toBe(seeds.length)
})

test('draws are uniform in [0, 1)', () => {
  const random = randomFrom(3)
  const bins = new Array<number>(10).fill(0)
  for (let draw = 0; draw < DRAWS; draw++) {
    const bin = Math.floor(random() * 10)
    bins[bin]! += 1
  }
  // Chi-squared with 9 degrees of freedom: 27.9 is its 99.9 % point.
  const expected = DRAWS / 10
  const chi = bins.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
  expect(chi).toBeLessThan(27.9)
})

test('integers lie below their bound, and each occurs', () => {
  const random = randomFrom(4)
  const seen = new Set(Array.from({ length: 1000 }, () => integerBelow(random, 7)))
  expect([...seen].toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6])
})

test('normal draws have mean 0 and variance 1, and are finite', () => {
  const random = randomFrom(5)
  const draws = Array.from({ length: DRAWS }, () => normal(random))
  const mean = draws.reduce((sum, value) => sum + value, 0) / DRAWS
  const variance = draws.reduce((sum, value) => sum + value * value, 0) / DRAWS
  expect(Math.abs(mean)).toBeLessThan(0.03)
  expect(Math.abs(variance - 1)).toBeLessThan(0.05)
  expect(draws.every(Number.isFinite)).toBe(true)
})

test('a shuffle keeps every element, and every order is as likely', () => {
  const random = randomFrom(6)
  const counts = new Map<string, number>()
  for (let turn = 0; turn < 6000; turn++) {
    const order = shuffle(random, [1, 2, 3]).join('')
    counts.set(order, (counts.get(order) ?? 0) + 1)
  }
  expect(counts.size).toBe(6)
  for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(120)
})

test('a shuffle works on typed arrays, in place', () => {
  const indices = Uint32Array.of(0, 1, 2, 3)
  expect(shuffle(randomFrom(7), indices)).toBe(indices)
  expect([...indices].toSorted()).toEqual([0, 1, 2, 3])
})

test('there is nothing to pick from an empty list', () => {
  expect(pick(randomFrom(8), [])).toBeUndefined()
  expect(pick(randomFrom(8), ['only'])).toBe('only')
})
