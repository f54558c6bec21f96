import { expect, test } from 'vitest'
import { systemFault } from '../../node/command.ts'

test('the end of --timeout is a fault of the network, and none that nobody foresaw', () => {
  const { reason } = AbortSignal.abort(new DOMException('aborted due to timeout', 'TimeoutError'))
  const fault = systemFault(reason)
  expect(fault.detail).toMatchObject({ kind: 'network', type: 'timeout' })
  expect(fault.detail.hint).toContain('--timeout')
  expect(fault.exitCode).toBe(4)
})
