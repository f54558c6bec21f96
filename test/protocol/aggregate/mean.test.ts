import { describe, expect, test } from 'vitest'
import { mean } from '../../../protocol/aggregate/mean.ts'
import { aggregators } from '../../../protocol/aggregate/table.ts'
import { codecs } from '../../../protocol/codec/table.ts'
import { d, decodeAll, paramsFrom, squaredDistance, tensors } from '../../support/params.ts'

describe.each(Object.values(codecs))('with $name', (codec) => {
  const copyOf = (params: Float32Array) => ({ codec, bytes: codec.encode(params, tensors) })

  test.each([1, 2, 5])(
    'params become the equal-share average of us and %d copies, against float64',
    (k) => {
      const ours = paramsFrom(1)
      const copies = Array.from({ length: k }, (_, index) => copyOf(paramsFrom(2 + index)))
      const theirs = copies.map(({ bytes }) => decodeAll(codec, bytes))
      const oracle = Float64Array.from(ours, (value, i) =>
        theirs.reduce((sum, copy) => sum + copy[i]! / (k + 1), value / (k + 1)),
      )
      const squared = theirs.reduce((sum, copy) => sum + squaredDistance(copy, ours), 0)
      const state = mean.init(ours.slice(), { tensors, momentum: 0 })
      const distance = mean.settle(state, undefined, copies)
      for (let i = 0; i < d; i++) expect(Math.abs(state.params[i]! - oracle[i]!)).toBeLessThan(2e-6)
      expect(distance).toBeCloseTo(squared / 2 / k, 3)
    },
  )

  test('the order of the copies makes no difference beyond rounding', () => {
    const copies = [copyOf(paramsFrom(2)), copyOf(paramsFrom(3)), copyOf(paramsFrom(4))]
    const [forward, backward] = [copies, copies.toReversed()].map((order) => {
      const state = mean.init(paramsFrom(1), { tensors, momentum: 0 })
      mean.settle(state, undefined, order)
      return state.params
    })
    for (let i = 0; i < d; i++) expect(forward![i]).toBeCloseTo(backward![i]!, 5)
  })

  test('variances stay at or above zero, whatever came', () => {
    const state = mean.init(paramsFrom(5), { tensors, momentum: 0 })
    mean.settle(state, undefined, [copyOf(new Float32Array(d).fill(-1000))])
    expect(state.params.subarray(566, 576).every((value) => value === 0)).toBe(true)
  })
})

test('there is no mean of nothing received', () => {
  const state = mean.init(paramsFrom(6), { tensors, momentum: 0 })
  expect(() => mean.settle(state, undefined, [])).toThrow('invariant')
})

test.each(Object.values(aggregators))('$name is in the table under its own name', (rule) => {
  expect(aggregators[rule.name]).toBe(rule)
})
