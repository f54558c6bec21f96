import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { VALUE_CAP } from '../../../protocol/codec/codec.ts'
import { int8 } from '../../../protocol/codec/int8.ts'
import { codecs } from '../../../protocol/codec/table.ts'
import { Fault } from '../../../protocol/errors.ts'
import { blockCount, forEachBlock, type TensorSpec } from '../../../protocol/params.ts'
import { anyParams, d, decodeAll, paramsFrom, tensors } from '../../support/params.ts'

const SIZE = d + 4 * blockCount(tensors)

test('every value comes back within half a level of its block', () => {
  const holds = fc.property(anyParams, ({ specs, params }) => {
    const bytes = int8.encode(params, specs)
    expect(bytes.length).toBe(int8.sizeBytes(specs))
    expect(int8.check(bytes, specs)).toBeUndefined()
    const back = decodeAll(int8, bytes, specs)
    forEachBlock(specs, (start, length) => {
      const ours = params.subarray(start, start + length)
      const largest = ours.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      // Half a level, the rounding of scale and product to float32, and blocks that are too small to be written.
      const bound = largest / 127 / 2 + 1e-6 * largest + 1.3e-34
      for (let i = 0; i < length; i++) {
        expect(Math.abs(back[start + i]! - ours[i]!)).toBeLessThanOrEqual(bound)
      }
    })
  })
  fc.assert(holds, { seed: 2, numRuns: 60 })
})

test('takes 1.016 bytes a param', () => {
  const specs: TensorSpec[] = [{ name: 'w', shape: [1000, 256], role: 'trainable' }]
  expect(int8.sizeBytes(specs) / 256_000).toBeCloseTo(1.0156, 4)
})

test('one scale and one byte a value for each block: the golden bytes', () => {
  const specs: TensorSpec[] = [
    { name: 'a', shape: [3], role: 'trainable' },
    { name: 'b', shape: [2], role: 'trainable' },
  ]
  const bytes = int8.encode(Float32Array.of(127, -63.4, 0, 0.5, -0.25), specs)
  const golden = readFileSync(new URL('../../golden/int8.hex', import.meta.url), 'utf8').trim()
  expect(Buffer.from(bytes).toString('hex')).toBe(golden)
})

test('blocks restart at each tensor: a large neighbour costs a small tensor no precision', () => {
  const specs: TensorSpec[] = [
    { name: 'large', shape: [100], role: 'trainable' },
    { name: 'small', shape: [100], role: 'trainable' },
  ]
  const params = new Float32Array(200).fill(60_000, 0, 100).fill(0.001, 100)
  const back = decodeAll(int8, int8.encode(params, specs), specs)
  expect(back[0]).toBeCloseTo(60_000, -1)
  expect(back[199]).toBeCloseTo(0.001, 8)
})

test('denormals and zeros become zeros, never infinities', () => {
  const params = new Float32Array(d).fill(2 ** -149)
  params[5] = -(2 ** -140)
  const bytes = int8.encode(params, tensors)
  expect(int8.check(bytes, tensors)).toBeUndefined()
  expect(decodeAll(int8, bytes).every((value) => value === 0)).toBe(true)
})

test('a second encoding of what was decoded changes nothing more', () => {
  const once = decodeAll(int8, int8.encode(paramsFrom(3), tensors))
  const twice = decodeAll(int8, int8.encode(once, tensors))
  for (let i = 0; i < d; i++) expect(twice[i]).toBeCloseTo(once[i]!, 5)
})

test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65_536, -70_000])(
  'a model that holds %d has diverged',
  (value) => {
    const params = paramsFrom(1)
    params[d - 1] = value
    expect(() => int8.encode(params, tensors)).toThrow(Fault)
    expect(() => int8.encode(params, tensors)).toThrow(`param ${d - 1} is`)
  },
)

describe('the gate', () => {
  const whole = int8.encode(paramsFrom(1), tensors)

  test.each([0, 1, SIZE - 1, SIZE + 1, 4 * d])('refuses %d bytes', (length) => {
    const bytes = new Uint8Array(length)
    bytes.set(whole.subarray(0, length))
    expect(int8.check(bytes, tensors)).toMatchObject({ type: 'wrong-length' })
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY, -1e-3, 516, 3e38])(
    'refuses a scale of %d in any block',
    (scale) => {
      forEachBlock(tensors, (start, _, index) => {
        const bytes = whole.slice()
        new DataView(bytes.buffer).setFloat32(start + 4 * index, scale, true)
        expect(int8.check(bytes, tensors)?.message).toContain(`block ${index} has scale`)
      })
    },
  )

  test('lets nothing through that decodes to more than the cap and one level', () => {
    const holds = fc.property(fc.uint8Array({ minLength: SIZE, maxLength: SIZE }), (bytes) => {
      if (int8.check(bytes, tensors)) return
      for (const value of decodeAll(int8, bytes)) {
        expect(Math.abs(value)).toBeLessThanOrEqual((VALUE_CAP * 128) / 127 + 1)
      }
    })
    fc.assert(holds, { seed: 3, numRuns: 200 })
    const worst = whole.slice().fill(0x80)
    const cap = Math.fround(VALUE_CAP / 127)
    forEachBlock(tensors, (start, _, index) =>
      new DataView(worst.buffer).setFloat32(start + 4 * index, cap, true),
    )
    expect(int8.check(worst, tensors)).toBeUndefined()
    expect(decodeAll(int8, worst).every(Number.isFinite)).toBe(true)
  })
})

test.each(Object.values(codecs))('$name is in the table under its own name', (codec) => {
  expect(codecs[codec.name]).toBe(codec)
})
