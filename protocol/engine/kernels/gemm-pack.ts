/** How gemm.ts lays out what it multiplies: b in panels of 8 columns, rows of a in tiles. Strides of matrices are in floats. */

/** `depth` rows of 8 columns side by side. Columns past `width` hold anything: nobody keeps what comes of them. */
export function packPanel(
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
    const step = <usize>bColumn << 2
    packTurned(b, step, depth, min(4, width), to, 32)
    packTurned(b + (<usize>min(4, width - 1)) * step, step, depth, max(1, width - 4), to + 16, 32)
  } else {
    for (let k = 0; k < depth; k++) {
      for (let j = 0; j < width; j++) {
        store<f32>(to + (<usize>j << 2), load<f32>(b + (<usize>(k * bRow + j * bColumn) << 2)))
      }
      to += 32
    }
  }
}

/** Whole panels of rows that lie side by side, panel beside panel: two rows at a time, so that whole lines are read and written. */
export function packPanels(
  b: usize,
  bRow: i32,
  depth: i32,
  panels: i32,
  to: usize,
  panelBytes: i32,
): void {
  const step = <usize>bRow << 2
  for (; depth >= 2; depth -= 2) {
    let from = b
    let place = to
    for (let j = panels; j > 0; j--) {
      v128.store(place, v128.load(from))
      v128.store(place, v128.load(from, 16), 16)
      v128.store(place, v128.load(from + step), 32)
      v128.store(place, v128.load(from + step, 16), 48)
      from += 32
      place += panelBytes
    }
    b += 2 * step
    to += 64
  }
  for (; depth > 0; depth--) {
    for (let j = panels; j > 0; j--) {
      v128.store(to, v128.load(b))
      v128.store(to, v128.load(b, 16), 16)
      b += 32
      to += panelBytes
    }
  }
}

/**
 * Rows of a that lie side by side in memory, four and four: [rows / 4, depth, 4]. Rows past the last hold anything. Four of
 * `depth` at a time, so that whole lines of the cache are written.
 */
export function packFours(a: usize, aColumn: i32, rows: i32, depth: i32, to: usize): void {
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

/**
 * Tiles of 6 rows that so many are cut into; the rest go by fours, and of those the last may be short. One six less where it
 * would leave 1, 2 or 5.
 */
export function sixesOf(rows: i32): i32 {
  const sixes = rows / 6
  const rest = rows - 6 * sixes
  return sixes > 0 && (rest == 1 || rest == 2 || rest == 5) ? sixes - 1 : sixes
}

/**
 * Rows of any strides in tiles, [depth, 6] as many as `sixesOf` says, then [depth, 4]. Rows past the last hold anything.
 */
export function packSixes(a: usize, aRow: i32, aColumn: i32, rows: i32, depth: i32, to: usize): void {
  const sixes = sixesOf(rows)
  const row = <usize>aRow << 2
  const column = <usize>aColumn << 2
  for (let i = 0; i < sixes; i++) {
    if (aRow == 1) packSix(a, column, depth, to)
    else {
      packTurned(a, row, depth, 4, to, 24)
      packPairs(a + 4 * row, row, depth, to + 16)
    }
    a += 6 * row
    to += <usize>(depth * 24)
  }
  for (let left = rows - 6 * sixes; left > 0; left -= 4) {
    if (aRow == 1) packFour(a, column, depth, to)
    else packTurned(a, row, depth, min(4, left), to, 16)
    a += 4 * row
    to += <usize>(depth << 4)
  }
}

/** Six rows that lie side by side. */
function packSix(a: usize, column: usize, depth: i32, to: usize): void {
  for (; depth > 0; depth--) {
    v128.store(to, v128.load(a))
    v128.store64_lane(to, v128.load(a, 16), 0, 16)
    a += column
    to += 24
  }
}

/** Four rows that lie side by side. */
function packFour(a: usize, column: usize, depth: i32, to: usize): void {
  for (; depth > 0; depth--) {
    v128.store(to, v128.load(a))
    a += column
    to += 16
  }
}

/** Two rows without gaps, to pairs 24 bytes apart. */
function packPairs(a: usize, row: usize, depth: i32, to: usize): void {
  let b = a + row
  for (; depth >= 4; depth -= 4) {
    const x = v128.load(a)
    const y = v128.load(b)
    const low = v128.shuffle<f32>(x, y, 0, 4, 1, 5)
    const high = v128.shuffle<f32>(x, y, 2, 6, 3, 7)
    v128.store64_lane(to, low, 0)
    v128.store64_lane(to, low, 1, 24)
    v128.store64_lane(to, high, 0, 48)
    v128.store64_lane(to, high, 1, 72)
    a += 16
    b += 16
    to += 96
  }
  for (; depth > 0; depth--) {
    store<f32>(to, load<f32>(a))
    store<f32>(to, load<f32>(b), 4)
    a += 4
    b += 4
    to += 24
  }
}

/** Up to four columns that lie `step` bytes apart, each of them without gaps, to rows `toStep` bytes apart: 4 x 4 at a time. */
function packTurned(
  b0: usize,
  step: usize,
  depth: i32,
  width: i32,
  to: usize,
  toStep: usize,
): void {
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
    to += toStep
    v128.store(to, v128.shuffle<f64>(low01, low23, 1, 3))
    to += toStep
    v128.store(to, v128.shuffle<f64>(high01, high23, 0, 2))
    to += toStep
    v128.store(to, v128.shuffle<f64>(high01, high23, 1, 3))
    to += toStep
    b0 += 16
    b1 += 16
    b2 += 16
    b3 += 16
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
    to += toStep
  }
}
