import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { block, fold, lines, newRow, type PeerRow } from '../../../node/start/block.ts'

/** A row of a peer with long figures that met the others by TCP and `guests` pages by WebSocket. */
function rowOf(name: string, guests: number): PeerRow {
  const row = newRow(name, '0123')
  const [round, bytes, evaluated] = [12_345, 512_000_000, { examples: 500 }]
  fold(row, { ev: 'joined', peer: name } as Parameters<typeof fold>[1])
  fold(row, { ev: 'round', round, steps: 10, samples: 10, loss: 1.234 })
  for (const at of ['trained', 'averaged'] as const)
    fold(row, { ev: 'eval', round, at, metrics: { accuracy: 1, loss: 1 }, ...evaluated })
  const meet = (peer: string, path: 'tcp' | 'ws') =>
    fold(row, {
      ...{ ev: 'swap', round, with: peer, path },
      ...{ bytesUp: bytes, bytesDown: bytes, distance: 0.1 },
    })
  for (const other of ['peer-1', 'peer-2', 'peer-3']) if (other !== name) meet(other, 'tcp')
  for (let i = 0; i < guests; i++) meet(`guest-${i}`, 'ws')
  return row
}

test.each([0, 1, 3, 120])(
  'a terminal of 80 columns shows a row in a line, with %i guests',
  (guests) => {
    const rows = ['peer-1', 'peer-2', 'peer-3'].map((name) => rowOf(name, guests))
    const lines = stripVTControlCharacters(block(rows, 467)).split('\n')
    expect(lines).toHaveLength(5)
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(79)
  },
)

test('guests by another path stand beside the peers of this terminal', () => {
  const rows = ['peer-1', 'peer-2', 'peer-3'].map((name) => rowOf(name, 1))
  expect(stripVTControlCharacters(block(rows, 1))).toContain('tcp 2 3, ws +1')
})

test('bytes sent and received stand apart, on a terminal and in a log, where phase, loss and path are said too', () => {
  const rows = [rowOf('peer-1', 0), rowOf('peer-2', 0)]
  fold(rows[0]!, { ev: 'phase', phase: 'training', text: '' })
  fold(rows[0]!, { ev: 'stopped', reason: '', rounds: 1, bytesUp: 5_100_000, bytesDown: 62_000 })
  const [head, first] = stripVTControlCharacters(block(rows, 1)).split('\n')
  expect(head).toMatch(/↑ MB +↓ MB/)
  expect(first).toMatch(/ 5\.1 +0\.1 +tcp/)
  const [all, log] = lines(rows.slice(0, 1), 25).split('\n')
  expect(all).toBe('25 s · Training with the swarm')
  expect(log).toBe(
    '  peer-1 · round 12345 · loss 1.234 · 100.0 % → 100.0 % averaged · swaps 2 · sent 5.10 MB, received 62.0 kB · tcp +2',
  )
})
