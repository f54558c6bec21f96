import { expect, test } from 'vitest'
import { judge } from '../../browser/measure.ts'
import { csvLine } from '../../browser/save.ts'

test('every example is judged once, across batches, by all who answer, and the matrix adds up', async () => {
  const size = 600
  const examples = {
    size,
    width: 1,
    inputs: Uint8Array.from({ length: size }, (_, i) => i % 3),
    labels: Uint16Array.from({ length: size }, (_, i) => i % 2),
  }
  const batches: number[] = []
  const { mine, other, silent } = await judge(examples, 3, async (part) => {
    batches.push(part.size)
    const shares = new Float32Array(3 * part.size)
    part.inputs.forEach((said, row) => {
      shares[3 * row + said] = 1
    })
    const other = new Float32Array(3 * part.size).fill(0.3)
    return { mine: shares, other, silent: batches.length > 1 ? shares : undefined }
  })
  expect(batches).toEqual([256, 256, 88])
  expect(silent).toBeUndefined()
  expect(other!.right).toBe(300)
  expect(mine!.right).toBe(200)
  expect([...mine!.matrix]).toEqual([100, 100, 100, 100, 100, 100, 0, 0, 0])
})

test('a CSV cell keeps commas and quotes, and is never a formula', () => {
  expect(csvLine(['a,b', 'say "x"', '=1+1', -3, undefined])).toBe(`"a,b","say ""x""",'=1+1,-3,`)
})
