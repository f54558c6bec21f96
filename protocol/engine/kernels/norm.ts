/**
 * Batch and layer normalisation, with gradients through their statistics.
 *
 *   x[rows, width], the normalised axis last
 *
 * Source: Ioffe and Szegedy 2015; Ba, Kiros and Hinton 2016; variance by Chan, Golub and LeVeque's merging of chunks, so that one
 * pass over memory is as exact as two.
 */
import { joinSums, RUN, readPart, writePart } from './part.ts'
import { madd, sumOf } from './simd.ts'

/** Rows summed in registers before they join the running sums: short sums keep float32 exact, and a chunk stays in the first cache. */
const CHUNK = 64

/**
 * Statistics of each column: mean[width], spread[width] = 1 / sqrt(variance + epsilon); moving ones follow where momentum < 1.
 * x[rows, width]. The variance is the population's, as in Keras.
 */
export function batchStatistics(
  x: usize, rows: i32, width: i32, mean: usize, spread: usize,
  movingMean: usize, movingVariance: usize, momentum: f32, epsilon: f32,
): void {
  const row = <usize>width << 2
  let seen = 0
  for (; seen < rows; ) {
    const count = min(CHUNK, rows - seen)
    for (let c: usize = 0; c < row; ) {
      const whole = c + 16 <= row
      mergeChunk(x + c, row, count, seen, mean + c, spread + c, whole)
      c += whole ? 16 : 4
    }
    seen += count
    x += row * count
  }
  const keep = f32x4.splat(momentum)
  const follow = f32x4.splat(1 - momentum)
  for (let c: usize = 0; c < row; ) {
    const whole = c + 16 <= row
    const variance = f32x4.div(readPart(spread + c, whole), f32x4.splat(<f32>rows))
    const moved = f32x4.mul(keep, readPart(movingMean + c, whole))
    writePart(movingMean + c, f32x4.add(moved, f32x4.mul(follow, readPart(mean + c, whole))), whole)
    const movedVariance = f32x4.mul(keep, readPart(movingVariance + c, whole))
    writePart(movingVariance + c, f32x4.add(movedVariance, f32x4.mul(follow, variance)), whole)
    writePart(spread + c, spreadOf(variance, epsilon), whole)
    c += whole ? 16 : 4
  }
}

// @ts-ignore: decorator
@inline
function spreadOf(variance: v128, epsilon: f32): v128 {
  return f32x4.div(f32x4.splat(1), f32x4.sqrt(f32x4.add(variance, f32x4.splat(epsilon))))
}

/** Merges a chunk of rows of four columns into their mean and their sum of squared deviations from it. */
// @ts-ignore: decorator
@inline
function mergeChunk(x: usize, row: usize, count: i32, seen: i32, mean: usize, squares: usize, whole: bool): void {
  let sum = f32x4.splat(0)
  let at = x
  for (let i = count; i > 0; i--) {
    sum = f32x4.add(sum, readPart(at, whole))
    at += row
  }
  const chunkMean = f32x4.div(sum, f32x4.splat(<f32>count))
  let chunkSquares = f32x4.splat(0)
  at = x
  for (let i = count; i > 0; i--) {
    const d = f32x4.sub(readPart(at, whole), chunkMean)
    chunkSquares = madd(d, d, chunkSquares)
    at += row
  }
  if (seen == 0) {
    writePart(mean, chunkMean, whole)
    writePart(squares, chunkSquares, whole)
    return
  }
  const total = <f32>(seen + count)
  const before = readPart(mean, whole)
  const difference = f32x4.sub(chunkMean, before)
  writePart(mean, f32x4.add(before, f32x4.mul(difference, f32x4.splat(<f32>count / total))), whole)
  const between = f32x4.mul(f32x4.mul(difference, difference), f32x4.splat(<f32>seen * (<f32>count / total)))
  writePart(squares, f32x4.add(readPart(squares, whole), f32x4.add(chunkSquares, between)), whole)
}

/** spread[width] of a variance. */
export function batchSpread(variance: usize, spread: usize, width: i32, epsilon: f32): void {
  const row = <usize>width << 2
  for (let c: usize = 0; c < row; ) {
    const whole = c + 16 <= row
    writePart(spread + c, spreadOf(readPart(variance + c, whole), epsilon), whole)
    c += whole ? 16 : 4
  }
}

/** y = (x - mean) * spread * gamma + beta, gamma and beta 0 where absent; slope: scratch of width floats. */
export function batchNormalise(
  x: usize, y: usize, rows: i32, width: i32, mean: usize, spread: usize, gamma: usize, beta: usize, slope: usize,
): void {
  const row = <usize>width << 2
  for (let c: usize = 0; c < row; ) {
    const whole = c + 16 <= row
    const s = readPart(spread + c, whole)
    writePart(slope + c, gamma ? f32x4.mul(s, readPart(gamma + c, whole)) : s, whole)
    c += whole ? 16 : 4
  }
  for (let i = rows; i > 0; i--) {
    for (let c: usize = 0; c < row; ) {
      const whole = c + 16 <= row
      const centred = f32x4.sub(readPart(x + c, whole), readPart(mean + c, whole))
      const offset = beta ? readPart(beta + c, whole) : f32x4.splat(0)
      writePart(y + c, madd(centred, readPart(slope + c, whole), offset), whole)
      c += whole ? 16 : 4
    }
    x += row
    y += row
  }
}

/** dGamma = sum of dy * xhat, dBeta = sum of dy, over the rows. */
export function batchSums(
  x: usize, dy: usize, rows: i32, width: i32, mean: usize, spread: usize, dGamma: usize, dBeta: usize,
): void {
  const row = <usize>width << 2
  memory.fill(dGamma, 0, row)
  memory.fill(dBeta, 0, row)
  for (let left = rows; left > 0; left -= CHUNK) {
    const count = min(CHUNK, left)
    for (let c: usize = 0; c < row; ) {
      const whole = c + 16 <= row
      sumChunk(x + c, dy + c, row, count, mean + c, spread + c, dGamma + c, dBeta + c, whole)
      c += whole ? 16 : 4
    }
    x += row * count
    dy += row * count
  }
}

// @ts-ignore: decorator
@inline
function sumChunk(x: usize, dy: usize, row: usize, count: i32, mean: usize, spread: usize, dGamma: usize, dBeta: usize, whole: bool): void {
  const middle = readPart(mean, whole)
  let gamma = f32x4.splat(0)
  let beta = f32x4.splat(0)
  for (let i = count; i > 0; i--) {
    const gradient = readPart(dy, whole)
    beta = f32x4.add(beta, gradient)
    gamma = madd(gradient, f32x4.sub(readPart(x, whole), middle), gamma)
    x += row
    dy += row
  }
  writePart(dGamma, f32x4.add(readPart(dGamma, whole), f32x4.mul(gamma, readPart(spread, whole))), whole)
  writePart(dBeta, f32x4.add(readPart(dBeta, whole), beta), whole)
}

/**
 * dx = gamma * spread * (dy - dBeta / rows - xhat * dGamma / rows), gamma 0 where absent; factors: scratch of 3 * width floats.
 * Differences come first, as the sums that they take from each other are large beside them.
 */
export function batchGradient(
  x: usize, dy: usize, dx: usize, rows: i32, width: i32, mean: usize, spread: usize, gamma: usize, dGamma: usize, dBeta: usize, factors: usize,
): void {
  const row = <usize>width << 2
  const share = f32x4.splat(<f32>1 / <f32>rows)
  const along = factors + row
  const middle = along + row
  for (let c: usize = 0; c < row; ) {
    const whole = c + 16 <= row
    const s = readPart(spread + c, whole)
    writePart(factors + c, gamma ? f32x4.mul(s, readPart(gamma + c, whole)) : s, whole)
    writePart(along + c, f32x4.mul(s, f32x4.mul(readPart(dGamma + c, whole), share)), whole)
    writePart(middle + c, f32x4.mul(readPart(dBeta + c, whole), share), whole)
    c += whole ? 16 : 4
  }
  for (let i = rows; i > 0; i--) {
    for (let c: usize = 0; c < row; ) {
      const whole = c + 16 <= row
      const centred = f32x4.sub(readPart(x + c, whole), readPart(mean + c, whole))
      const gradient = f32x4.sub(readPart(dy + c, whole), readPart(middle + c, whole))
      const rest = f32x4.sub(gradient, f32x4.mul(centred, readPart(along + c, whole)))
      writePart(dx + c, f32x4.mul(rest, readPart(factors + c, whole)), whole)
      c += whole ? 16 : 4
    }
    x += row
    dy += row
    dx += row
  }
}

/** y = xhat * gamma + beta over each row; statistics[rows, 2]: mean and 1 / sqrt(variance + epsilon). gamma and beta 0 where absent. */
export function layerNormalise(
  x: usize, y: usize, rows: i32, width: i32, gamma: usize, beta: usize, statistics: usize, epsilon: f32,
): void {
  const row = <usize>width << 2
  const share = <f32>1 / <f32>width
  for (let i = rows; i > 0; i--) {
    let sums = f32x4.splat(0)
    let c: usize = 0
    for (; c + 16 <= row; c += 16) sums = f32x4.add(sums, v128.load(x + c))
    let sum = sumOf(sums)
    for (; c < row; c += 4) sum += load<f32>(x + c)
    const mean = sum * share
    const means = f32x4.splat(mean)
    let squares = f32x4.splat(0)
    for (c = 0; c < row; ) {
      const whole = c + 16 <= row
      let d = f32x4.sub(readPart(x + c, whole), means)
      if (!whole) d = f32x4.mul(d, f32x4(1, 0, 0, 0))
      squares = madd(d, d, squares)
      c += whole ? 16 : 4
    }
    const spread = <f32>1 / sqrt(sumOf(squares) * share + epsilon)
    store<f32>(statistics, mean)
    store<f32>(statistics, spread, 4)
    const spreads = f32x4.splat(spread)
    for (c = 0; c < row; ) {
      const whole = c + 16 <= row
      let value = f32x4.mul(f32x4.sub(readPart(x + c, whole), means), spreads)
      if (gamma) value = f32x4.mul(value, readPart(gamma + c, whole))
      if (beta) value = f32x4.add(value, readPart(beta + c, whole))
      writePart(y + c, value, whole)
      c += whole ? 16 : 4
    }
    x += row
    y += row
    statistics += 8
  }
}

/**
 * dx, dGamma and dBeta of layerNormalise in one pass; any of the three 0 where nobody asks. With g = dy * gamma:
 * dx = spread * (g - mean(g) - xhat * mean(g * xhat)). sums: scratch of 2 * width floats.
 */
export function layerGradient(
  x: usize, dy: usize, dx: usize, rows: i32, width: i32, gamma: usize, dGamma: usize, dBeta: usize, statistics: usize, sums: usize,
): void {
  const row = <usize>width << 2
  const share = <f32>1 / <f32>width
  const gammaSums = sums
  const betaSums = sums + row
  memory.fill(sums, 0, row << 1)
  if (dGamma) memory.fill(dGamma, 0, row)
  if (dBeta) memory.fill(dBeta, 0, row)
  for (let i = rows; i > 0; i--) {
    const means = v128.load32_splat(statistics)
    const spreads = v128.load32_splat(statistics, 4)
    let total = f32x4.splat(0)
    let products = f32x4.splat(0)
    for (let c: usize = 0; c < row; ) {
      const whole = c + 16 <= row
      let gradient = readPart(dy + c, whole)
      const normal = f32x4.mul(f32x4.sub(readPart(x + c, whole), means), spreads)
      const product = f32x4.mul(gradient, normal)
      if (dGamma) writePart(gammaSums + c, f32x4.add(readPart(gammaSums + c, whole), product), whole)
      if (dBeta) writePart(betaSums + c, f32x4.add(readPart(betaSums + c, whole), gradient), whole)
      if (gamma) gradient = f32x4.mul(gradient, readPart(gamma + c, whole))
      total = f32x4.add(total, gradient)
      products = madd(gradient, normal, products)
      c += whole ? 16 : 4
    }
    if (dx) {
      const mean = f32x4.splat(sumOf(total) * share)
      const along = f32x4.splat(sumOf(products) * share)
      for (let c: usize = 0; c < row; ) {
        const whole = c + 16 <= row
        let gradient = readPart(dy + c, whole)
        if (gamma) gradient = f32x4.mul(gradient, readPart(gamma + c, whole))
        const normal = f32x4.mul(f32x4.sub(readPart(x + c, whole), means), spreads)
        const rest = f32x4.sub(f32x4.sub(gradient, mean), f32x4.mul(normal, along))
        writePart(dx + c, f32x4.mul(rest, spreads), whole)
        c += whole ? 16 : 4
      }
      dx += row
    }
    x += row
    dy += row
    statistics += 8
    if (i % RUN == 1) {
      if (dGamma) joinSums(gammaSums, dGamma, width)
      if (dBeta) joinSums(betaSums, dBeta, width)
    }
  }
}
