/** Rows of a table by index, and their gradient. Indices come as floats; one outside the table is taken as its nearest end. */
import { joinSums, RUN } from './part.ts'

// @ts-ignore: decorator
@inline
function rowOf(indices: usize, entries: i32): usize {
  return <usize>max(0, min(entries - 1, <i32>load<f32>(indices)))
}

/** out[count, width] = table[indices[count], width]; table of `entries` rows. */
export function gather(indices: usize, table: usize, out: usize, count: i32, entries: i32, width: i32): void {
  const row = <usize>width << 2
  for (let i = count; i > 0; i--) {
    memory.copy(out, table + rowOf(indices, entries) * row, row)
    indices += 4
    out += row
  }
}

/**
 * The gradient of gather: table[e, width] = the sum of the rows of dy[count, width] whose index is e, in order; 0 where there is
 * none. scratch: entries + count + width numbers.
 */
export function scatter(
  indices: usize, dy: usize, table: usize, count: i32, entries: i32, width: i32, scratch: usize,
): void {
  const row = <usize>width << 2
  const firsts = scratch
  const nexts = firsts + (<usize>entries << 2)
  const sums = nexts + (<usize>count << 2)
  memory.fill(table, 0, row * entries)
  memory.fill(firsts, 0, <usize>entries << 2)
  // Lists of places that name the same row, from the last to the first, so that each is in order. Places count from 1; 0 ends.
  for (let place = count; place > 0; place--) {
    const at = <usize>(place - 1) << 2
    const first = firsts + (<usize>rowOf(indices + at, entries) << 2)
    store<i32>(nexts + at, load<i32>(first))
    store<i32>(first, place)
  }
  for (let e = 0; e < entries; e++) {
    let place = load<i32>(firsts + (<usize>e << 2))
    let to = table
    while (place) {
      for (let left = RUN; left > 0 && place; left--) {
        const at = <usize>(place - 1)
        addRow(dy + at * row, to, row)
        place = load<i32>(nexts + (at << 2))
      }
      if (to != table) joinSums(sums, table, width)
      else if (place) memory.fill(sums, 0, row)
      to = sums
    }
    table += row
  }
}

// @ts-ignore: decorator
@inline
function addRow(from: usize, to: usize, row: usize): void {
  let c: usize = 0
  for (; c + 16 <= row; c += 16) v128.store(to + c, f32x4.add(v128.load(to + c), v128.load(from + c)))
  for (; c < row; c += 4) store<f32>(to + c, load<f32>(to + c) + load<f32>(from + c))
}
