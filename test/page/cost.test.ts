import { beforeEach, expect, test, vi } from 'vitest'
import { measureCost } from '../../browser/cost.ts'
import type { MeasureEvent, MeasureJob } from '../../browser/jobs.ts'
import type { Progress } from '../../browser/services.ts'
import type { StoredVersion } from '../../protocol/ports/store.ts'
import { digits } from './manifests.ts'

/** The worker's side of a measurement, which a test plays by hand. */
const worker = vi.hoisted(() => ({
  job: undefined as unknown,
  says: (_event: unknown) => {},
  closed: 0,
}))
vi.mock('../../browser/start-worker.ts', () => ({
  startWorker(job: unknown, _: unknown, { onSaid }: { onSaid: (event: unknown) => void }) {
    Object.assign(worker, { job, says: onSaid, closed: 0 })
    return { post() {}, close: () => worker.closed++ }
  },
}))
const leaving = { stop: new AbortController(), told: [] as Progress[] }
beforeEach(() => void Object.assign(leaving, { stop: new AbortController(), told: [] }))

const version = { manifest: digits, checked: { modelJson: '{}', params: Uint8Array.of(1) } }
const measure = () =>
  measureCost(version as unknown as StoredVersion, {
    examples: 9,
    signal: leaving.stop.signal,
    onProgress: (progress) => leaving.told.push(progress),
  })
const says = (event: Partial<MeasureEvent>) => worker.says(event)

test('a version is measured for as many examples as there are, and the worker is gone then', async () => {
  const measuring = measure()
  expect((worker.job as MeasureJob).examples).toBe(9)
  says({ type: 'progress', of: 'device', done: 1, total: 3 })
  expect(leaving.told).toMatchObject([{ of: 'device', done: 1, total: 3 }])
  expect(worker.closed).toBe(0)
  says({ type: 'device', backend: 'engine', msPerStep: 2, remarks: [] })
  expect(await measuring).toMatchObject({ backend: 'engine', msPerStep: 2 })
  expect(worker.closed).toBe(1)
})

test('what keeps it from training here is thrown, and the worker is gone', async () => {
  const measuring = measure()
  const detail = {
    kind: 'resource',
    type: 'no-backend',
    message: 'none starts',
    hint: 'wait',
  } as const
  says({ type: 'failed', detail })
  await expect(measuring).rejects.toMatchObject({ detail })
  expect(worker.closed).toBe(1)
})

test('who leaves has no worker any more', async () => {
  const measuring = measure()
  leaving.stop.abort(new Error('left'))
  await expect(measuring).rejects.toThrow('left')
  expect(worker.closed).toBe(1)
  await expect(measure()).rejects.toThrow('left')
})
