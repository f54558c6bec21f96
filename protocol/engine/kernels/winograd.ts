import { madd } from './simd.ts'
import { foldTile4, gradientTile4, inputTile4, outputTile4, transformTaps4 } from './tiles4.ts'
import { foldTile6, gradientTile6, inputTile6, outputTile6, transformTaps6 } from './tiles6.ts'

/**
 * Winograd F(2×2, R×R) and F(R×R, 2×2), R = 3 or 5: convolutions of stride 1 with 16 multiplications where the direct ones
 * take 36, or 36 where they take 100.
 *
 * A tile of the input, `side` = R + 1 pixels a side, becomes side² values by BᵀdB, each of them a matrix product of its own
 * over channels, and the sums come back by AᵀmA: a 2×2 tile of the output, or, with the same input tiles, the R×R filter
 * gradient. Tiles that stick out over an edge are gathered into a patch with zeros around, so no border is needed. C and K
 * divide by 4. layers/winograd.ts says how much scratch it takes.
 * Source: Lavin and Gray 2015, Fast algorithms for convolutional neural networks.
 */

/** Tiles transformed at a time, a multiple of the 5 that one pass of the product takes; of larger ones half as many. */
const TILES: i32 = 40
const GRADIENT_TILES: i32 = 48
/** Floats between two of the side² matrices, beyond the values: they must not fall on the same cache sets. */
const APART: i32 = 16
/** Bytes of scratch for one tile of four channels on its way. */
const LINES: i32 = 576

/**
 * output[n, y, x, k] = max(floor, bias + Σ over the R×R window from (y − top, x − left) of input · kernel), zeros around
 * the input. turned: kernel [R, R, K, C] turned round, for the input gradient.
 */
export function winograd(
  side: i32, input: usize, height: i32, width: i32, C: i32, top: i32, left: i32,
  kernel: usize, turned: bool, bias: usize, floor: f32,
  output: usize, outHeight: i32, outWidth: i32, K: i32, images: i32, scratch: usize,
): void {
  const down = (outHeight + 1) >> 1, across = (outWidth + 1) >> 1
  const tiles = down * across
  const total = images * tiles
  const most = side == 4 ? TILES : TILES / 2
  const matrices = side * side
  const blocks = (K + 7) >> 3
  const panelStep = C << 5
  const valueStep = most * C + APART << 2
  const sumStep = most * blocks * 8 + APART << 2
  const matrixStep = blocks * panelStep + (APART << 2)
  const values = scratch + matrices * matrixStep
  const sums = values + matrices * valueStep
  const lines = sums + matrices * sumStep
  transformKernel(side, kernel, scratch, matrixStep, C, K, turned, lines)
  const least = f32x4.splat(floor)
  const right = K << 2, below = outWidth * K << 2
  for (let first = 0; first < total; first += most) {
    const count = min(most, total - first)
    for (let t = 0; t < count; t++) {
      const n = (first + t) / tiles, place = (first + t) % tiles
      const y = (place / across << 1) - top, x = (place % across << 1) - left
      inputTile(side, input + n * height * width * C * 4, height, width, C, y, x, lines, values + (t * C << 2), valueStep)
    }
    for (let e = 0; e < matrices; e++) {
      let panel = scratch + e * matrixStep
      for (let k = 0; k < blocks; k++) {
        let to = sums + e * sumStep + (k << 5)
        for (let t = 0; t < count; t += 5) {
          product(values + e * valueStep + (t * C << 2), C << 2, panel, panelStep, to, blocks << 5)
          to += blocks * 160
        }
        panel += panelStep
      }
    }
    for (let t = 0; t < count; t++) {
      const n = (first + t) / tiles, place = (first + t) % tiles
      const y = place / across << 1, x = place % across << 1
      const from = sums + (t * blocks << 5)
      const to = output + (((n * outHeight + y) * outWidth + x) * K << 2)
      const column = x + 1 < outWidth ? right : 0, row = y + 1 < outHeight ? below : 0
      if (side == 4) outputTile4(from, sumStep, bias, least, to, K, column, row)
      else outputTile6(from, sumStep, bias, least, to, K, column, row, lines)
    }
  }
}

/** BᵀdB of the tile whose corner is (y, x), which may stick out: side² × C floats, `step` bytes apart. */
function inputTile(
  side: i32, image: usize, height: i32, width: i32, C: i32, y: i32, x: i32, lines: usize, to: usize, step: i32,
): void {
  const pixel = C << 2
  let from = image + (y * width + x) * pixel
  let row = width * pixel
  if (y < 0 || x < 0 || y + side > height || x + side > width) {
    const patch = lines + LINES
    const begin = max(0, -x), end = min(side, width - x)
    memory.fill(patch, 0, side * side * pixel)
    if (end > begin) for (let i = max(0, -y), rows = min(side, height - y); i < rows; i++) {
      memory.copy(patch + (i * side + begin) * pixel, from + i * row + begin * pixel, (end - begin) * pixel)
    }
    from = patch
    row = side * pixel
  }
  if (side == 4) inputTile4(from, row, C, to, step)
  else inputTile6(from, row, C, to, step, lines)
}

/**
 * Kernel [R, R, C, K] → panels [side²][⌈K/8⌉][C][8], `step` bytes apart, by GgGᵀ; what is past K stays as it is. turned: kernel
 * [R, R, K, C] turned round.
 */
function transformKernel(
  side: i32, kernel: usize, panels: usize, step: i32, C: i32, K: i32, turned: bool, lines: usize,
): void {
  const taps = (side - 1) * (side - 1)
  const tap = C * K << 2
  const patch = lines + LINES
  for (let k = 0; k < K; k += 4) {
    let to = panels + (k >> 3) * (C << 5) + ((k & 4) << 2)
    for (let c = 0; c < C; c += 4) {
      if (turned) turnTaps(taps, kernel + (k * C + c << 2), C << 2, tap, patch)
      let from = turned ? patch : kernel + (c * K + k << 2)
      for (let i = 0; i < 4; i++) {
        if (side == 4) transformTaps4(from, turned ? 64 : tap, to, step, lines)
        else transformTaps6(from, turned ? 64 : tap, to, step, lines)
        from += turned ? 16 : K << 2
        to += 32
      }
    }
  }
}

/** Four kernels of four channels, rows `row` bytes apart → [taps][4][4], last tap first, turned over so that kernels lie side by side. */
function turnTaps(taps: i32, from: usize, row: i32, tap: i32, to: usize): void {
  from += tap * (taps - 1)
  for (let i = 0; i < taps; i++) {
    const x0 = v128.load(from), x1 = v128.load(from + row), x2 = v128.load(from + row * 2), x3 = v128.load(from + row * 3)
    const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5), high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7)
    const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5), high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7)
    v128.store(to, v128.shuffle<f64>(low01, low23, 0, 2))
    v128.store(to, v128.shuffle<f64>(low01, low23, 1, 3), 16)
    v128.store(to, v128.shuffle<f64>(high01, high23, 0, 2), 32)
    v128.store(to, v128.shuffle<f64>(high01, high23, 1, 3), 48)
    from -= tap
    to += 64
  }
}

/** Five rows of values [C] times a panel [C][8]: rows of 8 sums, `step` bytes apart. */
function product(p0: usize, row: i32, panel: usize, length: i32, to: usize, step: i32): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00, c40 = c00, c41 = c00
  let p1 = p0 + row, p2 = p1 + row, p3 = p2 + row, p4 = p3 + row
  const end = panel + length
  while (panel < end) {
    const b0 = v128.load(panel), b1 = v128.load(panel, 16)
    let a = v128.load32_splat(p0)
    c00 = madd(a, b0, c00)
    c01 = madd(a, b1, c01)
    a = v128.load32_splat(p1)
    c10 = madd(a, b0, c10)
    c11 = madd(a, b1, c11)
    a = v128.load32_splat(p2)
    c20 = madd(a, b0, c20)
    c21 = madd(a, b1, c21)
    a = v128.load32_splat(p3)
    c30 = madd(a, b0, c30)
    c31 = madd(a, b1, c31)
    a = v128.load32_splat(p4)
    c40 = madd(a, b0, c40)
    c41 = madd(a, b1, c41)
    p0 += 4
    p1 += 4
    p2 += 4
    p3 += 4
    p4 += 4
    panel += 32
  }
  v128.store(to, c00)
  v128.store(to, c01, 16)
  to += step
  v128.store(to, c10)
  v128.store(to, c11, 16)
  to += step
  v128.store(to, c20)
  v128.store(to, c21, 16)
  to += step
  v128.store(to, c30)
  v128.store(to, c31, 16)
  to += step
  v128.store(to, c40)
  v128.store(to, c41, 16)
}

/** result [R, R, C, K] = filter gradient, from the input's tiles and the output gradient's 2×2 tiles. */
export function winogradFilterGradient(
  side: i32, input: usize, height: i32, width: i32, C: i32, top: i32, left: i32,
  gradient: usize, outHeight: i32, outWidth: i32, K: i32, images: i32, result: usize, scratch: usize,
): void {
  const down = (outHeight + 1) >> 1, across = (outWidth + 1) >> 1
  const tiles = down * across
  const total = images * tiles
  const most = side == 4 ? GRADIENT_TILES : GRADIENT_TILES / 2
  const matrices = side * side
  const wide = K + 7 & ~7
  const sumStep = C * wide + APART << 2
  const valueStep = most * C + APART << 2
  const gradientStep = most * wide + APART << 2
  const values = scratch + matrices * sumStep
  const gradients = values + matrices * valueStep
  const lines = gradients + matrices * gradientStep
  memory.fill(scratch, 0, matrices * sumStep)
  for (let first = 0; first < total; first += most) {
    const count = min(most, total - first)
    for (let t = 0; t < count; t++) {
      const n = (first + t) / tiles, place = (first + t) % tiles
      const y = place / across << 1, x = place % across << 1
      inputTile(side, input + n * height * width * C * 4, height, width, C, y - top, x - left, lines, values + (t * C << 2), valueStep)
      const from = gradient + (((n * outHeight + y) * outWidth + x) * K << 2)
      const to = gradients + (t * wide << 2)
      const column = x + 1 < outWidth, row = y + 1 < outHeight
      if (side == 4) gradientTile4(from, K, column, row, outWidth, to, gradientStep)
      else gradientTile6(from, K, column, row, outWidth, to, gradientStep, lines)
    }
    for (let e = 0; e < matrices; e++) {
      const from = values + e * valueStep
      const by = gradients + e * gradientStep
      const to = scratch + e * sumStep
      for (let k = 0; k < K; k += 8) {
        for (let c = 0; c < C; c += 4) {
          accumulate(from + (c << 2), C << 2, by + (k << 2), wide << 2, count, to + ((c * wide + k) << 2))
        }
      }
    }
  }
  const tap = C * K << 2
  for (let c = 0; c < C; c++) {
    for (let k = 0; k < K; k += 4) {
      const from = scratch + ((c * wide + k) << 2)
      const to = result + ((c * K + k) << 2)
      if (side == 4) foldTile4(from, sumStep, to, tap)
      else foldTile6(from, sumStep, to, tap)
    }
  }
}

/** sums[4][8] += Σ over t of values[t][4] · gradients[t][8]: a short sum joins the long one at its end, which keeps float32 exact. */
function accumulate(p: usize, row: i32, b: usize, step: i32, count: i32, to: usize): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00
  const end = b + count * step
  while (b < end) {
    const b0 = v128.load(b), b1 = v128.load(b, 16)
    let a = v128.load32_splat(p)
    c00 = madd(a, b0, c00)
    c01 = madd(a, b1, c01)
    a = v128.load32_splat(p, 4)
    c10 = madd(a, b0, c10)
    c11 = madd(a, b1, c11)
    a = v128.load32_splat(p, 8)
    c20 = madd(a, b0, c20)
    c21 = madd(a, b1, c21)
    a = v128.load32_splat(p, 12)
    c30 = madd(a, b0, c30)
    c31 = madd(a, b1, c31)
    p += row
    b += step
  }
  join(to, c00, c01)
  join(to + step, c10, c11)
  join(to + step * 2, c20, c21)
  join(to + step * 3, c30, c31)
}

// @ts-ignore: decorator
@inline
function join(to: usize, a: v128, b: v128): void {
  v128.store(to, f32x4.add(v128.load(to), a))
  v128.store(to, f32x4.add(v128.load(to, 16), b), 16)
}
