import { madd } from './simd.ts'

/**
 * Direct convolution on channels-last values, forward and filter gradient, for any kernel, stride, padding and dilation.
 *
 * No im2col: where the taps of a kernel row lie side by side they are one run of width × channels floats, and a kernel is
 * a grid of such runs. The input gradient is a convolution too: of the output gradient in a zero border, by the kernel
 * turned round, once for each residue of the stride. Five pixels times eight channels are as many accumulators as V8
 * keeps in registers; the loop over a run stays rolled, because unrolled it spills.
 */

/** Pixels whose addresses are tabled at a time: the input they read stays in the nearest cache. */
const CHUNK: i32 = 240

/**
 * Kernel [height, width, channels, K] and bias [K] (0: none) → panels [⌈K/8⌉][1 + height·width·channels][8], the bias
 * first, zeros past K.
 */
export function packKernel(kernel: usize, bias: usize, panels: usize, taps: i32, K: i32): void {
  for (let k = 0; k < K; k += 8) {
    const lanes = min(8, K - k)
    copyLanes(bias ? bias + (k << 2) : 0, panels, lanes)
    panels += 32
    let from = kernel + (k << 2)
    for (let tap = 0; tap < taps; tap++) {
      copyLanes(from, panels, lanes)
      panels += 32
      from += K << 2
    }
  }
}

// @ts-ignore: decorator
@inline
function copyLanes(from: usize, to: usize, lanes: i32): void {
  if (from != 0 && lanes == 8) {
    v128.store(to, v128.load(from))
    v128.store(to, v128.load(from, 16), 16)
    return
  }
  for (let lane = 0; lane < 8; lane++) {
    store<f32>(to + (lane << 2), from != 0 && lane < lanes ? load<f32>(from + (lane << 2)) : 0)
  }
}

/**
 * The kernel turned round for the input gradient: panels [⌈C/8⌉][1 + rows·columns·K][8] of the taps
 * kernel[firstRow + i·stepRow][firstColumn + j·stepColumn], last first; the bias is zero.
 */
export function packTurned(
  kernel: usize, panels: usize, width: i32, C: i32, K: i32,
  firstRow: i32, stepRow: i32, rows: i32, firstColumn: i32, stepColumn: i32, columns: i32,
): void {
  for (let c = 0; c < C; c += 8) {
    const lanes = min(8, C - c)
    copyLanes(0, panels, 0)
    panels += 32
    for (let i = rows - 1; i >= 0; i--) {
      for (let j = columns - 1; j >= 0; j--) {
        const tap = (firstRow + i * stepRow) * width + firstColumn + j * stepColumn
        const from = kernel + ((tap * C + c) * K << 2)
        for (let k = 0; k < K; k++) {
          for (let lane = 0; lane < 8; lane++) {
            store<f32>(panels + (lane << 2), lane < lanes ? load<f32>(from + (lane * K + k << 2)) : 0)
          }
          panels += 32
        }
      }
    }
  }
}

/**
 * output[n, y, x, k] = max(floor, bias + Σ over runs of input · kernel).
 *
 *   input    of image n, pixel (y, x) at input + n·imageStep + y·rowStep + x·pixelStep (bytes), border included
 *   run      (i, j), i < rows, j < columns, at + i·tapRow + j·tapColumn, `length` floats
 *   output   the same with its own three steps; K floats a pixel
 *   table    2 · 240 addresses of scratch
 */
export function convolve(
  input: usize, imageStep: i32, rowStep: i32, pixelStep: i32,
  rows: i32, tapRow: i32, columns: i32, tapColumn: i32, length: i32,
  panels: usize, floor: f32,
  output: usize, outImageStep: i32, outRowStep: i32, outPixelStep: i32,
  K: i32, images: i32, height: i32, width: i32, table: usize,
): void {
  const total = images * height * width
  const panelStep = (1 + rows * columns * length) << 5
  const least = f32x4.splat(floor)
  const outs = table + (CHUNK << 2)
  let n = 0, y = 0, x = 0
  let left = total
  while (left > 0) {
    const count = min(left, CHUNK)
    left -= count
    let entry = table
    const last = table + (((count + 4) / 5 * 5) << 2)
    let from: usize = 0, to: usize = 0
    const end = table + (count << 2)
    while (entry < end) {
      from = input + n * imageStep + y * rowStep + x * pixelStep
      to = output + n * outImageStep + y * outRowStep + x * outPixelStep
      store<usize>(entry, from)
      store<usize>(entry, to, CHUNK << 2)
      entry += 4
      if (++x == width) {
        x = 0
        if (++y == height) {
          y = 0
          n++
        }
      }
    }
    while (entry < last) {
      store<usize>(entry, from)
      store<usize>(entry, to, CHUNK << 2)
      entry += 4
    }
    let panel = panels
    for (let k = 0; k < K; k += 8) {
      for (entry = table; entry < last; entry += 20) {
        tile(entry, rows, tapRow, columns, tapColumn, length, panel, least, k << 2, min(8, K - k))
      }
      panel += panelStep
    }
  }
}

function tile(
  entry: usize, rows: i32, tapRow: i32, columns: i32, tapColumn: i32, length: i32,
  panel: usize, least: v128, k: i32, lanes: i32,
): void {
  let c00 = v128.load(panel), c01 = v128.load(panel, 16)
  let c10 = c00, c11 = c01, c20 = c00, c21 = c01, c30 = c00, c31 = c01, c40 = c00, c41 = c01
  panel += 32
  let offset = 0
  for (let i = 0; i < rows; i++) {
    let at = offset
    for (let j = 0; j < columns; j++) {
      let p0 = load<usize>(entry) + at
      let p1 = load<usize>(entry, 4) + at
      let p2 = load<usize>(entry, 8) + at
      let p3 = load<usize>(entry, 12) + at
      let p4 = load<usize>(entry, 16) + at
      const end = panel + (length << 5)
      while (panel < end) {
        const b0 = v128.load(panel), b1 = v128.load(panel, 16)
        let a = v128.load32_splat(p0)
        c00 = madd(a, b0, c00)
        c01 = madd(a, b1, c01)
        a = v128.load32_splat(p1)
        c10 = madd(a, b0, c10)
        c11 = madd(a, b1, c11)
        a = v128.load32_splat(p2)
        c20 = madd(a, b0, c20)
        c21 = madd(a, b1, c21)
        a = v128.load32_splat(p3)
        c30 = madd(a, b0, c30)
        c31 = madd(a, b1, c31)
        a = v128.load32_splat(p4)
        c40 = madd(a, b0, c40)
        c41 = madd(a, b1, c41)
        p0 += 4
        p1 += 4
        p2 += 4
        p3 += 4
        p4 += 4
        panel += 32
      }
      at += tapColumn
    }
    offset += tapRow
  }
  entry += CHUNK << 2
  put(load<usize>(entry) + k, c00, c01, least, lanes)
  put(load<usize>(entry, 4) + k, c10, c11, least, lanes)
  put(load<usize>(entry, 8) + k, c20, c21, least, lanes)
  put(load<usize>(entry, 12) + k, c30, c31, least, lanes)
  put(load<usize>(entry, 16) + k, c40, c41, least, lanes)
}

// @ts-ignore: decorator
@inline
function put(to: usize, a: v128, b: v128, least: v128, lanes: i32): void {
  a = f32x4.pmax(a, least)
  b = f32x4.pmax(b, least)
  if (lanes == 8) {
    v128.store(to, a)
    v128.store(to, b, 16)
  } else putLanes(to, a, b, lanes)
}

function putLanes(to: usize, a: v128, b: v128, lanes: i32): void {
  if (lanes >= 4) {
    v128.store(to, a)
    to += 16
    a = b
    lanes -= 4
  }
  if (lanes > 0) v128.store_lane<f32>(to, a, 0)
  if (lanes > 1) v128.store_lane<f32>(to, a, 1, 4)
  if (lanes > 2) v128.store_lane<f32>(to, a, 2, 8)
}

/** Pixels that one pass over the accumulators should see at least, and about as many at most. */
const PASS: i32 = 128
const LONGEST_PASS: i32 = 256

/**
 * result[i, j, c, k] = Σ over images and pixels of the input's run (i, j) at c · gradient[n, y, x, k]; steps as in convolve.
 * Reads up to 16 bytes past a run and 28 past a gradient's pixel.
 */
export function filterGradient(
  input: usize, imageStep: i32, rowStep: i32, pixelStep: i32,
  rows: i32, tapRow: i32, columns: i32, tapColumn: i32, length: i32,
  gradient: usize, gradientImageStep: i32, gradientRowStep: i32, gradientPixelStep: i32,
  K: i32, images: i32, height: i32, width: i32, result: usize,
): void {
  const group = max(1, PASS / (height * width))
  const band = min(height, max(1, LONGEST_PASS / width))
  for (let n = 0; n < images; n += group) {
    const count = min(group, images - n)
    for (let y = 0; y < height; y += band) {
      const tall = min(band, height - y)
      const from = input + n * imageStep + y * rowStep
      const by = gradient + n * gradientImageStep + y * gradientRowStep
      const first = n == 0 && y == 0
      for (let k = 0; k < K; k += 8) {
        const lanes = min(8, K - k)
        let to = result + (k << 2)
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < columns; j++) {
            const run = from + i * tapRow + j * tapColumn
            for (let c = 0; c < length; ) {
              const left = length - c
              const taps = left % 5 == 0 || left % 4 != 0 ? min(5, left) : 4
              if (taps == 4) {
                block(4, 4, run + (c << 2), imageStep, rowStep, pixelStep, by + (k << 2), gradientImageStep, gradientRowStep, gradientPixelStep, count, tall, width, to, K << 2, lanes, first)
              } else {
                block(5, taps, run + (c << 2), imageStep, rowStep, pixelStep, by + (k << 2), gradientImageStep, gradientRowStep, gradientPixelStep, count, tall, width, to, K << 2, lanes, first)
              }
              c += taps
              to += taps * K << 2
            }
          }
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function block(
  five: i32, taps: i32,
  input: usize, imageStep: i32, rowStep: i32, pixelStep: i32,
  gradient: usize, gradientImageStep: i32, gradientRowStep: i32, gradientPixelStep: i32,
  images: i32, height: i32, width: i32, result: usize, step: i32, lanes: i32, first: bool,
): void {
  let c00 = f32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00, c40 = c00, c41 = c00
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < height; y++) {
      let p = input + n * imageStep + y * rowStep
      let b = gradient + n * gradientImageStep + y * gradientRowStep
      const end = b + width * gradientPixelStep
      while (b < end) {
        const b0 = v128.load(b), b1 = v128.load(b, 16)
        let a = v128.load32_splat(p)
        c00 = madd(a, b0, c00)
        c01 = madd(a, b1, c01)
        a = v128.load32_splat(p, 4)
        c10 = madd(a, b0, c10)
        c11 = madd(a, b1, c11)
        a = v128.load32_splat(p, 8)
        c20 = madd(a, b0, c20)
        c21 = madd(a, b1, c21)
        a = v128.load32_splat(p, 12)
        c30 = madd(a, b0, c30)
        c31 = madd(a, b1, c31)
        if (five == 5) {
          a = v128.load32_splat(p, 16)
          c40 = madd(a, b0, c40)
          c41 = madd(a, b1, c41)
        }
        p += pixelStep
        b += gradientPixelStep
      }
    }
  }
  join(result, c00, c01, lanes, first)
  if (taps > 1) join(result + step, c10, c11, lanes, first)
  if (taps > 2) join(result + step * 2, c20, c21, lanes, first)
  if (taps > 3) join(result + step * 3, c30, c31, lanes, first)
  if (five == 5) if (taps > 4) join(result + step * 4, c40, c41, lanes, first)
}

/** A pass's sums join those of the passes before: short sums keep float32 exact. */
// @ts-ignore: decorator
@inline
function join(to: usize, a: v128, b: v128, lanes: i32, first: bool): void {
  if (!first) {
    a = f32x4.add(v128.load(to), a)
    b = f32x4.add(v128.load(to, 16), b)
  }
  put(to, a, b, f32x4.splat(-Infinity), lanes)
}
