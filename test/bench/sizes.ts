import { BLOCK, type TensorSpec } from '../../protocol/params.ts'

/** One tensor whose int8 copy is that many million bytes, less than a block away. */
export function tensorsFor(megabytes: number): TensorSpec[] {
  const blocks = Math.round((megabytes * 1e6) / (BLOCK + 4))
  return [{ name: 'all', shape: [blocks * BLOCK], role: 'trainable' }]
}
