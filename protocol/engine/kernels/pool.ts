/**
 * Pooling over windows of channels-last images, four channels at a time, with the gradient in one pass over the output.
 *
 * A window starts at (y · strideY − top, x · strideX − left) and is cut at the edges, so that padding neither wins a
 * maximum nor counts in a mean, as in TensorFlow. Of equal maxima the first takes the gradient.
 */

/** output[n, y, x, c] = the window's maximum, or its mean. Images are [height, width, C]. */
export function pool(
  input: usize, height: i32, width: i32, C: i32, poolY: i32, poolX: i32, strideY: i32, strideX: i32, top: i32, left: i32,
  output: usize, outHeight: i32, outWidth: i32, images: i32, mean: bool,
): void {
  const pixel = C << 2, row = width * pixel
  const whole = (C & ~3) << 2
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < outHeight; y++) {
      const y0 = max(0, y * strideY - top), y1 = min(height, y * strideY - top + poolY)
      for (let x = 0; x < outWidth; x++) {
        const x0 = max(0, x * strideX - left), x1 = min(width, x * strideX - left + poolX)
        const from = input + y0 * row + x0 * pixel
        const down = y1 - y0, across = (x1 - x0) * pixel
        const share: f32 = 1 / <f32>(down * (x1 - x0))
        for (let c = 0; c < whole; c += 16) {
          let value = mean ? f32x4.splat(0) : f32x4.splat(-Infinity)
          for (let i = 0, p = from + c; i < down; i++, p += row) {
            if (mean) for (let q = p, end = p + across; q < end; q += pixel) value = f32x4.add(value, v128.load(q))
            else for (let q = p, end = p + across; q < end; q += pixel) value = f32x4.pmax(value, v128.load(q))
          }
          v128.store(output + c, mean ? f32x4.mul(value, f32x4.splat(share)) : value)
        }
        for (let c = whole; c < pixel; c += 4) {
          let value: f32 = mean ? 0 : -Infinity
          for (let i = 0, p = from + c; i < down; i++, p += row) {
            for (let q = p, end = p + across; q < end; q += pixel) {
              const v = load<f32>(q)
              value = mean ? value + v : v > value ? v : value
            }
          }
          store<f32>(output + c, mean ? value * share : value)
        }
        output += pixel
      }
    }
    input += height * row
  }
}

/**
 * result = the gradient of `pool`'s input, overwritten. Where windows neither overlap nor leave a pixel out each pixel is
 * written once; else into zeros.
 */
export function maxPoolGradient(
  input: usize, height: i32, width: i32, C: i32, poolY: i32, poolX: i32, strideY: i32, strideX: i32, top: i32, left: i32,
  output: usize, gradient: usize, outHeight: i32, outWidth: i32, images: i32, result: usize,
): void {
  const pixel = C << 2, row = width * pixel
  const whole = (C & ~3) << 2
  const apart = poolY <= strideY && poolX <= strideX
  if (!apart || outHeight * poolY < height + top || outWidth * poolX < width + left || poolY != strideY || poolX != strideX) {
    memory.fill(result, 0, images * height * row)
  }
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < outHeight; y++) {
      const y0 = max(0, y * strideY - top), y1 = min(height, y * strideY - top + poolY)
      for (let x = 0; x < outWidth; x++) {
        const x0 = max(0, x * strideX - left), x1 = min(width, x * strideX - left + poolX)
        const from = input + y0 * row + x0 * pixel
        const shift = result - input
        const down = y1 - y0, across = (x1 - x0) * pixel
        for (let c = 0; c < whole; c += 16) {
          const best = v128.load(output + c)
          let left = v128.load(gradient + c)
          for (let i = 0, p = from + c; i < down; i++, p += row) {
            for (let q = p, end = p + across; q < end; q += pixel) {
              const here = f32x4.eq(v128.load(q), best)
              let g = v128.and(left, here)
              left = v128.andnot(left, here)
              if (!apart) g = f32x4.add(g, v128.load(q + shift))
              v128.store(q + shift, g)
            }
          }
        }
        for (let c = whole; c < pixel; c += 4) {
          const best = load<f32>(output + c)
          let left = load<f32>(gradient + c)
          for (let i = 0, p = from + c; i < down; i++, p += row) {
            for (let q = p, end = p + across; q < end; q += pixel) {
              let g: f32 = 0
              if (load<f32>(q) == best) {
                g = left
                left = 0
              }
              store<f32>(q + shift, apart ? g : g + load<f32>(q + shift))
            }
          }
        }
        output += pixel
        gradient += pixel
      }
    }
    input += height * row
    result += height * row
  }
}

export function meanPoolGradient(
  gradient: usize, height: i32, width: i32, C: i32, poolY: i32, poolX: i32, strideY: i32, strideX: i32, top: i32, left: i32,
  outHeight: i32, outWidth: i32, images: i32, result: usize,
): void {
  const pixel = C << 2, row = width * pixel
  const whole = (C & ~3) << 2
  memory.fill(result, 0, images * height * row)
  for (let n = 0; n < images; n++) {
    for (let y = 0; y < outHeight; y++) {
      const y0 = max(0, y * strideY - top), y1 = min(height, y * strideY - top + poolY)
      for (let x = 0; x < outWidth; x++) {
        const x0 = max(0, x * strideX - left), x1 = min(width, x * strideX - left + poolX)
        const to = result + y0 * row + x0 * pixel
        const down = y1 - y0, across = (x1 - x0) * pixel
        const share: f32 = 1 / <f32>(down * (x1 - x0))
        for (let c = 0; c < whole; c += 16) {
          const g = f32x4.mul(v128.load(gradient + c), f32x4.splat(share))
          for (let i = 0, p = to + c; i < down; i++, p += row) {
            for (let q = p, end = p + across; q < end; q += pixel) v128.store(q, f32x4.add(v128.load(q), g))
          }
        }
        for (let c = whole; c < pixel; c += 4) {
          const g = load<f32>(gradient + c) * share
          for (let i = 0, p = to + c; i < down; i++, p += row) {
            for (let q = p, end = p + across; q < end; q += pixel) store<f32>(q, load<f32>(q) + g)
          }
        }
        gradient += pixel
      }
    }
    result += height * row
  }
}
