import type { Rejection } from '../errors.ts'
import { forEachBlock, type TensorSpec } from '../params.ts'
import { VALUE_CAP } from './codec.ts'
import { float32 } from './float32.ts'
import { int8 } from './int8.ts'

/**
 * A state: what a newcomer takes over from a peer. The params as float32, for they are the work of all; then the direction of
 * momentum as int8, for it is forgotten within a few rounds. 5.016 bytes a param.
 */

/** Of any peer's: the length follows from the tensors alone, whatever its recipe. */
export function stateBytes(tensors: readonly TensorSpec[]): number {
  return float32.sizeBytes(tensors) + int8.sizeBytes(tensors)
}

/** Without a direction its place holds zeros. Throws Fault `diverged` when a param is not finite or over the cap. */
export function encodeState(
  params: Float32Array,
  direction: Float32Array | undefined,
  tensors: readonly TensorSpec[],
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(stateBytes(tensors))
  bytes.set(float32.encode(params, tensors))
  if (direction)
    bytes.set(int8.encode(direction.map(withinCap), tensors), float32.sizeBytes(tensors))
  return bytes
}

/** The gate: length, finite values, capped scales. */
export function checkState(
  bytes: Uint8Array,
  tensors: readonly TensorSpec[],
): Rejection | undefined {
  const [params, direction] = partsOf(bytes, tensors)
  return float32.check(params, tensors) ?? int8.check(direction, tensors)
}

/** Of one that passed its gate: writes the params, and gives a fresh direction. */
export function decodeStateInto(
  params: Float32Array,
  bytes: Uint8Array,
  tensors: readonly TensorSpec[],
): Float32Array {
  const [first, second] = partsOf(bytes, tensors)
  const direction = new Float32Array(params.length)
  float32.decodeBlockInto(params, first, 0, params.length, 0)
  forEachBlock(tensors, (start, length, index) => {
    const block = direction.subarray(start, start + length)
    int8.decodeBlockInto(block, second, start, length, index)
  })
  return direction
}

/** The params of a state as its bytes have them: float32, little-endian, in tensor order. */
export function paramsInState(bytes: Uint8Array, tensors: readonly TensorSpec[]): Uint8Array {
  return bytes.subarray(0, float32.sizeBytes(tensors))
}

function partsOf(bytes: Uint8Array, tensors: readonly TensorSpec[]): [Uint8Array, Uint8Array] {
  const params = paramsInState(bytes, tensors)
  return [params, bytes.subarray(params.length)]
}

/** With a tiny learning rate a direction may pass the cap that holds for params; a newcomer does without its last part. */
function withinCap(value: number): number {
  return Number.isFinite(value) ? Math.max(-VALUE_CAP, Math.min(VALUE_CAP, value)) : 0
}
