import { blockCount, forEachBlock, sizeOf } from '../params.ts'
import { type Codec, VALUE_CAP } from './codec.ts'
import { diverged, wrongLength } from './float32.ts'

/** The largest scale a block may claim. */
const SCALE_CAP = Math.fround(VALUE_CAP / 127)
/** Smaller scales are written as 0: near float32's denormals, rounding the scale would overflow a byte. */
const SCALE_FLOOR = 1e-36

/**
 * int8: each block of 256 values as one float32 scale (largest magnitude / 127, little-endian) and one signed byte a
 * value, blocks restarting at each tensor. 1.016 bytes a param; each value within scale / 2 of the original, where scale
 * is the largest magnitude of its block / 127 (a block whose values all lie below 1.3e-34 becomes zero).
 * Source: block-wise absmax quantisation, Dettmers et al. 2022 (8-bit optimizers), with linear levels.
 */
export const int8: Codec = {
  name: 'int8',

  sizeBytes: (tensors) => sizeOf(tensors) + 4 * blockCount(tensors),

  encode(params, tensors) {
    const bytes = new Uint8Array(int8.sizeBytes(tensors))
    const view = new DataView(bytes.buffer)
    const levels = new Int8Array(bytes.buffer)
    forEachBlock(tensors, (start, length, index) => {
      const at = start + 4 * index
      const scale = scaleOf(params, start, length)
      view.setFloat32(at, scale, true)
      if (scale > 0) quantiseInto(levels, at + 4, params, start, length, 1 / scale)
    })
    return bytes
  },

  check(bytes, tensors) {
    const expected = int8.sizeBytes(tensors)
    if (bytes.length !== expected) return wrongLength(bytes.length, expected, tensors)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    let wrong: { type: string; message: string } | undefined
    forEachBlock(tensors, (start, _, index) => {
      const scale = view.getFloat32(start + 4 * index, true)
      if (scale >= 0 && scale <= SCALE_CAP) return
      wrong ??= {
        type: 'wrong-scale',
        message: `block ${index} has scale ${scale}, expected 0 to ${SCALE_CAP.toFixed(1)}`,
      }
    })
    return wrong
  },

  decodeBlockInto(block, bytes, start, length, index) {
    const at = bytes.byteOffset + start + 4 * index
    const scale = new DataView(bytes.buffer, at, 4).getFloat32(0, true)
    const levels = new Int8Array(bytes.buffer, at + 4, length)
    for (let i = 0; i < length; i++) block[i] = levels[i]! * scale
  },
}

function scaleOf(params: Float32Array, start: number, length: number): number {
  const scale = Math.fround(largest(params, start, length) / 127)
  return scale < SCALE_FLOOR ? 0 : scale
}

function largest(params: Float32Array, start: number, length: number): number {
  let most = 0
  for (let i = start; i < start + length; i++) {
    const size = Math.abs(params[i]!)
    if (!(size <= VALUE_CAP)) throw diverged(i, params[i]!)
    if (size > most) most = size
  }
  return most
}

function quantiseInto(
  levels: Int8Array,
  at: number,
  params: Float32Array,
  start: number,
  length: number,
  inverse: number,
): void {
  // Rounds halves up, as Math.round does in six times the time.
  for (let i = 0; i < length; i++)
    levels[at + i] = Math.floor(params[start + i]! * inverse + 0.5) | 0
}
