/** Rows of a table by index, and their gradient. Indices come as floats; one outside the table is taken as its nearest end. */

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

/** The gradient of gather: table is cleared, then each row of dy[count, width] is added, in order. */
export function scatter(indices: usize, dy: usize, table: usize, count: i32, entries: i32, width: i32): void {
  const row = <usize>width << 2
  memory.fill(table, 0, row * entries)
  for (let i = count; i > 0; i--) {
    const to = table + rowOf(indices, entries) * row
    let c: usize = 0
    for (; c + 16 <= row; c += 16) v128.store(to + c, f32x4.add(v128.load(to + c), v128.load(dy + c)))
    for (; c < row; c += 4) store<f32>(to + c, load<f32>(to + c) + load<f32>(dy + c))
    indices += 4
    dy += row
  }
}
