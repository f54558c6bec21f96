import { expect, test } from 'vitest'
import { judge } from '../../browser/measure.ts'
import { csvLine } from '../../browser/save.ts'

test('every example is judged once, across batches, and the matrix adds up', async () => {
  const size = 600
  const examples = {
    size,
    width: 1,
    inputs: Uint8Array.from({ length: size }, (_, i) => i % 3),
    labels: Uint16Array.from({ length: size }, (_, i) => i % 2),
  }
  const batches: number[] = []
  const judged = await judge(examples, 3, async (part) => {
    batches.push(part.size)
    const shares = new Float32Array(3 * part.size)
    part.inputs.forEach((said, row) => {
      shares[3 * row + said] = 1
    })
    return shares
  })
  expect(batches).toEqual([256, 256, 88])
  expect(judged.right).toBe(200)
  expect([...judged.matrix]).toEqual([100, 100, 100, 100, 100, 100, 0, 0, 0])
})

test('a CSV cell keeps commas and quotes, and is never a formula', () => {
  expect(csvLine(['a,b', 'say "x"', '=1+1', -3, undefined])).toBe(`"a,b","say ""x""",'=1+1,-3,`)
})
