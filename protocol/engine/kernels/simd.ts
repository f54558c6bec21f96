/** Four float32 at once: what every kernel is written with. Inlined, so none of it is left in the binary as a call. */

/** a · b + c: rounded once where the relaxed build finds a fused instruction, twice in the plain one. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c)
  return f32x4.add(f32x4.mul(a, b), c)
}

// @ts-ignore: decorator
@inline
export function splat(x: f32): v128 {
  return f32x4.splat(x)
}

/** Writes the first `count` lanes, 0 to 4. */
// @ts-ignore: decorator
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
// @ts-ignore: decorator
@inline
export function firstOf(x: v128, rest: v128, count: i32): v128 {
  return v128.bitselect(x, rest, i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count)))
}

// @ts-ignore: decorator
@inline
export function sumOf(x: v128): f32 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1))
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1)
}

// @ts-ignore: decorator
@inline
export function maxOf(x: v128): f32 {
  const pairs = f32x4.max(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1))
  return max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1))
}

/**
 * Numbers in memory: V8 puts a constant vector together anew at each use, in three or four instructions, where loading one takes
 * a part of one. So what a hot loop needs is either an argument or stands here.
 */
const table = memory.data<f32>([
  // exp: the most it takes, the least, 1 / ln 2, 1.5 * 2 ** 23, ln 2 in two parts, the polynomial
  88, -87.3, 1.44269504, 12582912, -0.693359375, 2.12194440e-4,
  1.9875691e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
  // 12: tanh
  7.90531110763549805, -7.90531110763549805, 4e-4,
  -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-8, 1.48572235717979e-5, 6.37261928875436e-4, 4.89352455891786e-3,
  1.19825839466702e-6, 1.18534705686654e-4, 2.26843463243900e-3, 4.89352518554385e-3,
  // 26: erf
  0.70710678118, 4, -4,
  -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4, -2.95459980854025e-3, -1.60960333262415e-2,
  -1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3, -1.42647390514189e-2,
  // 41: one, its half and its double
  1, 0.5, 2,
  // 44: log1p
  1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0,
], 16)

// @ts-ignore: decorator
@inline
function constant(i: i32): v128 {
  return v128.load32_splat(table + (<usize>i << 2))
}

// @ts-ignore: decorator
@inline
export function one(): v128 {
  return constant(41)
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
  const tiny = f32x4.lt(x, constant(1))
  x = f32x4.pmin(x, constant(0))
  // Added to this number, a small one is rounded and its whole part stands in the lowest bits.
  const shifted = madd(x, constant(2), constant(3))
  const n = f32x4.sub(shifted, constant(3))
  let r = madd(n, constant(4), x)
  r = madd(n, constant(5), r)
  let p = madd(constant(6), r, constant(7))
  p = madd(p, r, constant(8))
  p = madd(p, r, constant(9))
  p = madd(p, r, constant(10))
  p = madd(p, r, constant(11))
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), constant(41))
  return v128.andnot(i32x4.add(p, i32x4.shl(shifted, 23)), tiny)
}

// @ts-ignore: decorator
@inline
export function sigmoid(x: v128): v128 {
  return f32x4.div(constant(41), f32x4.add(constant(41), exp(f32x4.neg(x))))
}

/** To 3e-7 relative. Source: the rational function of Eigen (generic_fast_tanh_float); x itself near 0. */
// @ts-ignore: decorator
@inline
export function tanh(x: v128): v128 {
  const z = f32x4.pmin(f32x4.pmax(x, constant(13)), constant(12))
  const s = f32x4.mul(z, z)
  let p = madd(s, constant(15), constant(16))
  p = madd(s, p, constant(17))
  p = madd(s, p, constant(18))
  p = madd(s, p, constant(19))
  p = madd(s, p, constant(20))
  p = madd(s, p, constant(21))
  let q = madd(s, constant(22), constant(23))
  q = madd(s, q, constant(24))
  q = madd(s, q, constant(25))
  const near = f32x4.lt(f32x4.abs(x), constant(14))
  return v128.bitselect(x, f32x4.div(f32x4.mul(z, p), q), near)
}

/** log(1 + t) of t from 0 to 1, by the series of atanh. */
// @ts-ignore: decorator
@inline
export function log1p(t: v128): v128 {
  const s = f32x4.div(t, f32x4.add(t, constant(43)))
  const z = f32x4.mul(s, s)
  let p = madd(constant(44), z, constant(45))
  p = madd(p, z, constant(46))
  p = madd(p, z, constant(47))
  p = madd(p, z, constant(48))
  p = madd(p, z, constant(49))
  p = madd(p, z, constant(50))
  const double = f32x4.add(s, s)
  return madd(f32x4.mul(double, z), p, double)
}

/** Share of a standard normal below x, to 2e-7. Source: erf as a rational function, of Eigen (generic_fast_erf_float). */
// @ts-ignore: decorator
@inline
export function normalShare(x: v128): v128 {
  const z = f32x4.pmin(f32x4.pmax(f32x4.mul(x, constant(26)), constant(28)), constant(27))
  const s = f32x4.mul(z, z)
  let p = madd(s, constant(29), constant(30))
  p = madd(s, p, constant(31))
  p = madd(s, p, constant(32))
  p = madd(s, p, constant(33))
  p = madd(s, p, constant(34))
  p = madd(s, p, constant(35))
  let q = madd(s, constant(36), constant(37))
  q = madd(s, q, constant(38))
  q = madd(s, q, constant(39))
  q = madd(s, q, constant(40))
  return madd(f32x4.div(f32x4.mul(z, p), q), constant(42), constant(42))
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
