/**
 * Transforms of 4×4 tiles, four channels at a time: F(2×2, 3×3) by B, G and A, and F(3×3, 2×2), which shares B.
 * Source: Lavin and Gray 2015, points 0, 1, −1 and infinity.
 */

/** BᵀdB of C channels: 16 × C floats, `step` bytes apart. Rows of the tile lie `row` bytes apart. */
export function inputTile4(from: usize, row: i32, C: i32, to: usize, step: i32): void {
  const o1 = C << 2, o2 = o1 << 1, o3 = o1 + o2
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

/** AᵀmA + bias: a 2×2 tile of the output; a step of 0 says that there is no second column, or row. */
export function outputTile4(from: usize, step: i32, bias: usize, least: v128, to: usize, K: i32, column: i32, row: i32): void {
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

/** GgGᵀ of a 2×2 tile of the output gradient, 16 × K floats. */
export function gradientTile4(from: usize, K: i32, column: bool, row: bool, width: i32, to: usize, step: i32): void {
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

/** AᵀmA for the filter gradient: 3×3 taps, `tap` bytes apart, of 16 sums; overwrites the sums. */
export function foldTile4(from: usize, step: i32, to: usize, tap: i32): void {
  for (let x = 0; x < 4; x++) foldThree(from + x * step, step * 4, from + x * step, step * 4)
  for (let y = 0; y < 3; y++) foldThree(from + y * step * 4, step, to + y * tap * 3, tap)
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

/** GgGᵀ of the 3×3 taps of one channel, four kernels side by side. */
export function transformTaps4(from: usize, tap: i32, to: usize, step: i32, lines: usize): void {
  const half = f32x4.splat(0.5)
  for (let x = 0; x < 3; x++) widen(from + tap * x, tap * 3, half, lines + (x << 4), 48)
  for (let y = 0; y < 4; y++) {
    widen(lines + y * 48, 16, half, to, step)
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
