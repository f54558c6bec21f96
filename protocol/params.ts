/**
 * A model's numbers: one flat Float32Array, cut into tensors by a list of specs in model.json order.
 *
 *   params   Float32Array[d]   d = sum of the tensors' sizes
 */

/** What a tensor is: optimised, or a BatchNorm statistic that is mixed but never optimised. */
export type TensorRole = 'trainable' | 'mean' | 'variance'

export interface TensorSpec {
  name: string
  shape: readonly number[]
  role: TensorRole
}

/** Values per block: every codec and every pass over params cuts each tensor in blocks of this many. */
export const BLOCK = 256

/** d: how many numbers the tensors hold together. */
export function sizeOf(tensors: readonly TensorSpec[]): number {
  let size = 0
  for (const tensor of tensors) size += tensorSize(tensor)
  return size
}

export function tensorSize(tensor: TensorSpec): number {
  let size = 1
  for (const length of tensor.shape) size *= length
  return size
}

/** How many blocks the tensors have; blocks restart at each tensor, so the last of a tensor may be short. */
export function blockCount(tensors: readonly TensorSpec[]): number {
  let count = 0
  for (const tensor of tensors) count += Math.ceil(tensorSize(tensor) / BLOCK)
  return count
}

/** Visits the blocks in order: `start` in params, `length` in values, `index` among all blocks, its tensor. */
export function forEachBlock(
  tensors: readonly TensorSpec[],
  visit: (start: number, length: number, index: number, tensor: TensorSpec) => void,
): void {
  let start = 0
  let index = 0
  for (const tensor of tensors) {
    const end = start + tensorSize(tensor)
    for (; start < end; start += BLOCK) visit(start, Math.min(BLOCK, end - start), index++, tensor)
    start = end
  }
}

/** Visits each tensor's range [start, end) in params; `index` is its place in the list. */
export function forEachTensor(
  tensors: readonly TensorSpec[],
  visit: (tensor: TensorSpec, start: number, end: number, index: number) => void,
): void {
  let start = 0
  tensors.forEach((tensor, index) => {
    const end = start + tensorSize(tensor)
    visit(tensor, start, end, index)
    start = end
  })
}

/** Whether every value is a finite number. */
export function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i]!)) return false
  return true
}
