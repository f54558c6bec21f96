import { madd } from './simd.ts'

/**
 * Winograd F(2×2, 3×3) and F(3×3, 2×2): 3×3 convolutions of stride 1 with 16 multiplications where the direct ones take 36.
 *
 * A 4×4 tile of the input becomes 16 values by BᵀdB, each of the 16 a matrix product of its own over channels, and the
 * sums come back by AᵀmA: a 2×2 tile of the output, or, with the same input tiles, the 3×3 filter gradient. Tiles that
 * stick out over an edge are gathered into a patch with zeros around, so no border is needed. C and K divide by 4.
 * Source: Lavin and Gray 2015, Fast algorithms for convolutional neural networks.
 */

/** Tiles transformed at a time, a multiple of the 5 that one pass of the product takes. */
const TILES: i32 = 40
const GRADIENT_TILES: i32 = 48
/** Floats between two of the 16, beyond the values: the 16 must not fall on the same cache sets. */
const APART: i32 = 16

/**
 * output[n, y, x, k] = max(floor, bias + Σ over the 3×3 window from (y − top, x − left) of input · kernel), zeros around
 * the input. turned: kernel [3, 3, K, C] turned round, for the input gradient.
 * scratch: 16 · (C · K8 + 41 · C + 40 · K8 + 48) floats, K8 = K rounded up to 8 (layers/winograd.ts).
 */
export function winograd(
  input: usize, height: i32, width: i32, C: i32, top: i32, left: i32,
  kernel: usize, turned: bool, bias: usize, floor: f32,
  output: usize, outHeight: i32, outWidth: i32, K: i32, images: i32, scratch: usize,
): void {
  const down = (outHeight + 1) >> 1, across = (outWidth + 1) >> 1
  const tiles = down * across
  const total = images * tiles
  const blocks = (K + 7) >> 3
  const panelStep = C << 5
  const valueStep = TILES * C + APART << 2
  const sumStep = TILES * blocks * 8 + APART << 2
  const matrixStep = blocks * panelStep + (APART << 2)
  const values = scratch + 16 * matrixStep
  const sums = values + 16 * valueStep
  const patch = sums + 16 * sumStep
  transformKernel(kernel, scratch, matrixStep, C, K, turned, patch)
  const least = f32x4.splat(floor)
  const right = K << 2, below = outWidth * K << 2
  for (let first = 0; first < total; first += TILES) {
    const count = min(TILES, total - first)
    for (let t = 0; t < count; t++) {
      const n = (first + t) / tiles, place = (first + t) % tiles
      const y = place / across << 1, x = place % across << 1
      inputTile(input + n * height * width * C * 4, height, width, C, y - top, x - left, patch, values + (t * C << 2), valueStep)
    }
    for (let e = 0; e < 16; e++) {
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
      const to = output + (((n * outHeight + y) * outWidth + x) * K << 2)
      outputTile(sums + (t * blocks << 5), sumStep, bias, least, to, K, x + 1 < outWidth ? right : 0, y + 1 < outHeight ? below : 0)
    }
  }
}

/**
 * Kernel [3, 3, C, K] → panels [16][⌈K/8⌉][C][8], `step` bytes apart, by GgGᵀ; what is past K stays as it is. turned: kernel
 * [3, 3, K, C] turned round. patch: 192 floats of scratch.
 */
function transformKernel(kernel: usize, panels: usize, step: i32, C: i32, K: i32, turned: bool, patch: usize): void {
  const tap = C * K << 2
  const columns = patch + 576
  for (let k = 0; k < K; k += 4) {
    let to = panels + (k >> 3) * (C << 5) + ((k & 4) << 2)
    for (let c = 0; c < C; c += 4) {
      if (turned) turnTaps(kernel + (k * C + c << 2), C << 2, tap, patch)
      let from = turned ? patch : kernel + (c * K + k << 2)
      for (let i = 0; i < 4; i++) {
        transformTaps(from, turned ? 64 : tap, columns, to, step)
        from += turned ? 16 : K << 2
        to += 32
      }
    }
  }
}

/** Four kernels of four channels, rows `row` bytes apart → [9][4][4], last tap first, turned over so that kernels lie side by side. */
function turnTaps(from: usize, row: i32, tap: i32, to: usize): void {
  from += tap * 8
  for (let i = 0; i < 9; i++) {
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

/** GgGᵀ of the taps of one channel, four kernels side by side. */
function transformTaps(from: usize, tap: i32, columns: usize, to: usize, step: i32): void {
  const half = f32x4.splat(0.5)
  for (let x = 0; x < 3; x++) {
    widen(from + tap * x, tap * 3, half, columns + (x << 4), 48)
  }
  for (let y = 0; y < 4; y++) {
    widen(columns + y * 48, 16, half, to, step)
    to += step << 2
  }
}

/** Four values of three: by G of F(2, 3). */
// @ts-ignore: decorator
@inline
function widen(from: usize, step: i32, half: v128, to: usize, toStep: i32): void {
  const a = v128.load(from), b = f32x4.mul(v128.load(from + step), half), c = v128.load(from + step * 2)
  const plus = f32x4.mul(f32x4.add(a, c), half)
  v128.store(to, a)
  v128.store(to + toStep, f32x4.add(plus, b))
  v128.store(to + toStep * 2, f32x4.sub(plus, b))
  v128.store(to + toStep * 3, c)
}

/** BᵀdB of the tile whose corner is (y, x), which may stick out: 16 × C floats, `step` bytes apart. */
function inputTile(image: usize, height: i32, width: i32, C: i32, y: i32, x: i32, patch: usize, to: usize, step: i32): void {
  const o1 = C << 2, o2 = o1 << 1, o3 = o1 + o2
  let from = image + ((y * width + x) * C << 2)
  let row = width * C << 2
  if (y < 0 || x < 0 || y + 4 > height || x + 4 > width) {
    const begin = max(0, -x), end = min(4, width - x)
    memory.fill(patch, 0, C << 6)
    if (end > begin) for (let i = max(0, -y), rows = min(4, height - y); i < rows; i++) {
      memory.copy(patch + ((i * 4 + begin) * C << 2), from + i * row + begin * o1, (end - begin) * o1)
    }
    from = patch
    row = C << 4
  }
  const r1 = row, r2 = row * 2, r3 = row * 3
  const line = step << 2
  const stop = from + o1
  while (from < stop) {
    // Rows of Bᵀd one after the other, so that few values are alive at a time.
    takenRow(from, from + r2, o1, o2, o3, to, step)
    let d0 = f32x4.add(v128.load(from + r1), v128.load(from + r2))
    let d1 = f32x4.add(v128.load(from + r1 + o1), v128.load(from + r2 + o1))
    let d2 = f32x4.add(v128.load(from + r1 + o2), v128.load(from + r2 + o2))
    let d3 = f32x4.add(v128.load(from + r1 + o3), v128.load(from + r2 + o3))
    putRow(d0, d1, d2, d3, to + line, step)
    takenRow(from + r2, from + r1, o1, o2, o3, to + line * 2, step)
    takenRow(from + r1, from + r3, o1, o2, o3, to + line * 3, step)
    from += 16
    to += 16
  }
}

/** A row of Bᵀd that is one row less another, times B. */
// @ts-ignore: decorator
@inline
function takenRow(p: usize, q: usize, o1: i32, o2: i32, o3: i32, to: usize, step: i32): void {
  const d0 = f32x4.sub(v128.load(p), v128.load(q))
  const d1 = f32x4.sub(v128.load(p + o1), v128.load(q + o1))
  const d2 = f32x4.sub(v128.load(p + o2), v128.load(q + o2))
  const d3 = f32x4.sub(v128.load(p + o3), v128.load(q + o3))
  putRow(d0, d1, d2, d3, to, step)
}

// @ts-ignore: decorator
@inline
function putRow(d0: v128, d1: v128, d2: v128, d3: v128, to: usize, step: i32): void {
  v128.store(to, f32x4.sub(d0, d2))
  v128.store(to + step, f32x4.add(d1, d2))
  v128.store(to + step * 2, f32x4.sub(d2, d1))
  v128.store(to + step * 3, f32x4.sub(d1, d3))
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

/** AᵀmA + bias: a 2×2 tile of the output; a step of 0 says that there is no second column, or row. */
function outputTile(from: usize, step: i32, bias: usize, least: v128, to: usize, K: i32, column: i32, row: i32): void {
  const line = step << 2
  for (let k = 0; k < K; k += 4) {
    const b = bias ? v128.load(bias + (k << 2)) : f32x4.splat(0)
    let p = from
    let s0 = v128.load(p), s1 = v128.load(p + step), s2 = v128.load(p + step * 2), s3 = v128.load(p + step * 3)
    p += line
    const m0 = v128.load(p), m1 = v128.load(p + step), m2 = v128.load(p + step * 2), m3 = v128.load(p + step * 3)
    s0 = f32x4.add(s0, m0)
    s1 = f32x4.add(s1, m1)
    s2 = f32x4.add(s2, m2)
    s3 = f32x4.add(s3, m3)
    p += line
    const n0 = v128.load(p), n1 = v128.load(p + step), n2 = v128.load(p + step * 2), n3 = v128.load(p + step * 3)
    putPair(f32x4.add(s0, n0), f32x4.add(s1, n1), f32x4.add(s2, n2), f32x4.add(s3, n3), b, least, to, column)
    if (row) {
      p += line
      s0 = f32x4.sub(f32x4.sub(m0, n0), v128.load(p))
      s1 = f32x4.sub(f32x4.sub(m1, n1), v128.load(p + step))
      s2 = f32x4.sub(f32x4.sub(m2, n2), v128.load(p + step * 2))
      s3 = f32x4.sub(f32x4.sub(m3, n3), v128.load(p + step * 3))
      putPair(s0, s1, s2, s3, b, least, to + row, column)
    }
    from += 16
    to += 16
  }
}

// @ts-ignore: decorator
@inline
function putPair(s0: v128, s1: v128, s2: v128, s3: v128, b: v128, least: v128, to: usize, column: i32): void {
  v128.store(to, f32x4.pmax(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, b)), least))
  if (column) v128.store(to + column, f32x4.pmax(f32x4.add(f32x4.sub(s1, s2), f32x4.sub(b, s3)), least))
}

/**
 * result [3, 3, C, K] = filter gradient, from the input's 4×4 tiles and the output gradient's 2×2 tiles.
 * scratch: 16 · (C · K8 + 49 · C + 48 · K8 + 48) floats.
 */
export function winogradFilterGradient(
  input: usize, height: i32, width: i32, C: i32, top: i32, left: i32,
  gradient: usize, outHeight: i32, outWidth: i32, K: i32, images: i32, result: usize, scratch: usize,
): void {
  const down = (outHeight + 1) >> 1, across = (outWidth + 1) >> 1
  const tiles = down * across
  const total = images * tiles
  const wide = K + 7 & ~7
  const sumStep = C * wide + APART << 2
  const valueStep = GRADIENT_TILES * C + APART << 2
  const gradientStep = GRADIENT_TILES * wide + APART << 2
  const values = scratch + 16 * sumStep
  const gradients = values + 16 * valueStep
  const patch = gradients + 16 * gradientStep
  memory.fill(scratch, 0, 16 * sumStep)
  for (let first = 0; first < total; first += GRADIENT_TILES) {
    const count = min(GRADIENT_TILES, total - first)
    for (let t = 0; t < count; t++) {
      const n = (first + t) / tiles, place = (first + t) % tiles
      const y = place / across << 1, x = place % across << 1
      inputTile(input + n * height * width * C * 4, height, width, C, y - top, x - left, patch, values + (t * C << 2), valueStep)
      gradientTile(gradient + (((n * outHeight + y) * outWidth + x) * K << 2), K, x + 1 < outWidth, y + 1 < outHeight, outWidth, gradients + (t * wide << 2), gradientStep)
    }
    for (let e = 0; e < 16; e++) {
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
      for (let x = 0; x < 4; x++) foldThree(from + x * sumStep, sumStep * 4, from + x * sumStep, sumStep * 4)
      for (let y = 0; y < 3; y++) foldThree(from + y * sumStep * 4, sumStep, to + y * tap * 3, tap)
    }
  }
}

/** Three sums of four: by the transpose of F(3, 2)'s A. */
// @ts-ignore: decorator
@inline
function foldThree(from: usize, step: i32, to: usize, toStep: i32): void {
  const m0 = v128.load(from), m1 = v128.load(from + step), m2 = v128.load(from + step * 2), m3 = v128.load(from + step * 3)
  const plus = f32x4.add(m1, m2)
  v128.store(to, f32x4.add(m0, plus))
  v128.store(to + toStep, f32x4.sub(m1, m2))
  v128.store(to + toStep * 2, f32x4.sub(plus, m3))
}

/** GgGᵀ of a 2×2 tile of the output gradient, 16 × K floats. */
function gradientTile(from: usize, K: i32, column: bool, row: bool, width: i32, to: usize, step: i32): void {
  const zero = f32x4.splat(0), half = f32x4.splat(0.5)
  const right = K << 2, below = width * K << 2
  for (let k = 0; k < K; k += 4) {
    const a = v128.load(from)
    const b = column ? v128.load(from + right) : zero
    const c = row ? v128.load(from + below) : zero
    const d = row && column ? v128.load(from + below + right) : zero
    spread(a, b, half, to, step)
    const ac = f32x4.mul(f32x4.add(a, c), half), bd = f32x4.mul(f32x4.add(b, d), half)
    spread(ac, bd, half, to + step * 4, step)
    spread(f32x4.sub(ac, c), f32x4.sub(bd, d), half, to + step * 8, step)
    spread(c, d, half, to + step * 12, step)
    from += 16
    to += 16
  }
}

// @ts-ignore: decorator
@inline
function spread(a: v128, b: v128, half: v128, to: usize, step: i32): void {
  const plus = f32x4.mul(f32x4.add(a, b), half)
  v128.store(to, a)
  v128.store(to + step, plus)
  v128.store(to + step * 2, f32x4.sub(plus, b))
  v128.store(to + step * 3, b)
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
