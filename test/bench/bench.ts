/** One row of the table of figures: what `npm run bench -- NAME` runs. */
export interface Bench<R extends Result = Result> {
  name: string
  /** One line for people: what it measures, and the figure to reach. */
  reach: string
  run(options: BenchOptions): Promise<R>
  /** The result as lines for people. */
  table(result: R): string
}

export interface BenchOptions {
  /** The last line on stdout is one JSON object. */
  json: boolean
  /** The smallest sizes, once each: shows that it works, says nothing about speed. */
  quick: boolean
  /** Progress, for people. */
  say(text: string): void
}

/** What goes into the JSON line: the bench's name and its keys. */
export interface Result {
  bench: string
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length / 2
  return (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2
}

/** Rows of cells, the first row their heads, each column as wide as its widest cell. */
export function columns(rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map(String))
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)))
  return cells.map((row) => row.map((cell, i) => cell.padStart(widths[i]!)).join('  ')).join('\n')
}

/** Digits that mean something. */
export function rounded(value: number, digits = 3): number {
  return Number(value.toPrecision(digits))
}
