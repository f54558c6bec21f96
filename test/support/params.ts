import fc from 'fast-check'
import type { Codec } from '../../protocol/codec/codec.ts'
import { VALUE_CAP } from '../../protocol/codec/codec.ts'
import { BLOCK, forEachBlock, sizeOf, type TensorSpec } from '../../protocol/params.ts'
import { normal, randomFrom } from '../../protocol/random.ts'

/** A dense layer with batch normalisation: blocks that end early, one of exactly 256, one of a single value. */
export const tensors: TensorSpec[] = [
  { name: 'kernel', shape: [30, 10], role: 'trainable' },
  { name: 'bias', shape: [256], role: 'trainable' },
  { name: 'moving_mean', shape: [10], role: 'mean' },
  { name: 'moving_variance', shape: [10], role: 'variance' },
  { name: 'scalar', shape: [], role: 'trainable' },
]

export const d = sizeOf(tensors)

/** Params that a peer may hold; variances are not below zero. */
export function paramsFrom(seed: number, scale = 1): Float32Array {
  const random = randomFrom(seed)
  const params = Float32Array.from({ length: d }, () => scale * normal(random))
  return params.map((value, i) => (i >= 566 && i < 576 ? Math.abs(value) : value))
}

/** ‖a − b‖², summed in float64. */
export function squaredDistance(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return sum
}

/** The whole of an encoding at once, which nothing that ships ever needs. */
export function decodeAll(codec: Codec, bytes: Uint8Array, specs = tensors): Float32Array {
  const values = new Float32Array(sizeOf(specs))
  const block = new Float32Array(BLOCK)
  forEachBlock(specs, (start, length, index) => {
    codec.decodeBlockInto(block, bytes, start, length, index)
    values.set(block.subarray(0, length), start)
  })
  return values
}

/** Any tensors of at most a few blocks, with any params that a codec must take. */
export const anyParams = fc
  .array(fc.oneof(fc.nat(3), fc.integer({ min: 250, max: 260 }), fc.nat(600)), { maxLength: 4 })
  .chain((sizes) => {
    const specs = sizes.map(
      (size, index): TensorSpec => ({ name: `t${index}`, shape: [size], role: 'trainable' }),
    )
    const size = sizeOf(specs)
    const value = fc.oneof(
      fc.float({ min: -1, max: 1, noNaN: true }),
      fc.float({ min: -VALUE_CAP, max: VALUE_CAP, noNaN: true }),
      fc.constantFrom(0, -0, VALUE_CAP, -VALUE_CAP, 2 ** -149, -(2 ** -149), 2 ** -126, 1e-36),
    )
    const values = fc.array(value, { minLength: size, maxLength: size })
    return fc.record({
      specs: fc.constant(specs),
      params: values.map((all) => Float32Array.from(all)),
    })
  })
