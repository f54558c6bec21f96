import { expect, test } from 'vitest'
import { float32 } from '../../../protocol/codec/float32.ts'
import { int8 } from '../../../protocol/codec/int8.ts'
import {
  checkState,
  decodeStateInto,
  encodeState,
  stateBytes,
} from '../../../protocol/codec/state.ts'
import { d, decodeAll, paramsFrom, tensors } from '../../support/params.ts'

const params = paramsFrom(1)
const direction = paramsFrom(2, 0.01)

test('params come back as they were, the direction as its int8 copy says', () => {
  const bytes = encodeState(params, direction, tensors)
  expect(bytes.length).toBe(stateBytes(tensors))
  expect(checkState(bytes, tensors)).toBeUndefined()
  const back = new Float32Array(d)
  const coded = int8.encode(direction, tensors)
  expect(decodeStateInto(back, bytes, tensors)).toEqual(decodeAll(int8, coded, tensors))
  expect(back).toEqual(params)
})

test('without momentum it is as long, and its direction is zero', () => {
  const bytes = encodeState(params, undefined, tensors)
  expect(bytes.length).toBe(stateBytes(tensors))
  expect(checkState(bytes, tensors)).toBeUndefined()
  const none = decodeStateInto(new Float32Array(d), bytes, tensors)
  expect(none.every((value) => value === 0)).toBe(true)
})

test('a direction beyond the cap, or none at all, is sent as what a peer accepts', () => {
  const wild = Float32Array.from(direction)
  wild.set([1e9, Number.NaN, -1e9])
  expect(checkState(encodeState(params, wild, tensors), tensors)).toBeUndefined()
})

test.each<[string, (bytes: Uint8Array) => Uint8Array, RegExp]>([
  ['one byte less', (bytes) => bytes.subarray(0, -1), /got \d+ bytes, expected \d+/],
  ['one byte more', (bytes) => Uint8Array.from([...bytes, 0]), /got \d+ bytes, expected \d+/],
  ['the params alone', (bytes) => bytes.subarray(0, 4 * d), /got 0 bytes/],
  ['nothing', () => new Uint8Array(), /got 0 bytes/],
  ['a param that is no number', (bytes) => withFloat(bytes, 4, Number.NaN), /value 1 is NaN/],
  [
    'a scale that is endless',
    (bytes) => withFloat(bytes, float32.sizeBytes(tensors), Number.POSITIVE_INFINITY),
    /block 0 has scale Infinity/,
  ],
])('%s is refused', (_, change, says) => {
  const bytes = encodeState(params, direction, tensors)
  expect(checkState(change(bytes), tensors)?.message).toMatch(says)
})

function withFloat(bytes: Uint8Array, at: number, value: number): Uint8Array {
  new DataView(bytes.buffer).setFloat32(at, value, true)
  return bytes
}
