import { madd, splat, storePart } from './simd.ts'

/**
 * c[m, n] = a[m, k] · b[k, n], or added to c; then, once the sum is whole, + bias[n] and an activation.
 *
 * Strides in floats; transposes cost nothing. b is packed in panels of 8 columns; a is read where it lies, but when it lies
 * transposed its rows are packed too, or lines of the cache would drive each other out. The multiply-adds are those of a
 * 4 x 8 tile in 8 registers. multiply.ts says how much scratch it takes.
 * Source: Goto and van de Geijn 2008, Anatomy of high-performance matrix multiplication.
 */

/** Rows of b in a panel, at most: 12 KiB, which stay in the first cache while rows of a pass by. */
const DEPTH: i32 = 384
/** Columns of b that are packed together. */
const COLUMNS: i32 = 512
/** Rows of a that are gone through with one panel after another. */
const ROWS: i32 = 64
/** All panels together fit into the first cache, beside 4 rows of a: then 4 rows at a time meet all of them. */
const SMALL_BYTES: i32 = 24_576

/** Its number in layers/settings.ts; what is neither this nor 0 is relu, and the others are not for gemm. */
const RELU6: i32 = 2

export function gemm(
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  aRow: i32,
  aColumn: i32,
  b: usize,
  bRow: i32,
  bColumn: i32,
  c: usize,
  cRow: i32,
  add: i32,
  bias: usize,
  activation: i32,
  scratch: usize,
): void {
  // Parts of equal depth, so that none is short.
  const parts = (k + DEPTH - 1) / DEPTH
  const part = (k + parts - 1) / parts
  for (let j0 = 0; j0 < n; j0 += COLUMNS) {
    const columns = min(COLUMNS, n - j0)
    const panels = (columns + 7) >> 3
    for (let k0 = 0; k0 < k; k0 += part) {
      const depth = min(part, k - k0)
      const panelBytes = depth << 5
      const bHere = b + (<usize>(k0 * bRow + j0 * bColumn) << 2)
      for (let j = 0; j < panels; j++) {
        const from = bHere + (<usize>(j * 8 * bColumn) << 2)
        pack(from, bRow, bColumn, depth, min(8, columns - j * 8), scratch + j * panelBytes)
      }
      const last = k0 + depth == k
      const isTurned = aRow == 1 && columns > 8
      const packed = scratch + panels * panelBytes
      const rowsAtOnce = panels * panelBytes <= SMALL_BYTES && !isTurned ? 4 : ROWS
      for (let i0 = 0; i0 < m; i0 += rowsAtOnce) {
        const rows = min(rowsAtOnce, m - i0)
        const from = a + (<usize>(i0 * aRow + k0 * aColumn) << 2)
        if (isTurned) packRows(from, aColumn, rows, depth, packed)
        block(
          rows,
          columns,
          depth,
          isTurned ? packed : from,
          isTurned ? 0 : aRow,
          aColumn,
          scratch,
          c + (<usize>(i0 * cRow + j0) << 2),
          cRow,
          k0 > 0 || add != 0,
          last && bias != 0 ? bias + (<usize>j0 << 2) : 0,
          last ? activation : 0,
        )
      }
    }
  }
}

/** Tiles of a few rows, panel after panel. `aRow` is 0 where a is packed. */
function block(
  rows: i32,
  columns: i32,
  depth: i32,
  a: usize,
  aRow: i32,
  aColumn: i32,
  panels: usize,
  c: usize,
  cRow: i32,
  more: bool,
  bias: usize,
  activation: i32,
): void {
  const isPacked = aRow == 0
  const tileStep = <usize>(isPacked ? depth << 2 : aRow << 2) << 2
  for (let j = 0; j < columns; j += 8) {
    let aTile = a
    for (let i = 0; i < rows; i += 4) {
      tile(
        min(4, rows - i),
        min(8, columns - j),
        depth,
        aTile,
        isPacked ? 1 : aRow,
        isPacked ? 4 : aColumn,
        panels,
        c + (<usize>(i * cRow + j) << 2),
        cRow,
        more,
        bias == 0 ? 0 : bias + (<usize>j << 2),
        activation,
      )
      aTile += tileStep
    }
    panels += depth << 5
  }
}

/**
 * Rows of a that lie side by side in memory, four and four: [rows / 4, depth, 4]. Rows past the last hold anything. Four of
 * `depth` at a time, so that whole lines of the cache are written.
 */
function packRows(a: usize, aColumn: i32, rows: i32, depth: i32, to: usize): void {
  const step = <usize>aColumn << 2
  const tileBytes = <usize>depth << 4
  let k = 0
  for (; k + 4 <= depth; k += 4) {
    let from = a
    let place = to
    for (let i = 0; i < rows; i += 4) {
      v128.store(place, v128.load(from))
      v128.store(place, v128.load(from + step), 16)
      v128.store(place, v128.load(from + 2 * step), 32)
      v128.store(place, v128.load(from + 3 * step), 48)
      from += 16
      place += tileBytes
    }
    a += 4 * step
    to += 64
  }
  for (; k < depth; k++) {
    let place = to
    for (let i = 0; i < rows; i += 4) {
      v128.store(place, v128.load(a + (<usize>i << 2)))
      place += tileBytes
    }
    a += step
    to += 16
  }
}

/** `depth` rows of 8 columns side by side. Columns past `width` hold anything: nobody keeps what comes of them. */
export function pack(
  b: usize,
  bRow: i32,
  bColumn: i32,
  depth: i32,
  width: i32,
  to: usize,
): void {
  if (bColumn == 1) {
    const step = <usize>bRow << 2
    for (let k = 0; k < depth; k++) {
      v128.store(to, v128.load(b))
      v128.store(to, v128.load(b, 16), 16)
      b += step
      to += 32
    }
  } else if (bRow == 1) {
    packTurned(b, <usize>bColumn << 2, depth, width, to)
    packTurned(b + (<usize>(min(4, width - 1) * bColumn) << 2), <usize>bColumn << 2, depth, max(1, width - 4), to + 16)
  } else {
    for (let k = 0; k < depth; k++) {
      for (let j = 0; j < width; j++) {
        store<f32>(to + (<usize>j << 2), load<f32>(b + (<usize>(k * bRow + j * bColumn) << 2)))
      }
      to += 32
    }
  }
}

/** Four columns that lie `step` bytes apart, each of them without gaps: 4 x 4 at a time. */
function packTurned(b0: usize, step: usize, depth: i32, width: i32, to: usize): void {
  let b1 = width > 1 ? b0 + step : b0
  let b2 = width > 2 ? b1 + step : b1
  let b3 = width > 3 ? b2 + step : b2
  let k = 0
  for (; k + 4 <= depth; k += 4) {
    const x0 = v128.load(b0)
    const x1 = v128.load(b1)
    const x2 = v128.load(b2)
    const x3 = v128.load(b3)
    const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5)
    const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7)
    const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5)
    const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7)
    v128.store(to, v128.shuffle<f64>(low01, low23, 0, 2))
    v128.store(to, v128.shuffle<f64>(low01, low23, 1, 3), 32)
    v128.store(to, v128.shuffle<f64>(high01, high23, 0, 2), 64)
    v128.store(to, v128.shuffle<f64>(high01, high23, 1, 3), 96)
    b0 += 16
    b1 += 16
    b2 += 16
    b3 += 16
    to += 128
  }
  for (; k < depth; k++) {
    store<f32>(to, load<f32>(b0))
    store<f32>(to, load<f32>(b1), 4)
    store<f32>(to, load<f32>(b2), 8)
    store<f32>(to, load<f32>(b3), 12)
    b0 += 4
    b1 += 4
    b2 += 4
    b3 += 4
    to += 32
  }
}

/**
 * One tile of up to 4 rows and 8 columns. Rows past `rows` repeat the last one, and write what it writes; columns past
 * `width` are not written.
 */
function tile(
  rows: i32,
  width: i32,
  depth: i32,
  a: usize,
  aRow: i32,
  aColumn: i32,
  panel: usize,
  c: usize,
  cRow: i32,
  more: bool,
  bias: usize,
  activation: i32,
): void {
  let c00 = splat(0)
  let c01 = splat(0)
  let c10 = splat(0)
  let c11 = splat(0)
  let c20 = splat(0)
  let c21 = splat(0)
  let c30 = splat(0)
  let c31 = splat(0)
  const step = <usize>aColumn << 2
  if (aRow == 1 && rows == 4) {
    let k = depth
    do {
      const b0 = v128.load(panel)
      const b1 = v128.load(panel, 16)
      let x = v128.load32_splat(a)
      c00 = madd(x, b0, c00)
      c01 = madd(x, b1, c01)
      x = v128.load32_splat(a, 4)
      c10 = madd(x, b0, c10)
      c11 = madd(x, b1, c11)
      x = v128.load32_splat(a, 8)
      c20 = madd(x, b0, c20)
      c21 = madd(x, b1, c21)
      x = v128.load32_splat(a, 12)
      c30 = madd(x, b0, c30)
      c31 = madd(x, b1, c31)
      a += step
      panel += 32
    } while (--k)
  } else {
    let a1 = a + (<usize>(min(1, rows - 1) * aRow) << 2)
    let a2 = a + (<usize>(min(2, rows - 1) * aRow) << 2)
    let a3 = a + (<usize>(min(3, rows - 1) * aRow) << 2)
    let k = depth
    do {
      const b0 = v128.load(panel)
      const b1 = v128.load(panel, 16)
      let x = v128.load32_splat(a)
      c00 = madd(x, b0, c00)
      c01 = madd(x, b1, c01)
      x = v128.load32_splat(a1)
      c10 = madd(x, b0, c10)
      c11 = madd(x, b1, c11)
      x = v128.load32_splat(a2)
      c20 = madd(x, b0, c20)
      c21 = madd(x, b1, c21)
      x = v128.load32_splat(a3)
      c30 = madd(x, b0, c30)
      c31 = madd(x, b1, c31)
      a += step
      a1 += step
      a2 += step
      a3 += step
      panel += 32
    } while (--k)
  }
  const cStep = <usize>cRow << 2
  const c1 = rows > 1 ? c + cStep : c
  const c2 = rows > 2 ? c1 + cStep : c1
  const c3 = rows > 3 ? c2 + cStep : c2
  if (more) {
    c00 = f32x4.add(c00, v128.load(c))
    c01 = f32x4.add(c01, v128.load(c, 16))
    c10 = f32x4.add(c10, v128.load(c1))
    c11 = f32x4.add(c11, v128.load(c1, 16))
    c20 = f32x4.add(c20, v128.load(c2))
    c21 = f32x4.add(c21, v128.load(c2, 16))
    c30 = f32x4.add(c30, v128.load(c3))
    c31 = f32x4.add(c31, v128.load(c3, 16))
  }
  if (bias) {
    const low = v128.load(bias)
    const high = v128.load(bias, 16)
    c00 = f32x4.add(c00, low)
    c01 = f32x4.add(c01, high)
    c10 = f32x4.add(c10, low)
    c11 = f32x4.add(c11, high)
    c20 = f32x4.add(c20, low)
    c21 = f32x4.add(c21, high)
    c30 = f32x4.add(c30, low)
    c31 = f32x4.add(c31, high)
  }
  if (activation) {
    c00 = bounded(c00, activation)
    c01 = bounded(c01, activation)
    c10 = bounded(c10, activation)
    c11 = bounded(c11, activation)
    c20 = bounded(c20, activation)
    c21 = bounded(c21, activation)
    c30 = bounded(c30, activation)
    c31 = bounded(c31, activation)
  }
  if (width == 8) {
    v128.store(c, c00)
    v128.store(c, c01, 16)
    v128.store(c1, c10)
    v128.store(c1, c11, 16)
    v128.store(c2, c20)
    v128.store(c2, c21, 16)
    v128.store(c3, c30)
    v128.store(c3, c31, 16)
  } else {
    part(c, c00, c01, width)
    part(c1, c10, c11, width)
    part(c2, c20, c21, width)
    part(c3, c30, c31, width)
  }
}

function part(to: usize, low: v128, high: v128, width: i32): void {
  storePart(to, low, width)
  storePart(to + 16, high, width - 4)
}

// @ts-ignore: decorator
@inline
function bounded(x: v128, activation: i32): v128 {
  const positive = f32x4.max(x, splat(0))
  return activation == RELU6 ? f32x4.min(positive, splat(6)) : positive
}
