import { expect, test } from 'vitest'
import { exitCodes, Fault, faultFrom, invariant } from '../../protocol/errors.ts'

test('every kind of fault has its exit code, as DESIGN.md section 6 lists them', () => {
  expect(exitCodes).toEqual({
    unexpected: 1,
    usage: 2,
    'not-found': 3,
    network: 4,
    data: 5,
    diverged: 6,
    verification: 7,
    resource: 8,
  })
})

test('a fault carries its facts, its cause and its exit code', () => {
  const cause = new Error('ENOSPC')
  const fault = new Fault(
    { kind: 'resource', type: 'disk-full', message: 'no room', hint: 'make room', bytes: 12 },
    cause,
  )
  expect(fault).toMatchObject({ message: 'no room', cause, exitCode: 8, detail: { bytes: 12 } })
})

test('a thrown fault stays itself; anything else is unexpected, on one line', () => {
  const fault = new Fault({ kind: 'usage', type: 'wrong', message: 'wrong', hint: 'try again' })
  expect(faultFrom(fault)).toBe(fault)
  expect(faultFrom(new Error('two\n  lines'))).toMatchObject({ message: 'two lines', exitCode: 1 })
  expect(faultFrom('text').message).toBe('text')
  expect(faultFrom(undefined).exitCode).toBe(1)
  expect(faultFrom('text').detail.hint).toMatch(/run it again/)
})

test('an invariant stops us with its claim, and is no fault of the world', () => {
  expect(() => invariant(false, 'one is one')).toThrow('invariant broken: one is one')
  expect(() => invariant(1, 'one is one')).not.toThrow()
  try {
    invariant(0, 'zero is true')
  } catch (thrown) {
    expect(thrown).not.toBeInstanceOf(Fault)
  }
})
