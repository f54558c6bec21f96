import type { Copy } from '../codec/codec.ts'
import { BLOCK, type TensorSpec, forEachBlock } from '../params.ts'

/**
 * params += rate · (received − sent), block by block, so no decoded model is ever held. Variances stay at or above zero.
 * Returns ‖received − sent‖².
 */
export function addDifferenceInto(
  params: Float32Array,
  rate: number,
  received: Copy,
  sent: Copy,
  tensors: readonly TensorSpec[],
): number {
  const ours = new Float32Array(BLOCK)
  const theirs = new Float32Array(BLOCK)
  let squared = 0
  forEachBlock(tensors, (start, length, index, tensor) => {
    sent.codec.decodeBlockInto(ours, sent.bytes, start, length, index)
    received.codec.decodeBlockInto(theirs, received.bytes, start, length, index)
    squared += moveBlock(params, rate, theirs, ours, start, length)
    if (tensor.role === 'variance') keepAboveZero(params, start, length)
  })
  return squared
}

/** As addDifferenceInto, with the live params themselves in place of a sent copy. */
export function pullTowardsInto(
  params: Float32Array,
  rate: number,
  received: Copy,
  tensors: readonly TensorSpec[],
): number {
  const theirs = new Float32Array(BLOCK)
  let squared = 0
  forEachBlock(tensors, (start, length, index) => {
    received.codec.decodeBlockInto(theirs, received.bytes, start, length, index)
    squared += moveBlock(params, rate, theirs, params.subarray(start, start + length), start, length)
  })
  return squared
}

function moveBlock(
  params: Float32Array,
  rate: number,
  theirs: Float32Array,
  ours: Float32Array,
  start: number,
  length: number,
): number {
  let squared = 0
  for (let i = 0; i < length; i++) {
    const difference = theirs[i]! - ours[i]!
    squared += difference * difference
    params[start + i] = params[start + i]! + rate * difference
  }
  return squared
}

function keepAboveZero(params: Float32Array, start: number, length: number): void {
  for (let i = start; i < start + length; i++) if (params[i]! < 0) params[i] = 0
}
