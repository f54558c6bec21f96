import type { Rejection } from '../errors.ts'
import type { TensorSpec } from '../params.ts'

/**
 * A codec: params ⇄ bytes. The length of an encoding follows from the tensors alone, so a receiver knows it before
 * the first byte. Encodings are read block by block: no decoded copy of a whole model ever exists.
 */
export interface Codec {
  readonly name: CodecName
  /** The exact number of bytes that `encode` makes. */
  sizeBytes(tensors: readonly TensorSpec[]): number
  /** A fresh encoding, kept by the caller. Throws Fault `diverged` when a value is not finite or over the cap. */
  encode(params: Float32Array, tensors: readonly TensorSpec[]): Uint8Array<ArrayBuffer>
  /** The gate: length, finite values, capped scales. Past it a copy is safe to add to params. */
  check(bytes: Uint8Array, tensors: readonly TensorSpec[]): Rejection | undefined
  /** Writes one block of `length` values (its place given by `start` and `index`, see forEachBlock) to `block`. */
  decodeBlockInto(
    block: Float32Array,
    bytes: Uint8Array,
    start: number,
    length: number,
    index: number,
  ): void
}

export type CodecName = 'float32' | 'int8'

/** An encoded copy of a whole model: what one peer sends another. */
export interface Copy {
  codec: Codec
  bytes: Uint8Array
}

/** No trained network holds larger numbers (this is float16's largest); a copy that claims one is refused. */
export const VALUE_CAP = 65_504
