/**
 * Passes that move images into zero-bordered buffers, and what rides on them: the mask of the activation and the bias
 * gradient, the repeats of a channel multiplier. Steps are in bytes, from image to image and from row to row.
 */
import { joinSums, RUN } from './part.ts'

/** Copies [images, height, width·C] rows between buffers with other steps. */
export function copyImages(
  from: usize, imageStep: i32, rowStep: i32, to: usize, toImageStep: i32, toRowStep: i32,
  images: i32, height: i32, rowBytes: i32,
): void {
  for (let n = 0; n < images; n++) {
    let p = from + n * imageStep
    let q = to + n * toImageStep
    for (let y = 0; y < height; y++) {
      memory.copy(q, p, rowBytes)
      p += rowStep
      q += toRowStep
    }
  }
}

/** The same with each value written `times` times: [images, height, values] → rows of values · times. */
export function repeatRows(
  from: usize, to: usize, toImageStep: i32, toRowStep: i32, images: i32, height: i32, values: i32, times: i32,
): void {
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < height; y++) {
      let q = to + n * toImageStep + y * toRowStep
      for (let i = 0; i < values; i++) {
        const value = load<f32>(from)
        from += 4
        for (let t = 0; t < times; t++) {
          store<f32>(q, value)
          q += 4
        }
      }
    }
  }
}

/** to[i] = Σ of `times` neighbours: what repeatRows does, backward. */
export function foldRepeats(from: usize, to: usize, values: i32, times: i32): void {
  for (let i = 0; i < values; i++) {
    let sum: f32 = 0
    for (let t = 0; t < times; t++) {
      sum += load<f32>(from)
      from += 4
    }
    store<f32>(to, sum)
    to += 4
  }
}

/**
 * The output gradient of a layer with a fused relu, on its way into a border: to = gradient where the output is above 0,
 * else 0; bias[c] = its sum. output 0: no relu, nothing is masked. bias 0: no bias. `to` may be `gradient`. sums: scratch of C
 * floats, where there is a bias.
 */
export function maskRows(
  gradient: usize, output: usize, to: usize, toImageStep: i32, toRowStep: i32, bias: usize, sums: usize,
  C: i32, images: i32, height: i32, width: i32,
): void {
  const zero = f32x4.splat(0)
  const bytes = C << 2
  const whole = (C & ~3) << 2
  if (bias) {
    memory.fill(bias, 0, bytes)
    memory.fill(sums, 0, bytes)
  }
  let left = RUN
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < height; y++) {
      let q = to + n * toImageStep + y * toRowStep
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < whole; c += 16) {
          let g = v128.load(gradient + c)
          if (output) g = v128.and(g, f32x4.gt(v128.load(output + c), zero))
          v128.store(q + c, g)
          if (bias) v128.store(sums + c, f32x4.add(v128.load(sums + c), g))
        }
        for (let c = whole; c < bytes; c += 4) {
          let g = load<f32>(gradient + c)
          if (output != 0 && !(load<f32>(output + c) > 0)) g = 0
          store<f32>(q + c, g)
          if (bias) store<f32>(sums + c, load<f32>(sums + c) + g)
        }
        gradient += bytes
        if (output) output += bytes
        q += bytes
        if (--left == 0) {
          if (bias) joinSums(sums, bias, C)
          left = RUN
        }
      }
    }
  }
  if (bias) joinSums(sums, bias, C)
}
