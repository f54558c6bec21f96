/** Values moved, turned and put together. */
import { readPart, writePart } from './part.ts'
import { splat } from './simd.ts'

export function clear(to: usize, size: i32): void {
  memory.fill(to, 0, <usize>size << 2)
}

/** Copies rows of `width` floats from one order to another; strides in bytes, negative ones to turn time round. */
export function copyRows(
  from: usize, fromStep: isize, fromBatch: isize,
  to: usize, toStep: isize, toBatch: isize,
  steps: i32, batch: i32, width: i32, add: bool,
): void {
  for (let t: isize = 0; t < <isize>steps; t++) {
    for (let b: isize = 0; b < <isize>batch; b++) {
      let x = from + <usize>(t * fromStep + b * fromBatch)
      let y = to + <usize>(t * toStep + b * toBatch)
      if (!add) {
        memory.copy(y, x, <usize>width << 2)
        continue
      }
      let i = width
      for (; i >= 4; i -= 4) {
        v128.store(y, f32x4.add(v128.load(y), v128.load(x)))
        x += 16
        y += 16
      }
      for (; i > 0; i--) {
        store<f32>(y, load<f32>(y) + load<f32>(x))
        x += 4
        y += 4
      }
    }
  }
}

/**
 * to[n0, n1, n2, n3], without gaps, from values whose neighbours along each axis lie s0 ... s3 bytes apart: any order of axes.
 */
export function permute(
  from: usize, to: usize,
  n0: i32, n1: i32, n2: i32, n3: i32,
  s0: usize, s1: usize, s2: usize, s3: usize,
): void {
  for (let i0: usize = 0; i0 < <usize>n0; i0++) {
    for (let i1: usize = 0; i1 < <usize>n1; i1++) {
      const plane = from + i0 * s0 + i1 * s1
      if (s2 == 4) {
        turn(plane, to, <usize>n2, <usize>n3, s3)
        to += <usize>(n2 * n3) << 2
        continue
      }
      for (let i2: usize = 0; i2 < <usize>n2; i2++) {
        let x = plane + i2 * s2
        for (let i3 = n3; i3 > 0; i3--) {
          store<f32>(to, load<f32>(x))
          x += s3
          to += 4
        }
      }
    }
  }
}

/** to[rows, columns] of a matrix written column by column, the columns `step` bytes apart: 4 x 4 at a time. */
function turn(from: usize, to: usize, rows: usize, columns: usize, step: usize): void {
  const row = columns << 2
  const wholeRows = rows & ~3
  const wholeColumns = columns & ~3
  for (let j: usize = 0; j < wholeColumns; j += 4) {
    for (let i: usize = 0; i < wholeRows; i += 4) {
      const x = from + j * step + (i << 2)
      const x0 = v128.load(x)
      const x1 = v128.load(x + step)
      const x2 = v128.load(x + 2 * step)
      const x3 = v128.load(x + 3 * step)
      const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5)
      const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7)
      const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5)
      const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7)
      const y = to + i * row + (j << 2)
      v128.store(y, v128.shuffle<f64>(low01, low23, 0, 2))
      v128.store(y + row, v128.shuffle<f64>(low01, low23, 1, 3))
      v128.store(y + 2 * row, v128.shuffle<f64>(high01, high23, 0, 2))
      v128.store(y + 3 * row, v128.shuffle<f64>(high01, high23, 1, 3))
    }
  }
  for (let i: usize = 0; i < rows; i++) {
    for (let j = i < wholeRows ? wholeColumns : 0; j < columns; j++) {
      store<f32>(to + i * row + (j << 2), load<f32>(from + j * step + (i << 2)))
    }
  }
}

/** to = a * b; `to` may be either. */
export function times(a: usize, b: usize, to: usize, size: i32): void {
  let left = size
  for (; left >= 4; left -= 4) {
    v128.store(to, f32x4.mul(v128.load(a), v128.load(b)))
    a += 16
    b += 16
    to += 16
  }
  for (; left > 0; left--) {
    store<f32>(to, load<f32>(a) * load<f32>(b))
    a += 4
    b += 4
    to += 4
  }
}

/** to = factor * from; `to` may be `from`. */
export function scale(from: usize, to: usize, size: i32, factor: f32): void {
  const factors = splat(factor)
  let left = size
  for (; left >= 4; left -= 4) {
    v128.store(to, f32x4.mul(v128.load(from), factors))
    from += 16
    to += 16
  }
  for (; left > 0; left--) {
    store<f32>(to, load<f32>(from) * factor)
    from += 4
    to += 4
  }
}

/** to[batch, width] = the mean over the steps of from[batch, steps, width]. */
export function meanOfSteps(from: usize, to: usize, batch: i32, steps: i32, width: i32): void {
  const row = <usize>width << 2
  const share = splat(<f32>1 / <f32>steps)
  for (let b = batch; b > 0; b--) {
    for (let c: usize = 0; c < row; ) {
      const whole = c + 16 <= row
      let sum = splat(0)
      let x = from + c
      for (let t = steps; t > 0; t--) {
        sum = f32x4.add(sum, readPart(x, whole))
        x += row
      }
      writePart(to + c, f32x4.mul(sum, share), whole)
      c += whole ? 16 : 4
    }
    from += row * steps
    to += row
  }
}

/** to[batch, steps, width] = an equal share of gradient[batch, width] for each step. */
export function meanOfStepsGradient(gradient: usize, to: usize, batch: i32, steps: i32, width: i32): void {
  const row = <usize>width << 2
  const share = splat(<f32>1 / <f32>steps)
  for (let b = batch; b > 0; b--) {
    for (let c: usize = 0; c < row; ) {
      const whole = c + 16 <= row
      const part = f32x4.mul(readPart(gradient + c, whole), share)
      let y = to + c
      for (let t = steps; t > 0; t--) {
        writePart(y, part, whole)
        y += row
      }
      c += whole ? 16 : 4
    }
    gradient += row
    to += row * steps
  }
}
