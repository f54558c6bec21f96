import { madd, splat, storePart } from './simd.ts'

/** One optimizer step over `size` params in one pass; optimizer.ts says what each number is. */

/** params -= rate · (gradient + decay · params) */
export function sgd(params: usize, gradient: usize, size: i32, rate: f32, decay: f32): void {
  const rates = splat(-rate)
  const keep = splat(1 - rate * decay)
  let left = size
  for (; left >= 16; left -= 16) {
    v128.store(params, descended(params, gradient, rates, keep))
    v128.store(params, descended(params + 16, gradient + 16, rates, keep), 16)
    v128.store(params, descended(params + 32, gradient + 32, rates, keep), 32)
    v128.store(params, descended(params + 48, gradient + 48, rates, keep), 48)
    params += 64
    gradient += 64
  }
  for (; left > 0; left -= 4) {
    storePart(params, descended(params, gradient, rates, keep), left)
    params += 16
    gradient += 16
  }
}

// @ts-ignore: decorator
@inline
function descended(params: usize, gradient: usize, rates: v128, keep: v128): v128 {
  return madd(v128.load(gradient), rates, f32x4.mul(v128.load(params), keep))
}

/** params -= rate · (gradient + mu · direction + decay · params) */
export function sgdFollow(
  params: usize,
  gradient: usize,
  direction: usize,
  size: i32,
  rate: f32,
  mu: f32,
  decay: f32,
): void {
  const rates = splat(-rate)
  const keep = splat(1 - rate * decay)
  const mus = splat(mu)
  let left = size
  for (; left >= 16; left -= 16) {
    v128.store(params, followed(params, gradient, direction, rates, mus, keep))
    v128.store(params, followed(params + 16, gradient + 16, direction + 16, rates, mus, keep), 16)
    v128.store(params, followed(params + 32, gradient + 32, direction + 32, rates, mus, keep), 32)
    v128.store(params, followed(params + 48, gradient + 48, direction + 48, rates, mus, keep), 48)
    params += 64
    gradient += 64
    direction += 64
  }
  for (; left > 0; left -= 4) {
    storePart(params, followed(params, gradient, direction, rates, mus, keep), left)
    params += 16
    gradient += 16
    direction += 16
  }
}

// @ts-ignore: decorator
@inline
function followed(
  params: usize,
  gradient: usize,
  direction: usize,
  rates: v128,
  mus: v128,
  keep: v128,
): v128 {
  const follow = madd(v128.load(direction), mus, v128.load(gradient))
  return madd(follow, rates, f32x4.mul(v128.load(params), keep))
}

/** Moments below this are 0: they move nothing, and as they fade numbers below float32's normal range are slow. */
const TINY: f32 = 1e-36

/** m and v towards g and g²; params = keep · params - rate · m / (sqrt(v · correction) + epsilon), g with decay · params. */
export function adam(
  params: usize,
  gradient: usize,
  first: usize,
  second: usize,
  size: i32,
  rate: f32,
  correction: f32,
  beta1: f32,
  rest1: f32,
  beta2: f32,
  rest2: f32,
  epsilon: f32,
  decay: f32,
  keep: f32,
): void {
  const rates = splat(rate)
  const corrections = splat(correction)
  const epsilons = splat(epsilon)
  const decays = splat(decay)
  const keeps = splat(keep)
  const tiny = splat(TINY)
  for (let left = size; left > 0; left -= 4) {
    const x = v128.load(params)
    const g = madd(x, decays, v128.load(gradient))
    const m = madd(g, splat(rest1), f32x4.mul(v128.load(first), splat(beta1)))
    const v = madd(f32x4.mul(g, g), splat(rest2), f32x4.mul(v128.load(second), splat(beta2)))
    const root = f32x4.add(f32x4.sqrt(f32x4.mul(v, corrections)), epsilons)
    const moved = f32x4.sub(f32x4.mul(x, keeps), f32x4.div(f32x4.mul(rates, m), root))
    storePart(first, v128.and(m, f32x4.gt(f32x4.abs(m), tiny)), left)
    storePart(second, v128.and(v, f32x4.gt(v, tiny)), left)
    storePart(params, moved, left)
    params += 16
    gradient += 16
    first += 16
    second += 16
  }
}
