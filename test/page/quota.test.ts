import { expect, test } from 'vitest'
import { countOn, isSpent, trafficOn } from '../../browser/quota.ts'

const late = new Date(2026, 11, 31, 23, 59, 59, 999)
const midnight = new Date(2027, 0, 1)

test('bytes of one day add up, from its first moment to its last', () => {
  const morning = countOn(new Date(2026, 11, 31), undefined, 300)
  expect(countOn(late, morning, 200)).toEqual({ day: '2026-12-31', bytes: 500 })
})

test('midnight begins anew, and nothing of the day before is left', () => {
  const before = countOn(late, undefined, 500)
  expect(trafficOn(midnight, before)).toEqual({ day: '2027-01-01', bytes: 0 })
  expect(countOn(midnight, before, 7)).toEqual({ day: '2027-01-01', bytes: 7 })
})

test('a limit is reached by its last byte, and 0 is none', () => {
  const day = '2026-12-31'
  expect(isSpent({ day, bytes: 1_999_999 }, 2)).toBe(false)
  expect(isSpent({ day, bytes: 2_000_000 }, 2)).toBe(true)
  expect(isSpent({ day, bytes: 1e15 }, 0)).toBe(false)
})
