import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VALUE_CAP } from '../../../protocol/codec/codec.ts'
import { float32 } from '../../../protocol/codec/float32.ts'
import { Fault } from '../../../protocol/errors.ts'
import type { TensorSpec } from '../../../protocol/params.ts'
import { anyParams, d, decodeAll, paramsFrom, tensors } from '../../support/params.ts'

test('every value comes back exactly, to the bit', () => {
  const holds = fc.property(anyParams, ({ specs, params }) => {
    const bytes = float32.encode(params, specs)
    expect(bytes.length).toBe(float32.sizeBytes(specs))
    expect(float32.check(bytes, specs)).toBeUndefined()
    const back = decodeAll(float32, bytes, specs)
    expect(new Uint32Array(back.buffer)).toEqual(new Uint32Array(params.slice().buffer))
  })
  fc.assert(holds, { seed: 1, numRuns: 60 })
})

test('four bytes a param, little-endian, in tensor order: the golden bytes', () => {
  const specs: TensorSpec[] = [
    { name: 'a', shape: [2], role: 'trainable' },
    { name: 'b', shape: [2], role: 'trainable' },
  ]
  const bytes = float32.encode(Float32Array.of(1, -2.5, 0.1, 65_504), specs)
  const golden = readFileSync(new URL('../../golden/float32.hex', import.meta.url), 'utf8').trim()
  expect(Buffer.from(bytes).toString('hex')).toBe(golden)
})

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65_536, -70_000])(
  'a model that holds %d has diverged',
  (value) => {
    const params = paramsFrom(1)
    params[300] = value
    const encode = () => float32.encode(params, tensors)
    expect(encode).toThrow(Fault)
    expect(encode).toThrow(/param 300 is .*, expected a finite number within ±65504/)
  },
)

describe('the gate', () => {
  const whole = float32.encode(paramsFrom(1), tensors)

  test.each([0, 1, 4 * d - 1, 4 * d + 1, 8 * d])('refuses %d bytes', (length) => {
    const bytes = new Uint8Array(length)
    bytes.set(whole.subarray(0, length))
    expect(float32.check(bytes, tensors)).toEqual({
      type: 'wrong-length',
      message: `got ${length} bytes, expected ${4 * d} for ${d} params`,
    })
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY, -VALUE_CAP - 32, 1e38])(
    'refuses a value %d',
    (value) => {
      const bytes = whole.slice()
      new DataView(bytes.buffer).setFloat32(4 * 17, value, true)
      expect(float32.check(bytes, tensors)).toMatchObject({ type: 'wrong-value' })
      expect(float32.check(bytes, tensors)?.message).toContain('value 17 is')
    },
  )

  test('takes any view into a larger buffer, and values at the cap', () => {
    const larger = new Uint8Array(4 * d + 3)
    const bytes = larger.subarray(3)
    bytes.set(float32.encode(new Float32Array(d).fill(VALUE_CAP), tensors))
    expect(float32.check(bytes, tensors)).toBeUndefined()
    expect(decodeAll(float32, bytes)[d - 1]).toBe(VALUE_CAP)
  })
})
