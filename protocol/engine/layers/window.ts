import type { Config, Shape, Where } from './rule.ts'
import { integer, quoted, wrong } from './settings.ts'

/** Windows that slide over images: kernel and pool sizes, strides, padding, as Keras and TensorFlow define them. */

/** Down the rows, across the columns. */
export type Pair = readonly [number, number]

export type Padding = 'valid' | 'same'

const MAX_WINDOW = 1024

/** One whole number for both axes, or two. */
export function pair(value: unknown, fallback: number | undefined, where: string): Pair {
  const given = value ?? fallback
  const two = Array.isArray(given) ? given : [given, given]
  if (two.length !== 2) throw wrong(where, quoted(value), 'one whole number or two')
  return two.map((one) => integer(one, 1, MAX_WINDOW, where)) as unknown as Pair
}

export function padding(config: Config, where: Where): Padding {
  const { padding = 'valid' } = config
  if (padding === 'valid' || padding === 'same') return padding
  throw wrong(where('padding'), quoted(padding), 'valid or same')
}

export function imageOf(shape: Shape, where: Where): [number, number, number] {
  if (shape.length === 3) return [...shape] as [number, number, number]
  throw wrong(where('input'), `[${shape}]`, '3 axes: height, width, channels')
}

export function channelsLast(config: Config, where: Where): void {
  const format = config.data_format ?? 'channels_last'
  if (format !== 'channels_last') throw wrong(where('data_format'), format, 'channels_last')
}

/** One axis of a sliding window. */
export interface Axis {
  /** Places of the window. */
  out: number
  /** Zeros before the first value; after the last, TensorFlow puts the odd one more. */
  before: number
  /** Values, zeros around them included, that the windows reach: those after them are never read. */
  padded: number
}

/** Throws Fault `wrong-model` where the window does not fit in at all. */
export function slide(
  size: number,
  window: number,
  stride: number,
  dilation: number,
  mode: Padding,
  where: string,
): Axis {
  const reach = (window - 1) * dilation + 1
  const out = mode === 'same' ? Math.ceil(size / stride) : Math.floor((size - reach) / stride) + 1
  if (out < 1) throw wrong(where, `a window over ${reach}`, `at most ${size}, the input's size`)
  const zeros = mode === 'same' ? Math.max(0, (out - 1) * stride + reach - size) : 0
  return { out, before: Math.floor(zeros / 2), padded: Math.max(size + zeros, reach) }
}
