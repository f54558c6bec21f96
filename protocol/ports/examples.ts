import type { Random } from '../random.ts'
import { shuffle } from '../random.ts'

/**
 * Examples as a host holds them: raw and small, made into float32 batches only when a step takes them.
 *
 *   inputs   [size × width]  Uint8Array for pixels (0..255), Float32Array for table columns; row by row
 *   labels   Uint16Array[size]  index into the manifest's labels
 */
export interface Examples {
  size: number
  /** Values per example. */
  width: number
  inputs: Uint8Array | Float32Array
  labels: Uint16Array
}

/** What came in and what was left out, for people: counts, never contents. */
export interface DataReport {
  format: 'imagefolder' | 'csv' | 'none'
  /** Examples that can be used. */
  read: number
  /** The first few of those left out; all are counted. */
  skipped: Skipped[]
  skippedCount: number
  /** Examples of each label, every label of the manifest. */
  labels: Record<string, number>
  train: number
  validation: number
}

export interface Skipped {
  /** A path below the data's folder, or `row 7`. */
  item: string
  reason: string
}

/** This many left-out items are named. */
const SKIPPED_LIMIT = 20

export interface Skips {
  list: Skipped[]
  count: number
}

export function skip(skips: Skips, item: string, reason: string): void {
  skips.count++
  if (skips.list.length < SKIPPED_LIMIT) skips.list.push({ item, reason })
}

/** The report of examples that were read and then split. */
export function reportOf(
  format: DataReport['format'],
  examples: Examples,
  names: readonly string[],
  split: Split,
  skips: Skips,
): DataReport {
  const labels: Record<string, number> = Object.fromEntries(names.map((name) => [name, 0]))
  for (const label of examples.labels) labels[names[label]!]! += 1
  return {
    format,
    read: examples.size,
    skipped: skips.list,
    skippedCount: skips.count,
    labels,
    train: split.train.length,
    validation: split.validation.length,
  }
}

/** No data: a peer that only gives, settles and evaluates. */
export function noExamples(width: number): Examples {
  return { size: 0, width, inputs: new Uint8Array(0), labels: new Uint16Array(0) }
}

/** Row numbers of two disjoint sets that together are all. */
export interface Split {
  train: Uint32Array
  validation: Uint32Array
}

/** Deals `size` rows at random: `fraction` of them, rounded down, for validation. The same seed deals the same. */
export function splitRows(size: number, fraction: number, random: Random): Split {
  const rows = shuffle(
    random,
    Uint32Array.from({ length: size }, (_, row) => row),
  )
  const cut = Math.floor(size * fraction)
  return { train: rows.slice(cut).sort(), validation: rows.slice(0, cut).sort() }
}

/**
 * Examples while they are read, when nobody knows yet how many will come: doubles as it grows.
 * `finish` gives them at their exact size and may be called once.
 */
export function collectExamples(width: number, kind: 'pixels' | 'numbers'): Collector {
  const makeInputs = (rows: number) =>
    kind === 'pixels' ? new Uint8Array(rows * width) : new Float32Array(rows * width)
  let inputs = makeInputs(FIRST_ROWS)
  let labels = new Uint16Array(FIRST_ROWS)
  let size = 0
  return {
    get size() {
      return size
    },
    add(row, label) {
      if (size === labels.length) {
        const larger = makeInputs(2 * size)
        larger.set(inputs)
        inputs = larger
        const more = new Uint16Array(2 * size)
        more.set(labels)
        labels = more
      }
      inputs.set(row, size * width)
      labels[size++] = label
    },
    finish: () => ({
      size,
      width,
      inputs: inputs.slice(0, size * width),
      labels: labels.slice(0, size),
    }),
  }
}

export interface Collector {
  readonly size: number
  /** Copies the row. */
  add(row: ArrayLike<number>, label: number): void
  finish(): Examples
}

const FIRST_ROWS = 256
