/**
 * Scaled dot-product attention over heads.
 *
 *   q[batch, rows, heads, size]  k[batch, columns, heads, size]  v[batch, columns, heads, depth]  out[batch, rows, heads, depth]
 *   shares[batch, heads, rows, columns]: softmax of q k' / sqrt(size)
 *
 * Source: Vaswani et al. 2017. k and v of a head are turned in scratch, the rest is read where the projections left it.
 */
import { softmax, softmaxGradient } from './activation.ts'
import { packPanels, smallMultiply, smallPanels } from './small.ts'

/** packed: scratch of 8 * size * ceil(columns / 8) floats. */
export function attend(
  q: usize, k: usize, v: usize, out: usize, shares: usize, packed: usize,
  batch: i32, rows: i32, columns: i32, heads: i32, size: i32, depth: i32,
): void {
  const sizeRow = <usize>(heads * size) << 2
  const depthRow = <usize>(heads * depth) << 2
  const shareRow = <usize>columns << 2
  const scale = <f32>1 / sqrt<f32>(<f32>size)
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const bySize = <usize>(h * size) << 2
      const byDepth = <usize>(h * depth) << 2
      packPanels(k + bySize, 4, sizeRow, packed, columns, size)
      smallPanels(q + bySize, sizeRow, 4, packed, 32, <usize>size << 5, shares, shareRow, rows, columns, size, scale, false)
      softmax(shares, shares, rows, columns)
      smallMultiply(shares, shareRow, 4, v + byDepth, depthRow, out + byDepth, depthRow, rows, depth, columns, 1, false)
      shares += shareRow * rows
    }
    q += sizeRow * rows
    k += sizeRow * columns
    v += depthRow * columns
    out += depthRow * rows
  }
}

/**
 * Overwrites dq, dk, dv. packed: scratch of 8 * depth * ceil(columns / 8) floats; scores: scratch of rows * columns floats.
 */
export function attendGradient(
  q: usize, k: usize, v: usize, shares: usize, dOut: usize, dq: usize, dk: usize, dv: usize, packed: usize, scores: usize,
  batch: i32, rows: i32, columns: i32, heads: i32, size: i32, depth: i32,
): void {
  const sizeRow = <usize>(heads * size) << 2
  const depthRow = <usize>(heads * depth) << 2
  const shareRow = <usize>columns << 2
  const scale = <f32>1 / sqrt<f32>(<f32>size)
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const bySize = <usize>(h * size) << 2
      const byDepth = <usize>(h * depth) << 2
      smallMultiply(shares, 4, shareRow, dOut + byDepth, depthRow, dv + byDepth, depthRow, columns, depth, rows, 1, false)
      packPanels(v + byDepth, 4, depthRow, packed, columns, depth)
      smallPanels(dOut + byDepth, depthRow, 4, packed, 32, <usize>depth << 5, scores, shareRow, rows, columns, depth, 1, false)
      softmaxGradient(scores, shares, scores, rows, columns)
      smallMultiply(scores, shareRow, 4, k + bySize, sizeRow, dq + bySize, sizeRow, rows, size, columns, scale, false)
      smallMultiply(scores, 4, shareRow, q + bySize, sizeRow, dk + bySize, sizeRow, columns, size, rows, scale, false)
      shares += shareRow * rows
    }
    q += sizeRow * rows
    dq += sizeRow * rows
    k += sizeRow * columns
    dk += sizeRow * columns
    v += depthRow * columns
    dv += depthRow * columns
    dOut += depthRow * rows
  }
}
