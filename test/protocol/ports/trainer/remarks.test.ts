import { expect, test } from 'vitest'
import { type Remark, readRemark, sayRemark } from '../../../../protocol/ports/trainer/remarks.ts'

const remarks: Remark[] = [
  { type: 'differs', facts: { backend: 'webgl', difference: '0.12', most: '0.001' } },
  { type: 'slower', facts: { backend: 'webgl', ms: '4.90', other: 'engine', otherMs: '5.00' } },
  { type: 'failed', facts: { backend: 'webgpu', why: 'no real GPU is here: it computes' } },
  { type: 'another', facts: { backend: 'wasm', other: 'cpu' } },
  { type: 'no-room', facts: { examples: '1,000' } },
  { type: 'features-first', facts: { examples: '1,000', seconds: '2' } },
]

test.each(remarks)('the sentence of $type gives its name and facts back', (remark) => {
  expect(readRemark(sayRemark(remark.type, remark.facts as never))).toEqual(remark)
})

test('a sentence of nobody here has no name', () => {
  expect(readRemark('the fan is loud')).toBeUndefined()
})
