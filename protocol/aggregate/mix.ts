import type { Copy } from '../codec/codec.ts'
import { BLOCK, forEachBlock, type TensorSpec } from '../params.ts'

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

/**
 * params ← the equal-share average of the live params and the received copies, block by block. Variances as above.
 * Returns the sum over copies of ‖received − params‖², before the move.
 */
export function averageInto(
  params: Float32Array,
  received: readonly Copy[],
  tensors: readonly TensorSpec[],
): number {
  const theirs = new Float32Array(BLOCK)
  const ours = new Float32Array(BLOCK)
  const share = 1 / (received.length + 1)
  let squared = 0
  forEachBlock(tensors, (start, length, index, tensor) => {
    ours.set(params.subarray(start, start + length))
    for (const copy of received) {
      copy.codec.decodeBlockInto(theirs, copy.bytes, start, length, index)
      squared += moveBlock(params, share, theirs, ours, start, length)
    }
    if (tensor.role === 'variance') keepAboveZero(params, start, length)
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
