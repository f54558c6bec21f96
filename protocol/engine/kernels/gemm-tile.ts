import { madd, splat, storePart } from './simd.ts'

/** The multiply-adds of gemm.ts: one tile of c, in registers from first to last. */

/** Its number in layers/settings.ts; what is neither this nor 0 is relu, and the others are not for gemm. */
const RELU6: i32 = 2

/**
 * One tile of up to 4 rows and 8 columns. Rows past `rows` repeat the last one, and write what it writes; columns past
 * `width` are not written.
 */
export function tile(
  rows: i32,
  width: i32,
  depth: i32,
  a: usize,
  aRow: i32,
  aColumn: i32,
  panel: usize,
  c: usize,
  cRow: i32,
  more: bool,
  bias: usize,
  activation: i32,
): void {
  let c00 = splat(0)
  let c01 = splat(0)
  let c10 = splat(0)
  let c11 = splat(0)
  let c20 = splat(0)
  let c21 = splat(0)
  let c30 = splat(0)
  let c31 = splat(0)
  const step = <usize>aColumn << 2
  if (aRow == 1 && rows == 4) {
    let k = depth
    do {
      const b0 = v128.load(panel)
      const b1 = v128.load(panel, 16)
      let x = v128.load32_splat(a)
      c00 = madd(x, b0, c00)
      c01 = madd(x, b1, c01)
      x = v128.load32_splat(a, 4)
      c10 = madd(x, b0, c10)
      c11 = madd(x, b1, c11)
      x = v128.load32_splat(a, 8)
      c20 = madd(x, b0, c20)
      c21 = madd(x, b1, c21)
      x = v128.load32_splat(a, 12)
      c30 = madd(x, b0, c30)
      c31 = madd(x, b1, c31)
      a += step
      panel += 32
    } while (--k)
  } else {
    let a1 = a + (<usize>(min(1, rows - 1) * aRow) << 2)
    let a2 = a + (<usize>(min(2, rows - 1) * aRow) << 2)
    let a3 = a + (<usize>(min(3, rows - 1) * aRow) << 2)
    let k = depth
    do {
      const b0 = v128.load(panel)
      const b1 = v128.load(panel, 16)
      let x = v128.load32_splat(a)
      c00 = madd(x, b0, c00)
      c01 = madd(x, b1, c01)
      x = v128.load32_splat(a1)
      c10 = madd(x, b0, c10)
      c11 = madd(x, b1, c11)
      x = v128.load32_splat(a2)
      c20 = madd(x, b0, c20)
      c21 = madd(x, b1, c21)
      x = v128.load32_splat(a3)
      c30 = madd(x, b0, c30)
      c31 = madd(x, b1, c31)
      a += step
      a1 += step
      a2 += step
      a3 += step
      panel += 32
    } while (--k)
  }
  const cStep = <usize>cRow << 2
  const c1 = rows > 1 ? c + cStep : c
  const c2 = rows > 2 ? c1 + cStep : c1
  const c3 = rows > 3 ? c2 + cStep : c2
  if (more) {
    c00 = f32x4.add(c00, v128.load(c))
    c01 = f32x4.add(c01, v128.load(c, 16))
    c10 = f32x4.add(c10, v128.load(c1))
    c11 = f32x4.add(c11, v128.load(c1, 16))
    c20 = f32x4.add(c20, v128.load(c2))
    c21 = f32x4.add(c21, v128.load(c2, 16))
    c30 = f32x4.add(c30, v128.load(c3))
    c31 = f32x4.add(c31, v128.load(c3, 16))
  }
  if (bias) {
    const low = v128.load(bias)
    const high = v128.load(bias, 16)
    c00 = f32x4.add(c00, low)
    c01 = f32x4.add(c01, high)
    c10 = f32x4.add(c10, low)
    c11 = f32x4.add(c11, high)
    c20 = f32x4.add(c20, low)
    c21 = f32x4.add(c21, high)
    c30 = f32x4.add(c30, low)
    c31 = f32x4.add(c31, high)
  }
  if (activation) {
    c00 = bounded(c00, activation)
    c01 = bounded(c01, activation)
    c10 = bounded(c10, activation)
    c11 = bounded(c11, activation)
    c20 = bounded(c20, activation)
    c21 = bounded(c21, activation)
    c30 = bounded(c30, activation)
    c31 = bounded(c31, activation)
  }
  if (width == 8) {
    v128.store(c, c00)
    v128.store(c, c01, 16)
    v128.store(c1, c10)
    v128.store(c1, c11, 16)
    v128.store(c2, c20)
    v128.store(c2, c21, 16)
    v128.store(c3, c30)
    v128.store(c3, c31, 16)
  } else {
    part(c, c00, c01, width)
    part(c1, c10, c11, width)
    part(c2, c20, c21, width)
    part(c3, c30, c31, width)
  }
}

/**
 * 6 rows of a tile of [depth, 6] and up to 8 columns. Its 12 sums, 2 of b and 1 of a are as many registers as V8 gives out: only
 * a fused multiply-add needs no other.
 */
export function tall(
  width: i32,
  depth: i32,
  a: usize,
  panel: usize,
  c: usize,
  cRow: i32,
  more: bool,
  bias: usize,
  activation: i32,
): void {
  let c00 = splat(0)
  let c01 = splat(0)
  let c10 = splat(0)
  let c11 = splat(0)
  let c20 = splat(0)
  let c21 = splat(0)
  let c30 = splat(0)
  let c31 = splat(0)
  let c40 = splat(0)
  let c41 = splat(0)
  let c50 = splat(0)
  let c51 = splat(0)
  do {
    const b0 = v128.load(panel)
    const b1 = v128.load(panel, 16)
    let x = v128.load32_splat(a)
    c00 = madd(x, b0, c00)
    c01 = madd(x, b1, c01)
    x = v128.load32_splat(a, 4)
    c10 = madd(x, b0, c10)
    c11 = madd(x, b1, c11)
    x = v128.load32_splat(a, 8)
    c20 = madd(x, b0, c20)
    c21 = madd(x, b1, c21)
    x = v128.load32_splat(a, 12)
    c30 = madd(x, b0, c30)
    c31 = madd(x, b1, c31)
    x = v128.load32_splat(a, 16)
    c40 = madd(x, b0, c40)
    c41 = madd(x, b1, c41)
    x = v128.load32_splat(a, 20)
    c50 = madd(x, b0, c50)
    c51 = madd(x, b1, c51)
    a += 24
    panel += 32
  } while (--depth)
  const step = <usize>cRow << 2
  finishRow(c, c00, c01, width, more, bias, activation)
  c += step
  finishRow(c, c10, c11, width, more, bias, activation)
  c += step
  finishRow(c, c20, c21, width, more, bias, activation)
  c += step
  finishRow(c, c30, c31, width, more, bias, activation)
  c += step
  finishRow(c, c40, c41, width, more, bias, activation)
  c += step
  finishRow(c, c50, c51, width, more, bias, activation)
}

// @ts-ignore: decorator
@inline
function finishRow(
  c: usize,
  low: v128,
  high: v128,
  width: i32,
  more: bool,
  bias: usize,
  activation: i32,
): void {
  if (more) {
    low = f32x4.add(low, v128.load(c))
    high = f32x4.add(high, v128.load(c, 16))
  }
  if (bias) {
    low = f32x4.add(low, v128.load(bias))
    high = f32x4.add(high, v128.load(bias, 16))
  }
  if (activation) {
    low = bounded(low, activation)
    high = bounded(high, activation)
  }
  if (width == 8) {
    v128.store(c, low)
    v128.store(c, high, 16)
  } else part(c, low, high, width)
}

function part(to: usize, low: v128, high: v128, width: i32): void {
  storePart(to, low, width)
  storePart(to + 16, high, width - 4)
}

// @ts-ignore: decorator
@inline
function bounded(x: v128, activation: i32): v128 {
  const positive = f32x4.max(x, splat(0))
  return activation == RELU6 ? f32x4.min(positive, splat(6)) : positive
}
