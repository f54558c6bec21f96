import { packFours, packPanel, packPanels, packSixes, sixesOf } from './gemm-pack.ts'
import { tall, tile } from './gemm-tile.ts'

/**
 * c[m, n] = a[m, k] · b[k, n], or added to c; then, once the sum is whole, + bias[n] and an activation.
 *
 * Strides in floats; transposes cost nothing. b is packed in panels of 8 columns; a is read where it lies, but when it lies
 * transposed its rows are packed too, or lines of the cache would drive each other out. The multiply-adds are those of a
 * 4 x 8 tile in 8 registers; with relaxed SIMD they are fused and wait longer for each other, so a 6 x 8 tile in 12 goes before
 * it where packing all of a pays. multiply.ts says how much scratch it takes.
 * Source: Goto and van de Geijn 2008, Anatomy of high-performance matrix multiplication.
 */

/** Rows of b in a panel, at most: 12 KiB, which stay in the first cache while rows of a pass by. */
const DEPTH: i32 = 384
/** Columns of b that are packed together. */
const COLUMNS: i32 = 512
/** Rows of a that are gone through with one panel after another, in tiles of 4 and of 6. */
const ROWS: i32 = 64
const TALL_ROWS: i32 = 60
/** Packing a is worth it from so many columns on. */
const TALL_COLUMNS: i32 = 32
/** All panels together fit into the first cache, beside 4 rows of a: then 4 rows at a time meet all of them. */
const SMALL_BYTES: i32 = 24_576

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
      const whole = bColumn == 1 ? columns >> 3 : 0
      packPanels(bHere, bRow, depth, whole, scratch, panelBytes)
      for (let j = whole; j < panels; j++) {
        const from = bHere + (<usize>(j * 8 * bColumn) << 2)
        packPanel(from, bRow, bColumn, depth, min(8, columns - j * 8), scratch + j * panelBytes)
      }
      const last = k0 + depth == k
      const more = k0 > 0 || add != 0
      const biasHere = last && bias != 0 ? bias + (<usize>j0 << 2) : 0
      const packed = scratch + panels * panelBytes
      const areSmall = panels * panelBytes <= SMALL_BYTES
      if (ASC_FEATURE_RELAXED_SIMD && columns > TALL_COLUMNS && (aRow == 1 || aColumn == 1)) {
        for (let i0 = 0; i0 < m; i0 += TALL_ROWS) {
          const rows = min(TALL_ROWS, m - i0)
          packSixes(a + (<usize>(i0 * aRow + k0 * aColumn) << 2), aRow, aColumn, rows, depth, packed)
          tallBlock(
            rows,
            columns,
            depth,
            packed,
            scratch,
            c + (<usize>(i0 * cRow + j0) << 2),
            cRow,
            more,
            biasHere,
            last ? activation : 0,
            areSmall,
          )
        }
        continue
      }
      const isTurned = aRow == 1 && columns > 8
      const rowsAtOnce = areSmall && !isTurned ? 4 : ROWS
      for (let i0 = 0; i0 < m; i0 += rowsAtOnce) {
        const rows = min(rowsAtOnce, m - i0)
        const from = a + (<usize>(i0 * aRow + k0 * aColumn) << 2)
        if (isTurned) packFours(from, aColumn, rows, depth, packed)
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
          more,
          biasHere,
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

/** Tiles of packed rows: all panels after each tile where those are small, else all tiles after each panel. */
function tallBlock(
  rows: i32,
  columns: i32,
  depth: i32,
  a: usize,
  panels: usize,
  c: usize,
  cRow: i32,
  more: bool,
  bias: usize,
  activation: i32,
  areSmall: bool,
): void {
  const sixes = sixesOf(rows)
  if (areSmall) {
    let left = rows
    for (let i = 0; i < sixes; i++) {
      tallPart(1, 6, columns, depth, a, panels, c, cRow, more, bias, activation)
      a += <usize>(depth * 24)
      c += <usize>(cRow * 24)
      left -= 6
    }
    for (; left > 0; left -= 4) {
      tallPart(0, left, columns, depth, a, panels, c, cRow, more, bias, activation)
      a += <usize>(depth << 4)
      c += <usize>(cRow << 4)
    }
  } else tallPart(sixes, rows, columns, depth, a, panels, c, cRow, more, bias, activation)
}

/** `sixes` tall tiles and the others of `rows`, panel after panel. */
function tallPart(
  sixes: i32,
  rows: i32,
  columns: i32,
  depth: i32,
  a: usize,
  panels: usize,
  c: usize,
  cRow: i32,
  more: bool,
  bias: usize,
  activation: i32,
): void {
  for (let j = 0; j < columns; j += 8) {
    let aTile = a
    let cTile = c
    const width = min(8, columns - j)
    for (let i = 0; i < sixes; i++) {
      tall(width, depth, aTile, panels, cTile, cRow, more, bias, activation)
      aTile += <usize>(depth * 24)
      cTile += <usize>(cRow * 24)
    }
    for (let left = rows - 6 * sixes; left > 0; left -= 4) {
      tile(min(4, left), width, depth, aTile, 1, 4, panels, cTile, cRow, more, bias, activation)
      aTile += <usize>(depth << 4)
      cTile += <usize>(cRow << 4)
    }
    panels += depth << 5
    c += 32
    if (bias) bias += 32
  }
}
