import * as v from 'valibot'
import { expect } from 'vitest'
import { type Phase, type Report, reportSchema } from '../../protocol/report.ts'

/** What `mlstore train --json` prints, as a test reads it. */
export type Line = Report & { t: string }

const isoPattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

const starting: readonly Phase[] = ['fetching', 'preparing']
/** Once it has joined, it goes from any of these to any other. */
const joined: readonly Phase[] = ['training', 'training-alone', 'offline-training']

/** A phase comes only after one of these, or first. */
const before: Record<Phase, readonly (Phase | undefined)[]> = {
  'checking-device': [undefined],
  fetching: ['checking-device'],
  preparing: starting,
  // Also after a long sleep or pause.
  connecting: [...starting, ...joined, 'paused', 'settling'],
  training: afterJoining('training'),
  'training-alone': afterJoining('training-alone'),
  'offline-training': afterJoining('offline-training'),
  evaluating: ['connecting', ...joined, 'paused', 'settling', 'leaving'],
  paused: joined,
  settling: ['connecting', ...joined],
  leaving: ['connecting', ...joined, 'paused', 'settling'],
  stopped: ['leaving', 'evaluating'],
  failed: [
    'checking-device',
    ...[...starting, 'connecting', ...joined, 'paused', 'settling'],
    ...['evaluating', 'leaving'],
  ] as Phase[],
}

function afterJoining(phase: Phase): readonly Phase[] {
  return [...starting, 'connecting', ...joined.filter((other) => other !== phase), 'paused']
}

/** Every line is a report with its time, phases come in an order that makes sense, and the end says how it ended. */
export function expectSound(lines: readonly Line[], code: number): void {
  let phase: Phase | undefined
  let time = ''
  for (const { t, ...report } of lines) {
    const parsed = v.safeParse(reportSchema, report)
    expect(parsed.issues, JSON.stringify(report)).toBeUndefined()
    // A field that the schema does not know would be dropped from its output.
    expect(report).toEqual(parsed.output)
    expect(t).toMatch(isoPattern)
    expect(t >= time, `${t} after ${time}`).toBe(true)
    time = t
    if (report.ev !== 'phase') continue
    expect(before[report.phase], `${report.phase} after ${phase}`).toContain(phase)
    phase = report.phase
  }
  const failed = lines.filter(({ ev }) => ev === 'failed')
  if (code === 0) expect(failed).toEqual([])
  else expect(failed).toEqual([lines.at(-1)])
  if (code === 0) return
  expect(lines.at(-1)).toMatchObject({ ev: 'failed', code })
  // A signal is no error, and what was wrong from the start begins no phase.
  if (code < 130 && phase !== undefined) expect(phase).toBe('failed')
}

/** The lines of one kind. */
export function only<E extends Line['ev']>(
  lines: readonly Line[],
  ev: E,
): Extract<Line, { ev: E }>[] {
  return lines.filter((line) => line.ev === ev) as Extract<Line, { ev: E }>[]
}
