import { expect, test } from 'vitest'
import { createStrikes } from '../../../protocol/ports/strikes.ts'

const MINUTE_MS = 60_000

/** A table under a clock that a test turns by hand. */
function table() {
  const clock = { now: 1000 }
  return { clock, ...createStrikes(() => clock.now) }
}

test('the third strike refuses a peer, for half an hour, and nobody else', () => {
  const { clock, add, isRefused } = table()
  expect([add('a'), add('b'), add('a'), add('a')]).toEqual([false, false, false, true])
  expect([isRefused('a'), isRefused('b'), isRefused('c')]).toEqual([true, false, false])
  clock.now += 30 * MINUTE_MS - 1
  expect(isRefused('a')).toBe(true)
  clock.now += 1
  expect(isRefused('a')).toBe(false)
})

test('who errs again soon after is refused at once; who was good for two hours is as new', () => {
  const { clock, add, isRefused } = table()
  for (let time = 0; time < 3; time++) add('a')
  clock.now += 31 * MINUTE_MS
  expect(add('a')).toBe(true)
  clock.now += 121 * MINUTE_MS
  expect(isRefused('a')).toBe(false)
  expect([add('a'), add('a'), add('a')]).toEqual([false, false, true])
})

test('a peer that is wrong once in three hours is never refused', () => {
  const { clock, add } = table()
  for (let time = 0; time < 50; time++) {
    expect(add('a')).toBe(false)
    clock.now += 180 * MINUTE_MS
  }
})

test('10,000 strangers with a strike each push out nobody who is refused', () => {
  const { add, isRefused } = table()
  for (let time = 0; time < 3; time++) add('offender')
  for (let index = 0; index < 10_000; index++) add(`p${index}`)
  expect(isRefused('offender')).toBe(true)
  // Those that were pushed out begin anew.
  expect([add('p0'), add('p0'), add('p0')]).toEqual([false, false, true])
})
