import { expect, test } from 'vitest'
import { allowanceMs, newPace, remember, usualMs } from '../../../protocol/peer/deadline.ts'

test('before anything was measured, a transfer is planned at 1 MB/s each way and 5 s to answer', () => {
  expect(allowanceMs(newPace(), 10_000_000)).toBe(5000 + 20_000)
})

test('two measured transfers say nothing about the spread yet', () => {
  const pace = newPace()
  remember(pace, 10)
  remember(pace, 10)
  expect(allowanceMs(pace, 1_000_000)).toBe(7000)
})

test('the allowance is three medians and four spreads of the recent transfers', () => {
  const pace = newPace()
  for (const duration of [1000, 2000, 3000]) remember(pace, duration)
  expect(allowanceMs(pace, 1)).toBe(3 * 2000 + 4 * 1000)
})

test('no allowance is shorter than a round trip on a bad phone link', () => {
  const pace = newPace()
  for (let transfer = 0; transfer < 32; transfer++) remember(pace, 5)
  expect(allowanceMs(pace, 1)).toBe(2000)
})

test('one stalled transfer moves neither the allowance nor what is usual', () => {
  const pace = newPace()
  for (let transfer = 0; transfer < 20; transfer++) remember(pace, 1000)
  remember(pace, 60_000)
  expect(allowanceMs(pace, 1)).toBe(3000)
  expect(usualMs(pace)).toBe(1000)
})

test('only the last 32 transfers count', () => {
  const pace = newPace()
  for (let transfer = 0; transfer < 32; transfer++) remember(pace, 60_000)
  for (let transfer = 0; transfer < 32; transfer++) remember(pace, 1000)
  expect(allowanceMs(pace, 1)).toBe(3000)
  expect(pace.recent).toHaveLength(32)
})
