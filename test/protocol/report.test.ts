import * as v from 'valibot'
import { expect, test } from 'vitest'
import { phaseReport, phaseSentences, type Report, reportSchema } from '../../protocol/report.ts'

/** One of each, as DESIGN.md section 6 writes them. */
const reports: Report[] = [
  { ev: 'joined', run: 'r', peer: 'p', model: 'm', version: 'v' },
  { ev: 'phase', phase: 'training', text: phaseSentences.training },
  { ev: 'fetch', bytes: 1, total: 2, providers: 3 },
  { ev: 'device', backend: 'engine', threads: 2, secondsPerRound: 0.25, remarks: [] },
  { ev: 'data', read: 4, skipped: 0, labels: { '0': 2, '1': 2 }, train: 3, validation: 1 },
  { ev: 'peers', count: 2, direct: 1 },
  { ev: 'round', round: 1, steps: 10, loss: 0.5, samples: 640 },
  { ev: 'swap', round: 1, with: 'p', path: 'ws', bytesUp: 1, bytesDown: 1, distance: 0.1 },
  { ev: 'progress', of: 'swap', done: 1, total: 2, with: 'p' },
  { ev: 'swap-failed', round: 1, with: 'p', reason: 'lost' },
  { ev: 'eval', round: 1, at: 'averaged', metrics: { accuracy: 0.9, loss: 0.3 }, examples: 100 },
  { ev: 'release', version: '1.2.0', cid: 'bafy' },
  { ev: 'replica', peer: 'p', count: 1, wanted: 2 },
  {
    ev: 'stopped',
    reason: 'budget',
    rounds: 1,
    bytesUp: 1,
    bytesDown: 1,
    lostDoubts: 2,
    checkpoint: 'c',
  },
  { ev: 'failed', code: 5, message: 'no data', hint: 'add some' },
]

test.each(reports)('$ev is one of the reports', (report) => {
  expect(v.parse(reportSchema, JSON.parse(JSON.stringify(report)))).toEqual(report)
})

test('there is no other kind of report', () => {
  expect(reportSchema.options.map(({ entries }) => entries.ev.literal)).toEqual(
    reports.map(({ ev }) => ev),
  )
  expect(v.safeParse(reportSchema, { ev: 'weather' }).success).toBe(false)
})

test.each([
  { ev: 'eval', round: 1, at: 'averaged', metrics: { accuracy: 1.1, loss: 0 }, examples: 1 },
  { ev: 'swap', round: 1, with: 'p', path: 'pigeon', bytesUp: 1, bytesDown: 1, distance: 0 },
  { ev: 'round', round: -1, steps: 10, loss: 0.5, samples: 1 },
  { ev: 'round', round: 1, steps: 10, loss: Number.NaN, samples: 1 },
])('%o is refused', (report) => {
  expect(v.safeParse(reportSchema, report).success).toBe(false)
})

test('every phase has a sentence of its own', () => {
  const sentences = Object.values(phaseSentences)
  expect(new Set(sentences).size).toBe(sentences.length)
  expect(sentences).toHaveLength(13)
  expect(phaseReport('paused')).toEqual({ ev: 'phase', phase: 'paused', text: 'Paused' })
  expect(phaseReport('preparing', { done: 1250, total: 60_000 })).toEqual({
    ...{ ev: 'phase', phase: 'preparing' },
    text: 'Preparing the data: 1,250 of 60,000 examples',
  })
  expect(phaseReport('checking-device', { done: 1, total: 3 })).toMatchObject({
    text: 'Checking what this device can do: 1 of 3 trial steps',
  })
})
