import { expect, test } from 'vitest'
import { createLive } from '../../node/live.ts'
import type { Print } from '../../node/print.ts'
import type { Report } from '../../protocol/report.ts'

/** The lines of a log, one a second: what is said follows from reports alone. */
async function linesOf(reports: Report[]): Promise<string[]> {
  const lines: string[] = []
  let now = 0
  const print = { note: (text: string) => void lines.push(text) } as unknown as Print
  const live = await createLive(print, () => (now += 5000))
  live.take({ ev: 'joined', run: 'r', peer: 'p', model: 'm', version: 'v' })
  lines.length = 0
  for (const report of reports) live.take(report)
  return lines.map((line) => line.replace(/ · peers.*/, ''))
}

const round: Report = { ev: 'round', round: 1, steps: 40, loss: 0.5, samples: 9 }
const far = (of: 'round' | 'evaluation' | 'swap', done: number, total: number): Report => ({
  ...{ ev: 'progress', of, done, total },
  ...(of === 'swap' && { with: '12D3KooWpeerpeer' }),
})

test('a log says how far a long round is, and what is measured and swapped, while it lasts', async () => {
  const [step, swap, over, measured, done] = await linesOf([
    far('round', 12, 40),
    far('swap', 1_000_000, 8_000_000),
    far('swap', 3_000_000, 3_000_000),
    far('evaluation', 250, 1000),
    round,
  ])
  expect(step).toContain('round 0 · round 1 at step 12 of 40')
  expect(swap).toContain('to and from …peerpeer: 1.00 MB of 8.00 MB')
  expect(over).not.toContain('peerpeer')
  expect(measured).toContain('measured on 250 of 1000 examples')
  expect(done).toContain('round 1 · measured on')
  expect(done).not.toContain('step')
})
