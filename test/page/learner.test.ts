import { beforeEach, expect, test, vi } from 'vitest'
import type { LearnEvent, LearnJob } from '../../browser/jobs.ts'
import { startLearner } from '../../browser/learner.ts'
import { Fault } from '../../protocol/errors.ts'

/** The worker's side of a learner that a test plays by hand. */
const worker = vi.hoisted(() => ({
  posted: [] as unknown[],
  says: (_event: unknown) => {},
  dies: (_why: unknown) => {},
}))
vi.mock('../../browser/start-worker.ts', () => ({
  startWorker(_: unknown, __: unknown, on: { onSaid: never; onDied: never }) {
    Object.assign(worker, { says: on.onSaid, dies: on.onDied, posted: [] })
    return { post: (command: unknown) => void worker.posted.push(command), close() {} }
  },
}))
beforeEach(() => {
  vi.stubGlobal('document', { addEventListener() {}, removeEventListener() {} })
  return () => void vi.unstubAllGlobals()
})

function learner() {
  const job = { type: 'learn', init: { params: new Uint8Array(4) } } as unknown as LearnJob
  return startLearner(job, { onKept() {}, onPreparing() {} })
}

test('params asked for before the end are there after it', async () => {
  const running = learner()
  running.send({ type: 'stop' })
  worker.says({ type: 'version-params', bytes: Uint8Array.of(7) } as LearnEvent)
  worker.says({ type: 'stopped' } as LearnEvent)
  await running.ended
  expect(await running.params()).toEqual(Uint8Array.of(7))
})

test('nobody waits for the last params of a worker that died', async () => {
  const running = learner()
  running.send({ type: 'stop' })
  const asked = running.params()
  worker.dies(
    new Fault({ kind: 'resource', type: 'worker-died', message: 'it ended', hint: 'try again' }),
  )
  await expect(asked).rejects.toMatchObject({ detail: { type: 'no-params' } })
  await expect(running.params()).rejects.toMatchObject({ detail: { type: 'no-params' } })
})
