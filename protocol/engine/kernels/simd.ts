/** Four float32 at once: what every kernel is written with. Inlined, so none of it is left in the binary as a call. */

/** a · b + c: rounded once where the relaxed build finds a fused instruction, twice in the plain one. */
// @ts-expect-error: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c)
  return f32x4.add(f32x4.mul(a, b), c)
}

// @ts-expect-error: decorator
@inline
export function splat(x: f32): v128 {
  return f32x4.splat(x)
}

/** Writes the first `count` lanes, 0 to 4. */
// @ts-expect-error: decorator
@inline
export function storePart(to: usize, x: v128, count: i32): void {
  if (count >= 4) v128.store(to, x)
  else {
    if (count > 0) v128.store_lane<f32>(to, x, 0)
    if (count > 1) v128.store_lane<f32>(to, x, 1, 4)
    if (count > 2) v128.store_lane<f32>(to, x, 2, 8)
  }
}

/** The first `count` lanes of x (0 to 4), the others of `rest`. */
// @ts-expect-error: decorator
@inline
export function firstOf(x: v128, rest: v128, count: i32): v128 {
  return v128.bitselect(x, rest, i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count)))
}

// @ts-expect-error: decorator
@inline
export function sumOf(x: v128): f32 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1))
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1)
}

// @ts-expect-error: decorator
@inline
export function maxOf(x: v128): f32 {
  const pairs = f32x4.max(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1))
  return max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1))
}

/**
 * Numbers in memory: V8 puts a constant vector together anew at each use, in four instructions, where loading one takes a
 * part of one. So what a hot loop needs is either an argument or stands here.
 */
const table = memory.data<f32>([
  1, 2, 0.5, 12582912, -87.3, 88, 1.44269504, -0.693359375, 2.12194440e-4, // exp
  1.9875691e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
  -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1, // tanh
  0.625,
  1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, // log1p
  0.70710678118, 0.3275911, 1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, // normalShare
])

// @ts-ignore: decorator
@inline
function number(place: i32): v128 {
  return v128.load32_splat(table + (place << 2))
}

// @ts-ignore: decorator
@inline
export function one(): v128 {
  return number(0)
}

/** The larger, and the first where it is not a number: one instruction, where f32x4.max takes eight. */
// @ts-ignore: decorator
@inline
export function larger(a: v128, b: v128): v128 {
  return f32x4.pmax(a, b)
}

// @ts-ignore: decorator
@inline
export function smaller(a: v128, b: v128): v128 {
  return f32x4.pmin(a, b)
}

/** e ** x to 1e-7 relative; 0 below -87.3, 2e38 above 88. Source: Cephes expf. */
// @ts-ignore: decorator
@inline
export function exp(x: v128): v128 {
  const tiny = f32x4.lt(x, number(4))
  x = smaller(larger(x, number(4)), number(5))
  // Adding 1.5 · 2 ** 23 rounds to a whole number, and leaves it in the lowest bits.
  const rounded = madd(x, number(6), number(3))
  const n = f32x4.sub(rounded, number(3))
  let r = madd(n, number(7), x)
  r = madd(n, number(8), r)
  let p = madd(number(9), r, number(10))
  p = madd(p, r, number(11))
  p = madd(p, r, number(12))
  p = madd(p, r, number(13))
  p = madd(p, r, number(14))
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), one())
  const power = i32x4.add(i32x4.shl(rounded, 23), one())
  return v128.andnot(f32x4.mul(p, power), tiny)
}

// @ts-ignore: decorator
@inline
export function sigmoid(x: v128): v128 {
  return f32x4.div(one(), f32x4.add(one(), exp(f32x4.neg(x))))
}

/** Source: Cephes tanhf: a polynomial near 0, e ** 2x elsewhere. */
// @ts-ignore: decorator
@inline
export function tanh(x: v128): v128 {
  const size = f32x4.abs(x)
  const z = f32x4.mul(x, x)
  let p = madd(number(15), z, number(16))
  p = madd(p, z, number(17))
  p = madd(p, z, number(18))
  p = madd(p, z, number(19))
  const near = madd(f32x4.mul(p, z), x, x)
  const power = exp(f32x4.add(size, size))
  const far = f32x4.sub(one(), f32x4.div(number(1), f32x4.add(power, one())))
  return v128.bitselect(near, v128.or(far, v128.xor(x, size)), f32x4.lt(size, number(20)))
}

/** log(1 + t) of t from 0 to 1, by the series of atanh. */
// @ts-ignore: decorator
@inline
export function log1p(t: v128): v128 {
  const s = f32x4.div(t, f32x4.add(t, number(1)))
  const z = f32x4.mul(s, s)
  let p = madd(number(21), z, number(22))
  p = madd(p, z, number(23))
  p = madd(p, z, number(24))
  p = madd(p, z, number(25))
  p = madd(p, z, number(26))
  p = madd(p, z, number(27))
  const double = f32x4.add(s, s)
  return madd(f32x4.mul(double, z), p, double)
}

/** Share of a standard normal below x, to 1e-7. Source: Abramowitz and Stegun 7.1.26; `density` is e ** (-x² / 2). */
// @ts-ignore: decorator
@inline
export function normalShare(x: v128, density: v128): v128 {
  const size = f32x4.mul(f32x4.abs(x), number(28))
  const t = f32x4.div(one(), madd(size, number(29), one()))
  let p = madd(number(30), t, number(31))
  p = madd(p, t, number(32))
  p = madd(p, t, number(33))
  p = madd(p, t, number(34))
  const tail = f32x4.mul(number(2), f32x4.mul(f32x4.mul(p, t), density))
  return v128.bitselect(f32x4.sub(one(), tail), tail, f32x4.gt(x, splat(0)))
}

/** Natural logarithm of a positive normal number. */
export function log(x: f64): f64 {
  const bits = reinterpret<i64>(x)
  let power = f64((bits >> 52) - 1023)
  let m = reinterpret<f64>((bits & 0x000fffffffffffff) | 0x3ff0000000000000)
  if (m > 1.4142135623730951) {
    m *= 0.5
    power += 1
  }
  const s = (m - 1) / (m + 1)
  const z = s * s
  let p: f64 = 0
  for (let i = 21; i > 0; i -= 2) p = p * z + 1 / f64(i)
  return power * 0.6931471805599453 + 2 * s * p
}
