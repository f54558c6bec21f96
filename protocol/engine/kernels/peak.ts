import { madd, splat } from './simd.ts'

/**
 * `turns` times 48 multiply-adds that wait for no memory: what this build can do at most, for a bench to compare with.
 * 12 accumulators hide an instruction's latency and stay in registers.
 */
export function peak(turns: i32, factor: f32, term: f32): f32 {
  const x = splat(factor)
  const y = splat(term)
  let a = splat(1)
  let b = splat(2)
  let c = splat(3)
  let d = splat(4)
  let e = splat(5)
  let f = splat(6)
  let g = splat(7)
  let h = splat(8)
  let i = splat(9)
  let j = splat(10)
  let k = splat(11)
  let l = splat(12)
  for (let turn = 0; turn < turns; turn++) {
    a = madd(a, x, y)
    b = madd(b, x, y)
    c = madd(c, x, y)
    d = madd(d, x, y)
    e = madd(e, x, y)
    f = madd(f, x, y)
    g = madd(g, x, y)
    h = madd(h, x, y)
    i = madd(i, x, y)
    j = madd(j, x, y)
    k = madd(k, x, y)
    l = madd(l, x, y)
  }
  const sum = f32x4.add(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)), f32x4.add(f32x4.add(e, f), f32x4.add(g, h)))
  return f32x4.extract_lane(f32x4.add(sum, f32x4.add(f32x4.add(i, j), f32x4.add(k, l))), 0)
}
