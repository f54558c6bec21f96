/** Four values, or the one that is left of a row: kernels take a row by fours and its end one by one. */

// @ts-ignore: decorator
@inline
export function readPart(at: usize, whole: bool): v128 {
  return whole ? v128.load(at) : v128.load32_zero(at)
}

// @ts-ignore: decorator
@inline
export function writePart(at: usize, value: v128, whole: bool): void {
  if (whole) v128.store(at, value)
  else v128.store32_lane(at, value, 0)
}

/** Values summed before they join the rest: long sums in float32 lose their last digits otherwise. */
export const RUN: i32 = 256

/** to[columns] += sums, and sums ← 0. */
export function joinSums(sums: usize, to: usize, columns: i32): void {
  const row = <usize>columns << 2
  for (let c: usize = 0; c < row; ) {
    const whole = c + 16 <= row
    writePart(to + c, f32x4.add(readPart(to + c, whole), readPart(sums + c, whole)), whole)
    c += whole ? 16 : 4
  }
  memory.fill(sums, 0, row)
}
