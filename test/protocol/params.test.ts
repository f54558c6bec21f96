import { expect, test } from 'vitest'
import {
  allFinite,
  blockCount,
  forEachBlock,
  forEachTensor,
  sizeOf,
  type TensorSpec,
  tensorSize,
} from '../../protocol/params.ts'

const tensors: TensorSpec[] = [
  { name: 'kernel', shape: [30, 10], role: 'trainable' },
  { name: 'empty', shape: [0, 7], role: 'trainable' },
  { name: 'bias', shape: [256], role: 'trainable' },
  { name: 'scalar', shape: [], role: 'mean' },
]

test('d is the sum of the sizes; a scalar has one value and an empty tensor none', () => {
  expect(tensors.map(tensorSize)).toEqual([300, 0, 256, 1])
  expect(sizeOf(tensors)).toBe(557)
  expect(sizeOf([])).toBe(0)
})

test('blocks of 256 restart at each tensor', () => {
  const blocks: [number, number, number, string][] = []
  forEachBlock(tensors, (start, length, index, { name }) =>
    blocks.push([start, length, index, name]),
  )
  expect(blocks).toEqual([
    [0, 256, 0, 'kernel'],
    [256, 44, 1, 'kernel'],
    [300, 256, 2, 'bias'],
    [556, 1, 3, 'scalar'],
  ])
  expect(blockCount(tensors)).toBe(4)
})

test('tensors are ranges without gaps', () => {
  const ranges: [number, number][] = []
  forEachTensor(tensors, (_, start, end) => ranges.push([start, end]))
  expect(ranges).toEqual([
    [0, 300],
    [300, 300],
    [300, 556],
    [556, 557],
  ])
})

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
  '%d is not finite',
  (value) => {
    expect(allFinite(Float32Array.of(0, 1, value))).toBe(false)
    expect(allFinite(Float32Array.of(0, 1, -1e38))).toBe(true)
  },
)
