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
