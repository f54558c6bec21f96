/**
 * Transforms of 6×6 tiles, four channels at a time: F(2×2, 5×5) by B, G and A, and F(5×5, 2×2), which shares B.
 * Each goes down the columns into `lines`, 36 vectors of scratch, then along the rows.
 * Source: Lavin and Gray 2015, points 0, ±1, ±2 and infinity; G and A for other sizes are further powers of the points.
 */

/** BᵀdB of C channels: 36 × C floats, `step` bytes apart. Rows of the tile lie `row` bytes apart. */
export function inputTile6(from: usize, row: i32, C: i32, to: usize, step: i32, lines: usize): void {
  const pixel = C << 2
  const stop = from + pixel
  while (from < stop) {
    let p = from
    for (let x = 0; x < 96; x += 16) {
      narrow(p, row, lines + x, 96)
      p += pixel
    }
    let q = to
    for (let y = 0; y < 576; y += 96) {
      narrow(lines + y, 16, q, step)
      q += step * 6
    }
    from += 16
    to += 16
  }
}

// @ts-ignore: decorator
@inline
function twice(x: v128): v128 {
  return f32x4.add(x, x)
}

/** Bᵀ times six values. */
function narrow(from: usize, step: i32, to: usize, toStep: i32): void {
  const d0 = v128.load(from), d1 = v128.load(from + step), d2 = v128.load(from + step * 2)
  const d3 = v128.load(from + step * 3), d4 = v128.load(from + step * 4), d5 = v128.load(from + step * 5)
  const even = f32x4.sub(d4, d2), odd = twice(f32x4.sub(d3, d1))
  v128.store(to, f32x4.add(twice(twice(f32x4.sub(d0, d2))), even))
  const plus = f32x4.sub(d4, twice(twice(d2))), minus = f32x4.sub(d3, twice(twice(d1)))
  v128.store(to + toStep, f32x4.add(plus, minus))
  v128.store(to + toStep * 2, f32x4.sub(plus, minus))
  v128.store(to + toStep * 3, f32x4.add(even, odd))
  v128.store(to + toStep * 4, f32x4.sub(even, odd))
  v128.store(to + toStep * 5, f32x4.sub(f32x4.sub(d5, d3), twice(odd)))
}

/** AᵀmA + bias: a 2×2 tile of the output; a step of 0 says that there is no second column, or row. */
export function outputTile6(
  from: usize, step: i32, bias: usize, least: v128, to: usize, K: i32, column: i32, row: i32, lines: usize,
): void {
  for (let k = 0; k < K; k += 4) {
    const b = bias ? v128.load(bias + (k << 2)) : f32x4.splat(0)
    let p = from
    for (let x = 0; x < 96; x += 16) {
      v128.store(lines + x, evenOf(p, step * 6))
      v128.store(lines + x, oddOf(p, step * 6), 96)
      p += step
    }
    v128.store(to, f32x4.pmax(f32x4.add(evenOf(lines, 16), b), least))
    if (column) v128.store(to + column, f32x4.pmax(f32x4.add(oddOf(lines, 16), b), least))
    if (row) {
      v128.store(to + row, f32x4.pmax(f32x4.add(evenOf(lines + 96, 16), b), least))
      if (column) v128.store(to + row + column, f32x4.pmax(f32x4.add(oddOf(lines + 96, 16), b), least))
    }
    from += 16
    to += 16
  }
}

/** The two rows of F(2, 5)'s Aᵀ. */
// @ts-ignore: decorator
@inline
function evenOf(p: usize, step: i32): v128 {
  const ones = f32x4.add(v128.load(p + step), v128.load(p + step * 2))
  const twos = f32x4.add(v128.load(p + step * 3), v128.load(p + step * 4))
  return f32x4.add(f32x4.add(v128.load(p), ones), twos)
}

// @ts-ignore: decorator
@inline
function oddOf(p: usize, step: i32): v128 {
  const ones = f32x4.sub(v128.load(p + step), v128.load(p + step * 2))
  const twos = twice(f32x4.sub(v128.load(p + step * 3), v128.load(p + step * 4)))
  return f32x4.add(f32x4.add(ones, twos), v128.load(p + step * 5))
}

/** GgGᵀ of a 2×2 tile of the output gradient, 36 × K floats. */
export function gradientTile6(
  from: usize, K: i32, column: bool, row: bool, width: i32, to: usize, step: i32, lines: usize,
): void {
  const zero = f32x4.splat(0)
  const right = K << 2, below = width * K << 2
  for (let k = 0; k < K; k += 4) {
    const a = v128.load(from)
    const b = column ? v128.load(from + right) : zero
    const c = row ? v128.load(from + below) : zero
    const d = row && column ? v128.load(from + below + right) : zero
    widenTwo(a, c, lines, 32)
    widenTwo(b, d, lines + 16, 32)
    let q = to
    for (let y = 0; y < 192; y += 32) {
      widenTwo(v128.load(lines + y), v128.load(lines + y, 16), q, step)
      q += step * 6
    }
    from += 16
    to += 16
  }
}

/** F(5, 2)'s G times two values. */
function widenTwo(a: v128, b: v128, to: usize, step: i32): void {
  v128.store(to, f32x4.mul(a, f32x4.splat(1.0 / 4)))
  const ones = f32x4.splat(-1.0 / 6), twos = f32x4.splat(1.0 / 24)
  v128.store(to + step, f32x4.mul(f32x4.add(a, b), ones))
  v128.store(to + step * 2, f32x4.mul(f32x4.sub(a, b), ones))
  const b2 = twice(b)
  v128.store(to + step * 3, f32x4.mul(f32x4.add(a, b2), twos))
  v128.store(to + step * 4, f32x4.mul(f32x4.sub(a, b2), twos))
  v128.store(to + step * 5, b)
}

/** AᵀmA for the filter gradient: 5×5 taps, `tap` bytes apart, of 36 sums; overwrites the sums. */
export function foldTile6(from: usize, step: i32, to: usize, tap: i32): void {
  for (let x = 0; x < 6; x++) foldFive(from + x * step, step * 6, from + x * step, step * 6)
  for (let y = 0; y < 5; y++) foldFive(from + y * step * 6, step, to + y * tap * 5, tap)
}

/** F(5, 2)'s Aᵀ times six values. */
function foldFive(from: usize, step: i32, to: usize, toStep: i32): void {
  const m1 = v128.load(from + step), m2 = v128.load(from + step * 2)
  const m3 = v128.load(from + step * 3), m4 = v128.load(from + step * 4), m5 = v128.load(from + step * 5)
  const plus = f32x4.add(m1, m2), minus = f32x4.sub(m1, m2)
  const plus4 = twice(twice(f32x4.add(m3, m4))), minus2 = twice(f32x4.sub(m3, m4))
  v128.store(to, f32x4.add(f32x4.add(v128.load(from), plus), f32x4.add(m3, m4)))
  v128.store(to + toStep, f32x4.add(minus, minus2))
  v128.store(to + toStep * 2, f32x4.add(plus, plus4))
  v128.store(to + toStep * 3, f32x4.add(minus, twice(twice(minus2))))
  v128.store(to + toStep * 4, f32x4.add(f32x4.add(plus, twice(twice(plus4))), m5))
}

/** GgGᵀ of the 5×5 taps of one channel, four kernels side by side. */
export function transformTaps6(from: usize, tap: i32, to: usize, step: i32, lines: usize): void {
  for (let x = 0; x < 5; x++) widenFive(from + tap * x, tap * 5, lines + (x << 4), 80)
  for (let y = 0; y < 6; y++) {
    widenFive(lines + y * 80, 16, to, step)
    to += step * 6
  }
}

/** F(2, 5)'s G times five values. */
function widenFive(from: usize, step: i32, to: usize, toStep: i32): void {
  const a = v128.load(from), b = v128.load(from + step), c = v128.load(from + step * 2)
  const d = v128.load(from + step * 3), e = v128.load(from + step * 4)
  v128.store(to, f32x4.mul(a, f32x4.splat(1.0 / 4)))
  const ones = f32x4.splat(-1.0 / 6), twos = f32x4.splat(1.0 / 24)
  let even = f32x4.add(f32x4.add(a, c), e), odd = f32x4.add(b, d)
  v128.store(to + toStep, f32x4.mul(f32x4.add(even, odd), ones))
  v128.store(to + toStep * 2, f32x4.mul(f32x4.sub(even, odd), ones))
  even = f32x4.add(a, twice(twice(f32x4.add(c, twice(twice(e))))))
  odd = twice(f32x4.add(b, twice(twice(d))))
  v128.store(to + toStep * 3, f32x4.mul(f32x4.add(even, odd), twos))
  v128.store(to + toStep * 4, f32x4.mul(f32x4.sub(even, odd), twos))
  v128.store(to + toStep * 5, e)
}
