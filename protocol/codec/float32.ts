import { Fault } from '../errors.ts'
import { sizeOf, type TensorSpec } from '../params.ts'
import { type Codec, VALUE_CAP } from './codec.ts'

/** float32: every value as it is, little-endian, in tensor order. Exact. */
export const float32: Codec = {
  name: 'float32',

  sizeBytes: (tensors) => 4 * sizeOf(tensors),

  encode(params, tensors) {
    const bytes = new Uint8Array(4 * sizeOf(tensors))
    const view = new DataView(bytes.buffer)
    for (let i = 0; i < params.length; i++) {
      const value = params[i]!
      if (!(Math.abs(value) <= VALUE_CAP)) throw diverged(i, value)
      view.setFloat32(4 * i, value, true)
    }
    return bytes
  },

  check(bytes, tensors) {
    const expected = 4 * sizeOf(tensors)
    if (bytes.length !== expected) return wrongLength(bytes.length, expected, tensors)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    for (let at = 0; at < expected; at += 4) {
      const value = view.getFloat32(at, true)
      if (!(Math.abs(value) <= VALUE_CAP)) {
        return {
          type: 'wrong-value',
          message: `value ${at / 4} is ${value}, expected a finite number within ±${VALUE_CAP}`,
        }
      }
    }
  },

  decodeBlockInto(block, bytes, start, length) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + 4 * start, 4 * length)
    for (let i = 0; i < length; i++) block[i] = view.getFloat32(4 * i, true)
  },
}

/** A model whose own numbers left the range that any peer accepts. */
export function diverged(index: number, value: number): Fault {
  return new Fault({
    kind: 'diverged',
    type: 'diverged',
    index,
    value,
    message: `training diverged: param ${index} is ${value}, expected a finite number within ±${VALUE_CAP}`,
    hint: "lower the recipe's learning rate, or check the data's scale",
  })
}

export function wrongLength(got: number, expected: number, tensors: readonly TensorSpec[]) {
  return {
    type: 'wrong-length',
    message: `got ${got} bytes, expected ${expected} for ${sizeOf(tensors)} params`,
  }
}
