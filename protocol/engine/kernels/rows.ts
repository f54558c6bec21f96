import { RUN } from './part.ts'
import { splat, storePart } from './simd.ts'

/** Passes over matrices and vectors: sums of rows (gradients of biases), sums of two. */

/** to[columns] = sum of the rows. */
export function sumRows(from: usize, to: usize, rows: i32, columns: i32): void {
  sumAll(0, from, 0, to, rows, columns)
}

/** Multiplies the gradient in place by the derivative of relu (code 1) or relu6 (2) at `after`; to[columns] = sum of its rows. */
export function activationBiasGradient(
  code: i32,
  gradient: usize,
  after: usize,
  to: usize,
  rows: i32,
  columns: i32,
): void {
  if (code == 1) sumAll(1, gradient, after, to, rows, columns)
  else sumAll(2, gradient, after, to, rows, columns)
}

// @ts-ignore: decorator
@inline
function sumAll(code: i32, from: usize, after: usize, to: usize, rows: i32, columns: i32): void {
  const step = <usize>columns << 2
  let j = 0
  for (; j + 16 <= columns; j += 16) {
    const at = <usize>j << 2
    let t0 = splat(0)
    let t1 = splat(0)
    let t2 = splat(0)
    let t3 = splat(0)
    for (let r0 = 0; r0 < rows; r0 += RUN) {
      let s0 = splat(0)
      let s1 = splat(0)
      let s2 = splat(0)
      let s3 = splat(0)
      let place = from + <usize>r0 * step + at
      let mask = after + <usize>r0 * step + at
      for (let r = min(RUN, rows - r0); r > 0; r--) {
        s0 = f32x4.add(s0, masked(code, place, mask))
        s1 = f32x4.add(s1, masked(code, place + 16, mask + 16))
        s2 = f32x4.add(s2, masked(code, place + 32, mask + 32))
        s3 = f32x4.add(s3, masked(code, place + 48, mask + 48))
        place += step
        mask += step
      }
      t0 = f32x4.add(t0, s0)
      t1 = f32x4.add(t1, s1)
      t2 = f32x4.add(t2, s2)
      t3 = f32x4.add(t3, s3)
    }
    v128.store(to + at, t0)
    v128.store(to + at, t1, 16)
    v128.store(to + at, t2, 32)
    v128.store(to + at, t3, 48)
  }
  for (; j < columns; j += 4) {
    const at = <usize>j << 2
    const left = columns - j
    let total = splat(0)
    for (let r0 = 0; r0 < rows; r0 += RUN) {
      let sum = splat(0)
      let place = from + <usize>r0 * step + at
      let mask = after + <usize>r0 * step + at
      for (let r = min(RUN, rows - r0); r > 0; r--) {
        if (left >= 4) sum = f32x4.add(sum, masked(code, place, mask))
        else {
          const kept = v128.and(v128.load(place), maskOf(code, v128.load(mask)))
          if (code) storePart(place, kept, left)
          sum = f32x4.add(sum, kept)
        }
        place += step
        mask += step
      }
      total = f32x4.add(total, sum)
    }
    storePart(to + at, total, left)
  }
}

// @ts-ignore: decorator
@inline
function masked(code: i32, place: usize, mask: usize): v128 {
  const values = v128.load(place)
  if (!code) return values
  const kept = v128.and(values, maskOf(code, v128.load(mask)))
  v128.store(place, kept)
  return kept
}

// @ts-ignore: decorator
@inline
function maskOf(code: i32, after: v128): v128 {
  if (!code) return i32x4.splat(-1)
  const isPositive = f32x4.gt(after, splat(0))
  return code == 1 ? isPositive : v128.and(isPositive, f32x4.lt(after, splat(6)))
}

/** to = a + b; `to` may be either. */
export function add(a: usize, b: usize, to: usize, size: i32): void {
  let left = size
  for (; left >= 4; left -= 4) {
    v128.store(to, f32x4.add(v128.load(a), v128.load(b)))
    a += 16
    b += 16
    to += 16
  }
  if (left > 0) storePart(to, f32x4.add(v128.load(a), v128.load(b)), left)
}
