/**
 * Small matrix product without packing: C = scale * A B (+ C), where B is row-major or a column panel.
 *
 *   A[i, k] at a + i * aRow + k * aStep: any strides, so a transpose costs nothing
 *   B[k, j] at b + k * bRow + 4 j; C[i, j] at c + i * cRow + 4 j
 *
 * Strides in bytes. For products whose operands stay in the first cache: a head of attention, a step of a recurrent layer.
 */
import { madd } from './simd.ts'

// @ts-ignore: decorator
@inline
function put(c: usize, sum: v128, scale: v128, add: bool): void {
  const scaled = f32x4.mul(sum, scale)
  v128.store(c, add ? f32x4.add(v128.load(c), scaled) : scaled)
}

function tile4x8(a: usize, aRow: usize, aStep: usize, b: usize, bRow: usize, c: usize, cRow: usize, k: i32, scale: v128, add: bool): void {
  let a1 = a + aRow
  let a2 = a1 + aRow
  let a3 = a2 + aRow
  let s00 = f32x4.splat(0)
  let s01 = s00
  let s10 = s00
  let s11 = s00
  let s20 = s00
  let s21 = s00
  let s30 = s00
  let s31 = s00
  for (; k > 0; k--) {
    const b0 = v128.load(b)
    const b1 = v128.load(b, 16)
    let x = v128.load32_splat(a)
    s00 = madd(x, b0, s00)
    s01 = madd(x, b1, s01)
    x = v128.load32_splat(a1)
    s10 = madd(x, b0, s10)
    s11 = madd(x, b1, s11)
    x = v128.load32_splat(a2)
    s20 = madd(x, b0, s20)
    s21 = madd(x, b1, s21)
    x = v128.load32_splat(a3)
    s30 = madd(x, b0, s30)
    s31 = madd(x, b1, s31)
    a += aStep
    a1 += aStep
    a2 += aStep
    a3 += aStep
    b += bRow
  }
  put(c, s00, scale, add)
  put(c + 16, s01, scale, add)
  c += cRow
  put(c, s10, scale, add)
  put(c + 16, s11, scale, add)
  c += cRow
  put(c, s20, scale, add)
  put(c + 16, s21, scale, add)
  c += cRow
  put(c, s30, scale, add)
  put(c + 16, s31, scale, add)
}

function tile1x4(a: usize, aStep: usize, b: usize, bRow: usize, c: usize, k: i32, scale: v128, add: bool): void {
  let sum = f32x4.splat(0)
  for (; k > 0; k--) {
    sum = madd(v128.load32_splat(a), v128.load(b), sum)
    a += aStep
    b += bRow
  }
  put(c, sum, scale, add)
}

function tile1x1(a: usize, aStep: usize, b: usize, bRow: usize, c: usize, k: i32, scale: f32, add: bool): void {
  let sum: f32 = 0
  for (; k > 0; k--) {
    sum += load<f32>(a) * load<f32>(b)
    a += aStep
    b += bRow
  }
  sum *= scale
  store<f32>(c, add ? load<f32>(c) + sum : sum)
}

export function smallMultiply(
  a: usize, aRow: usize, aStep: usize,
  b: usize, bRow: usize,
  c: usize, cRow: usize,
  m: i32, n: i32, k: i32,
  scale: f32, add: bool,
): void {
  smallPanels(a, aRow, aStep, b, bRow, 32, c, cRow, m, n, k, scale, add)
}

/** The same with B in panels of 8 columns, `panel` bytes apart (32 where B is row-major). The last, n % 8 wide, lies alike. */
export function smallPanels(
  a: usize, aRow: usize, aStep: usize,
  b: usize, bRow: usize, panel: usize,
  c: usize, cRow: usize,
  m: i32, n: i32, k: i32,
  scale: f32, add: bool,
): void {
  const scales = f32x4.splat(scale)
  let j = 0
  for (; j + 8 <= n; j += 8) {
    let ai = a
    let ci = c
    let i = 0
    for (; i + 4 <= m; i += 4) {
      tile4x8(ai, aRow, aStep, b, bRow, ci, cRow, k, scales, add)
      ai += aRow << 2
      ci += cRow << 2
    }
    for (; i < m; i++) {
      tile1x4(ai, aStep, b, bRow, ci, k, scales, add)
      tile1x4(ai, aStep, b + 16, bRow, ci + 16, k, scales, add)
      ai += aRow
      ci += cRow
    }
    b += panel
    c += 32
  }
  for (let i = 0; i < m; i++) {
    let bj = b
    let cj = c
    let left = n - j
    if (left >= 4) {
      tile1x4(a, aStep, bj, bRow, cj, k, scales, add)
      bj += 16
      cj += 16
      left -= 4
    }
    for (; left > 0; left--) {
      tile1x1(a, aStep, bj, bRow, cj, k, scale, add)
      bj += 4
      cj += 4
    }
    a += aRow
    c += cRow
  }
}

/** Panels of 8 columns of B[k, j] at b + k * bRow + j * bStep, padded with zeros: packed takes 32 * k * ceil(n / 8) bytes. */
export function packPanels(b: usize, bRow: usize, bStep: usize, packed: usize, n: i32, k: i32): void {
  for (let j = 0; j < n; j += 8) {
    const width = min(8, n - j)
    let row = b + <usize>j * bStep
    for (let i = 0; i < k; i++) {
      if (width == 8 && bStep == 4) {
        v128.store(packed, v128.load(row))
        v128.store(packed, v128.load(row, 16), 16)
      } else {
        let from = row
        for (let x = 0; x < 8; x++) {
          store<f32>(packed + (<usize>x << 2), x < width ? load<f32>(from) : 0)
          from += bStep
        }
      }
      packed += 32
      row += bRow
    }
  }
}
