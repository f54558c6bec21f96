import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { within } from '../../../protocol/ports/within.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

/** Ends only when told to by its signal, with the reason given there. */
const endless = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason))
  })

test('work that is done leaves no timer, and nothing at the signal it was given', async () => {
  const outer = new AbortController()
  expect(await within(1000, outer.signal, async () => 'done')).toBe('done')
  const failing = within(1000, outer.signal, async () => {
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  expect(vi.getTimerCount()).toBe(0)
  expect(getEventListeners(outer.signal, 'abort')).toEqual([])
})

test('work is called off at its limit, and no sooner', async () => {
  let over = false
  const waiting = within(1000, undefined, endless).finally(() => {
    over = true
  })
  waiting.catch(() => {})
  await vi.advanceTimersByTimeAsync(999)
  expect(over).toBe(false)
  await vi.advanceTimersByTimeAsync(1)
  await expect(waiting).rejects.toThrow('not done within 1000 ms')
})

test('work is called off with the signal it was given, for its reason', async () => {
  const outer = new AbortController()
  const waiting = within(1000, outer.signal, endless)
  outer.abort(new Error('the host is closing'))
  await expect(waiting).rejects.toThrow('the host is closing')
  expect(vi.getTimerCount()).toBe(0)
  await expect(within(1000, outer.signal, endless)).rejects.toThrow('the host is closing')
})
