import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { block, fold, newRow, type PeerRow } from '../../../node/start/block.ts'

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
