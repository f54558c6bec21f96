import { expect, test } from 'vitest'
import { bytes, duration, figure, percent, whole } from '../../browser/format.ts'

test.each([
  ...[
    [0, '0 B'],
    [999, '999 B'],
    [1_999, '1 kB'],
    [51_000, '51 kB'],
    [999_999, '999 kB'],
  ],
  ...[
    [1_000_000, '1 MB'],
    [1_259_000, '1.2 MB'],
    [3_400_000_000, '3.4 GB'],
  ],
] as [number, string][])('%d bytes are %s', (count, said) => {
  expect(bytes(count)).toBe(said)
})

test.each([
  ...[
    [0, '0 ms'],
    [0.000_1, '< 0.001 ms'],
    [1.404, '1.4 ms'],
    [999, '999 ms'],
    [3_214, '3.21 s'],
  ],
] as [number, string][])('%d ms take %s', (ms, said) => {
  expect(duration(ms)).toBe(said)
})

test('figures are those of the language that the page speaks', () => {
  expect([whole(12_345), figure(0.123_4), percent(0.912)]).toEqual(['12,345', '0.123', '91.2%'])
})
