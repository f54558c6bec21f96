import { splat, storePart } from './simd.ts'

/**
 * to = from · scale, or 0 where a draw of 31 bits is below `limit`. The draw follows from the i32 at `seed`, `salt` and the
 * value's place in the batch alone (layers/dropout.ts has the same), so the gradient passes by the same call. The i32 behind
 * the seed says which example of the batch is the first here, `width` how many values an example has.
 * Source of the hash: Wellons 2018, lowbias32.
 */
export function dropout(from: usize, to: usize, size: i32, limit: i32, scale: f32, seed: usize, salt: i32, width: i32): void {
  const key = i32x4.splat(mixedOne(load<i32>(seed) ^ (salt * GOLDEN)))
  const limits = i32x4.splat(limit)
  const scales = splat(scale)
  const places = i32x4.splat(GOLDEN)
  let place = i32x4.add(i32x4.splat(load<i32>(seed, 4) * width), i32x4(0, 1, 2, 3))
  for (let left = size; left > 0; left -= 4) {
    const draw = i32x4.shr_u(mixed(i32x4.add(i32x4.mul(place, places), key)), 1)
    const kept = i32x4.ge_s(draw, limits)
    storePart(to, v128.and(f32x4.mul(v128.load(from), scales), kept), left)
    place = i32x4.add(place, i32x4.splat(4))
    from += 16
    to += 16
  }
}

/** In place at each of `steps`, which lie one behind the other, by the same draws: an example loses the same values in all of them. */
export function dropoutSteps(values: usize, steps: i32, size: i32, limit: i32, scale: f32, seed: usize, salt: i32, width: i32): void {
  for (; steps > 0; steps--) {
    dropout(values, values, size, limit, scale, seed, salt, width)
    values += <usize>size << 2
  }
}

const GOLDEN: i32 = 0x9e3779b1

// @ts-ignore: decorator
@inline
function mixed(x: v128): v128 {
  x = i32x4.mul(v128.xor(x, i32x4.shr_u(x, 16)), i32x4.splat(0x7feb352d))
  x = i32x4.mul(v128.xor(x, i32x4.shr_u(x, 15)), i32x4.splat(0x846ca68b))
  return v128.xor(x, i32x4.shr_u(x, 16))
}

function mixedOne(x: i32): i32 {
  return i32x4.extract_lane(mixed(i32x4.splat(x)), 0)
}
