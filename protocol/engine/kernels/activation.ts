import { exp, firstOf, log1p, madd, maxOf, normalShare, sigmoid, splat, storePart, sumOf, tanh } from './simd.ts'

/** Activations over single values, by their number in layers/settings.ts, and softmax over rows. */

const SELU_ALPHA: f32 = 1.6732632423543772
const SELU_SCALE: f32 = 1.0507009873554805

// @ts-ignore: decorator
@inline
function valueOf(code: i32, x: v128): v128 {
  const zero = splat(0)
  const one = splat(1)
  const isPositive = f32x4.gt(x, zero)
  switch (code) {
    case 1: return f32x4.max(x, zero)
    case 2: return f32x4.min(f32x4.max(x, zero), splat(6))
    case 3: return sigmoid(x)
    case 4: return tanh(x)
    case 6: return v128.bitselect(x, expm1(x), isPositive)
    case 7: {
      const low = f32x4.mul(splat(SELU_SCALE * SELU_ALPHA), expm1(x))
      return v128.bitselect(f32x4.mul(splat(SELU_SCALE), x), low, isPositive)
    }
    case 8: return f32x4.add(f32x4.max(x, zero), log1p(exp(f32x4.neg(f32x4.abs(x)))))
    case 9: return f32x4.div(x, f32x4.add(one, f32x4.abs(x)))
    case 10: return f32x4.mul(x, sigmoid(x))
    case 11: return f32x4.mul(x, normalShare(x))
    default: return x
  }
}

/** The derivative, by the value after the activation; of swish and gelu by the one before it. */
// @ts-ignore: decorator
@inline
function slopeOf(code: i32, y: v128): v128 {
  const zero = splat(0)
  const one = splat(1)
  const isPositive = f32x4.gt(y, zero)
  switch (code) {
    case 1: return v128.and(one, isPositive)
    case 2: return v128.and(one, v128.and(isPositive, f32x4.lt(y, splat(6))))
    case 3: return f32x4.mul(y, f32x4.sub(one, y))
    case 4: return f32x4.sub(one, f32x4.mul(y, y))
    case 6: return v128.bitselect(one, f32x4.add(y, one), isPositive)
    case 7: {
      const low = f32x4.add(y, splat(SELU_SCALE * SELU_ALPHA))
      return v128.bitselect(splat(SELU_SCALE), low, isPositive)
    }
    case 8: return f32x4.neg(expm1(f32x4.neg(y)))
    case 9: {
      const rest = f32x4.sub(one, f32x4.abs(y))
      return f32x4.mul(rest, rest)
    }
    case 10: {
      const s = sigmoid(y)
      return f32x4.mul(s, madd(y, f32x4.sub(one, s), one))
    }
    case 11: {
      const density = densityOf(y)
      return madd(f32x4.mul(y, density), splat(0.3989422804), normalShare(y))
    }
    default: return one
  }
}

/** e ** x - 1 of x up to 0 without cancellation near it: a Taylor polynomial there. */
// @ts-ignore: decorator
@inline
function expm1(x: v128): v128 {
  let p = madd(splat(1.0 / 5040.0), x, splat(1.0 / 720.0))
  p = madd(p, x, splat(1.0 / 120.0))
  p = madd(p, x, splat(1.0 / 24.0))
  p = madd(p, x, splat(1.0 / 6.0))
  p = madd(p, x, splat(0.5))
  const near = madd(f32x4.mul(p, x), x, x)
  const far = f32x4.sub(exp(x), splat(1))
  return v128.bitselect(near, far, f32x4.lt(f32x4.abs(x), splat(0.4)))
}

// @ts-ignore: decorator
@inline
function densityOf(x: v128): v128 {
  return exp(f32x4.mul(f32x4.mul(x, x), splat(-0.5)))
}

// @ts-ignore: decorator
@inline
function activateAll(code: i32, from: usize, to: usize, size: i32): void {
  let left = size
  for (; left >= 4; left -= 4) {
    v128.store(to, valueOf(code, v128.load(from)))
    from += 16
    to += 16
  }
  if (left > 0) storePart(to, valueOf(code, v128.load(from)), left)
}

/** to = activation(from), `size` values; the two may be one. */
export function activate(code: i32, from: usize, to: usize, size: i32): void {
  switch (code) {
    case 1: return activateAll(1, from, to, size)
    case 2: return activateAll(2, from, to, size)
    case 3: return activateAll(3, from, to, size)
    case 4: return activateAll(4, from, to, size)
    case 6: return activateAll(6, from, to, size)
    case 7: return activateAll(7, from, to, size)
    case 8: return activateAll(8, from, to, size)
    case 9: return activateAll(9, from, to, size)
    case 10: return activateAll(10, from, to, size)
    case 11: return activateAll(11, from, to, size)
    default: return activateAll(0, from, to, size)
  }
}

// @ts-ignore: decorator
@inline
function slopeAll(code: i32, gradient: usize, values: usize, to: usize, size: i32): void {
  let left = size
  for (; left >= 4; left -= 4) {
    v128.store(to, f32x4.mul(v128.load(gradient), slopeOf(code, v128.load(values))))
    gradient += 16
    values += 16
    to += 16
  }
  if (left > 0) {
    storePart(to, f32x4.mul(v128.load(gradient), slopeOf(code, v128.load(values))), left)
  }
}

/** to = gradient · activation', which may be one place. `values` are those after the activation; before it for swish and gelu. */
export function activationGradient(code: i32, gradient: usize, values: usize, to: usize, size: i32): void {
  switch (code) {
    case 1: return slopeAll(1, gradient, values, to, size)
    case 2: return slopeAll(2, gradient, values, to, size)
    case 3: return slopeAll(3, gradient, values, to, size)
    case 4: return slopeAll(4, gradient, values, to, size)
    case 6: return slopeAll(6, gradient, values, to, size)
    case 7: return slopeAll(7, gradient, values, to, size)
    case 8: return slopeAll(8, gradient, values, to, size)
    case 9: return slopeAll(9, gradient, values, to, size)
    case 10: return slopeAll(10, gradient, values, to, size)
    case 11: return slopeAll(11, gradient, values, to, size)
    default: return slopeAll(0, gradient, values, to, size)
  }
}

/** to = softmax of each row; the two may be one. */
export function softmax(from: usize, to: usize, rows: i32, columns: i32): void {
  const step = <usize>columns << 2
  for (let row = 0; row < rows; row++) {
    softmaxRow(from, to, columns)
    from += step
    to += step
  }
}

function softmaxRow(from: usize, to: usize, columns: i32): void {
  const sum = powersOf(from, to, columns, topOf(from, columns))
  scaleRow(to, columns, 1 / sum)
}

/** The largest value of a row. */
export function topOf(row: usize, columns: i32): f32 {
  const lowest = splat(-f32.MAX_VALUE)
  let top = lowest
  let left = columns
  for (; left >= 4; left -= 4) {
    top = f32x4.max(top, v128.load(row))
    row += 16
  }
  if (left > 0) top = f32x4.max(top, firstOf(v128.load(row), lowest, left))
  return maxOf(top)
}

/** to = e ** (from - top); returns the sum. */
export function powersOf(from: usize, to: usize, columns: i32, top: f32): f32 {
  const tops = splat(top)
  let sum = splat(0)
  let left = columns
  for (; left >= 4; left -= 4) {
    const power = exp(f32x4.sub(v128.load(from), tops))
    v128.store(to, power)
    sum = f32x4.add(sum, power)
    from += 16
    to += 16
  }
  if (left > 0) {
    const power = firstOf(exp(f32x4.sub(v128.load(from), tops)), splat(0), left)
    storePart(to, power, left)
    sum = f32x4.add(sum, power)
  }
  return sumOf(sum)
}

export function scaleRow(row: usize, columns: i32, factor: f32): void {
  const factors = splat(factor)
  let left = columns
  for (; left >= 4; left -= 4) {
    v128.store(row, f32x4.mul(v128.load(row), factors))
    row += 16
  }
  if (left > 0) storePart(row, f32x4.mul(v128.load(row), factors), left)
}

/** to = values · (gradient - (gradient · values)) for each row; `to` may be `gradient`. */
export function softmaxGradient(gradient: usize, values: usize, to: usize, rows: i32, columns: i32): void {
  const step = <usize>columns << 2
  for (let row = 0; row < rows; row++) {
    let sum = splat(0)
    let at: usize = 0
    let left = columns
    for (; left >= 4; left -= 4) {
      sum = madd(v128.load(gradient + at), v128.load(values + at), sum)
      at += 16
    }
    if (left > 0) {
      const product = f32x4.mul(v128.load(gradient + at), v128.load(values + at))
      sum = f32x4.add(sum, firstOf(product, splat(0), left))
    }
    const dots = splat(sumOf(sum))
    at = 0
    left = columns
    for (; left > 0; left -= 4) {
      const rest = f32x4.sub(v128.load(gradient + at), dots)
      storePart(to + at, f32x4.mul(v128.load(values + at), rest), left)
      at += 16
    }
    gradient += step
    values += step
    to += step
  }
}
