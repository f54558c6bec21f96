import { madd } from './simd.ts'

/**
 * Depthwise convolution on channels-last values: each channel by a kernel of its own, four channels at a time.
 *
 * A channel multiplier M is a repeat: repeatRows writes each input channel M times, and foldRepeats adds the input gradient
 * up again. So these kernels know one kernel a channel; steps and runs are those of `convolve`. As there, the input
 * gradient is the forward pass over the bordered output gradient by the kernel turned round.
 */

/** Kernel [taps, C] turned round, of the taps that a residue of the stride meets: [rows · columns][C]. */
export function turnDepthwise(
  kernel: usize, turned: usize, width: i32, C: i32,
  firstRow: i32, stepRow: i32, rows: i32, firstColumn: i32, stepColumn: i32, columns: i32,
): void {
  const bytes = C << 2
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      const tap = (firstRow + i * stepRow) * width + firstColumn + j * stepColumn
      memory.copy(turned, kernel + tap * bytes, bytes)
      turned += bytes
    }
  }
}

/** output[n, y, x, c] = max(floor, bias[c] + Σ over taps of input · kernel[tap, c]). bias 0: none. */
export function depthwise(
  input: usize, imageStep: i32, rowStep: i32, pixelStep: i32,
  rows: i32, tapRow: i32, columns: i32, tapColumn: i32,
  kernel: usize, bias: usize, floor: f32,
  output: usize, outImageStep: i32, outRowStep: i32, outPixelStep: i32,
  C: i32, images: i32, height: i32, width: i32,
): void {
  const least = f32x4.splat(floor)
  const bytes = C << 2
  const whole = (C & ~3) << 2
  const slides = columns == 3 && tapColumn == pixelStep
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < height; y++) {
      const from = input + n * imageStep + y * rowStep
      const to = output + n * outImageStep + y * outRowStep
      for (let c = 0; c < whole; c += 16) {
        const start = bias ? v128.load(bias + c) : f32x4.splat(0)
        let x = 0
        if (slides) for (; x + 4 <= width; x += 4) {
          slide(from + x * pixelStep + c, pixelStep, rows, tapRow, kernel + c, bytes, start, least, to + x * outPixelStep + c, outPixelStep)
        }
        for (; x < width; x += 4) {
          // Pixels past the row's end repeat the last one, and write what it writes.
          const x1 = min(x + 1, width - 1), x2 = min(x + 2, width - 1), x3 = min(x + 3, width - 1)
          const p0 = from + x * pixelStep + c, p1 = from + x1 * pixelStep + c
          const p2 = from + x2 * pixelStep + c, p3 = from + x3 * pixelStep + c
          let s0 = start, s1 = start, s2 = start, s3 = start
          let w = kernel + c
          for (let i = 0, row = 0; i < rows; i++, row += tapRow) {
            for (let j = 0, o = row; j < columns; j++, o += tapColumn) {
              const k = v128.load(w)
              s0 = madd(v128.load(p0 + o), k, s0)
              s1 = madd(v128.load(p1 + o), k, s1)
              s2 = madd(v128.load(p2 + o), k, s2)
              s3 = madd(v128.load(p3 + o), k, s3)
              w += bytes
            }
          }
          v128.store(to + x * outPixelStep + c, f32x4.pmax(s0, least))
          v128.store(to + x1 * outPixelStep + c, f32x4.pmax(s1, least))
          v128.store(to + x2 * outPixelStep + c, f32x4.pmax(s2, least))
          v128.store(to + x3 * outPixelStep + c, f32x4.pmax(s3, least))
        }
      }
      for (let c = whole; c < bytes; c += 4) {
        for (let x = 0; x < width; x++) {
          const p = from + x * pixelStep + c
          let sum: f32 = bias ? load<f32>(bias + c) : 0
          let w = kernel + c
          for (let i = 0; i < rows; i++) {
            for (let j = 0; j < columns; j++) {
              sum += load<f32>(p + i * tapRow + j * tapColumn) * load<f32>(w)
              w += bytes
            }
          }
          store<f32>(to + x * outPixelStep + c, sum < floor ? floor : sum)
        }
      }
    }
  }
}

/** Four pixels side by side under windows of three columns: six values of a row serve all twelve taps. */
// @ts-ignore: decorator
@inline
function slide(
  p: usize, step: i32, rows: i32, tapRow: i32, w: usize, bytes: i32, start: v128, least: v128, to: usize, outStep: i32,
): void {
  let s0 = start, s1 = start, s2 = start, s3 = start
  for (let i = 0; i < rows; i++, p += tapRow) {
    const k0 = v128.load(w), k1 = v128.load(w + bytes), k2 = v128.load(w + bytes * 2)
    let q = p
    let v = v128.load(q)
    s0 = madd(v, k0, s0)
    v = v128.load(q += step)
    s0 = madd(v, k1, s0)
    s1 = madd(v, k0, s1)
    v = v128.load(q += step)
    s0 = madd(v, k2, s0)
    s1 = madd(v, k1, s1)
    s2 = madd(v, k0, s2)
    v = v128.load(q += step)
    s1 = madd(v, k2, s1)
    s2 = madd(v, k1, s2)
    s3 = madd(v, k0, s3)
    v = v128.load(q += step)
    s2 = madd(v, k2, s2)
    s3 = madd(v, k1, s3)
    v = v128.load(q += step)
    s3 = madd(v, k2, s3)
    w += bytes * 3
  }
  v128.store(to, f32x4.pmax(s0, least))
  v128.store(to + outStep, f32x4.pmax(s1, least))
  v128.store(to + outStep * 2, f32x4.pmax(s2, least))
  v128.store(to + outStep * 3, f32x4.pmax(s3, least))
}

/** result[tap, c] = Σ over images and pixels of input · gradient, overwritten. Row by row: short sums keep float32 exact. */
export function depthwiseFilterGradient(
  input: usize, imageStep: i32, rowStep: i32, pixelStep: i32,
  rows: i32, tapRow: i32, columns: i32, tapColumn: i32,
  gradient: usize, gradientImageStep: i32, gradientRowStep: i32, gradientPixelStep: i32,
  C: i32, images: i32, height: i32, width: i32, result: usize,
): void {
  const bytes = C << 2
  const whole = (C & ~3) << 2
  memory.fill(result, 0, rows * columns * bytes)
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < height; y++) {
      const from = input + n * imageStep + y * rowStep
      const by = gradient + n * gradientImageStep + y * gradientRowStep
      const end = by + width * gradientPixelStep
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j += 3) {
          // Three taps of a kernel row at a time; where fewer are left the last is computed twice and stored once.
          const o1 = j + 1 < columns ? tapColumn : 0
          const o2 = j + 2 < columns ? tapColumn << 1 : o1
          const run = from + i * tapRow + j * tapColumn
          let to = result + (i * columns + j) * bytes
          for (let c = 0; c < whole; c += 16, to += 16) {
            let s0 = f32x4.splat(0), s1 = s0, s2 = s0
            let p = run + c
            let g = by + c
            // Two pixels at a time, so that no sum waits for the one before.
            let t0 = s0, t1 = s0, t2 = s0
            for (; g + gradientPixelStep < end; g += gradientPixelStep << 1) {
              const d = v128.load(g), e = v128.load(g + gradientPixelStep)
              s0 = madd(v128.load(p), d, s0)
              s1 = madd(v128.load(p + o1), d, s1)
              s2 = madd(v128.load(p + o2), d, s2)
              p += pixelStep
              t0 = madd(v128.load(p), e, t0)
              t1 = madd(v128.load(p + o1), e, t1)
              t2 = madd(v128.load(p + o2), e, t2)
              p += pixelStep
            }
            s0 = f32x4.add(s0, t0)
            s1 = f32x4.add(s1, t1)
            s2 = f32x4.add(s2, t2)
            for (; g < end; g += gradientPixelStep) {
              const d = v128.load(g)
              s0 = madd(v128.load(p), d, s0)
              s1 = madd(v128.load(p + o1), d, s1)
              s2 = madd(v128.load(p + o2), d, s2)
              p += pixelStep
            }
            v128.store(to, f32x4.add(v128.load(to), s0))
            if (j + 1 < columns) v128.store(to + bytes, f32x4.add(v128.load(to + bytes), s1))
            if (j + 2 < columns) v128.store(to + bytes * 2, f32x4.add(v128.load(to + bytes * 2), s2))
          }
          for (let c = whole; c < bytes; c += 4, to += 4) {
            let s0: f32 = 0, s1: f32 = 0, s2: f32 = 0
            let p = run + c
            for (let g = by + c; g < end; g += gradientPixelStep) {
              const d = load<f32>(g)
              s0 += load<f32>(p) * d
              s1 += load<f32>(p + o1) * d
              s2 += load<f32>(p + o2) * d
              p += pixelStep
            }
            store<f32>(to, load<f32>(to) + s0)
            if (j + 1 < columns) store<f32>(to + bytes, load<f32>(to + bytes) + s1)
            if (j + 2 < columns) store<f32>(to + bytes * 2, load<f32>(to + bytes * 2) + s2)
          }
        }
      }
    }
  }
}
