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

/** e ** x to 1e-7 relative; 0 below -87.3, 2e38 above 88. Source: Cephes expf. */
// @ts-expect-error: decorator
@inline
export function exp(x: v128): v128 {
  const tiny = f32x4.lt(x, splat(-87.3))
  x = f32x4.min(f32x4.max(x, splat(-87.3)), splat(88.0))
  const n = f32x4.nearest(f32x4.mul(x, splat(1.44269504)))
  let r = madd(n, splat(-0.693359375), x)
  r = madd(n, splat(2.12194440e-4), r)
  let p = madd(splat(1.9875691e-4), r, splat(1.3981999507e-3))
  p = madd(p, r, splat(8.3334519073e-3))
  p = madd(p, r, splat(4.1665795894e-2))
  p = madd(p, r, splat(1.6666665459e-1))
  p = madd(p, r, splat(5.0000001201e-1))
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), splat(1))
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23)
  return v128.andnot(f32x4.mul(p, power), tiny)
}

// @ts-expect-error: decorator
@inline
export function sigmoid(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), exp(f32x4.neg(x))))
}

/** Source: Cephes tanhf: a polynomial near 0, e ** 2x elsewhere. */
// @ts-expect-error: decorator
@inline
export function tanh(x: v128): v128 {
  const size = f32x4.abs(x)
  const z = f32x4.mul(x, x)
  let p = madd(splat(-5.70498872745e-3), z, splat(2.06390887954e-2))
  p = madd(p, z, splat(-5.37397155531e-2))
  p = madd(p, z, splat(1.33314422036e-1))
  p = madd(p, z, splat(-3.33332819422e-1))
  const near = madd(f32x4.mul(p, z), x, x)
  const power = exp(f32x4.add(size, size))
  const far = f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(power, splat(1))))
  const sign = v128.and(x, i32x4.splat(0x80000000))
  return v128.bitselect(near, v128.or(far, sign), f32x4.lt(size, splat(0.625)))
}

/** log(1 + t) of t from 0 to 1, by the series of atanh. */
// @ts-expect-error: decorator
@inline
export function log1p(t: v128): v128 {
  const s = f32x4.div(t, f32x4.add(t, splat(2)))
  const z = f32x4.mul(s, s)
  let p = madd(splat(1.0 / 15.0), z, splat(1.0 / 13.0))
  p = madd(p, z, splat(1.0 / 11.0))
  p = madd(p, z, splat(1.0 / 9.0))
  p = madd(p, z, splat(1.0 / 7.0))
  p = madd(p, z, splat(1.0 / 5.0))
  p = madd(p, z, splat(1.0 / 3.0))
  const double = f32x4.add(s, s)
  return madd(f32x4.mul(double, z), p, double)
}

/** Share of a standard normal below x, to 1e-7. Source: Abramowitz and Stegun 7.1.26; `density` is e ** (-x² / 2). */
// @ts-expect-error: decorator
@inline
export function normalShare(x: v128, density: v128): v128 {
  const size = f32x4.mul(f32x4.abs(x), splat(0.70710678118))
  const t = f32x4.div(splat(1), madd(size, splat(0.3275911), splat(1)))
  let p = madd(splat(1.061405429), t, splat(-1.453152027))
  p = madd(p, t, splat(1.421413741))
  p = madd(p, t, splat(-0.284496736))
  p = madd(p, t, splat(0.254829592))
  const tail = f32x4.mul(splat(0.5), f32x4.mul(f32x4.mul(p, t), density))
  return v128.bitselect(f32x4.sub(splat(1), tail), tail, f32x4.gt(x, splat(0)))
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
