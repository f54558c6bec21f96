import type { Config, Shape, Where } from './rule.ts'
import { integer, quoted, wrong } from './settings.ts'

/** Windows that slide over images, or over steps: kernel and pool sizes, strides, padding, as Keras and TensorFlow define them. */

/** Axes that a window slides along: 1 over steps, which count as images of one row, 2 over images. */
export type Places = 1 | 2

/** Down the rows, across the columns. */
export type Pair = readonly [number, number]

/** causal: zeros before the first value alone, so that no window sees what comes later. */
export type Padding = 'valid' | 'same' | 'causal'

const MAX_WINDOW = 1024

/** One whole number for all axes, or one for each. */
export function sides(
  value: unknown,
  fallback: number | readonly number[] | undefined,
  places: Places,
  where: string,
): number[] {
  const given = value ?? fallback
  const all = Array.isArray(given) ? given : Array.from({ length: places }, () => given)
  if (all.length !== places) throw wrong(where, quoted(value), `one whole number or ${places}`)
  return all.map((one) => integer(one, 1, MAX_WINDOW, where))
}

/** Sides of windows over steps as those over images of one row. */
export const asPair = (sides: readonly number[]): Pair =>
  sides.length === 1 ? [1, sides[0]!] : (sides as unknown as Pair)

export function padding(config: Config, known: readonly Padding[], where: Where): Padding {
  const padding = (config.padding ?? 'valid') as Padding
  if (known.includes(padding)) return padding
  throw wrong(where('padding'), quoted(padding), known.join(' or '))
}

/** Lengths along the axes that windows slide along, and channels. */
export function placesOf(
  shape: Shape,
  places: Places,
  where: Where,
): { lengths: number[]; channels: number } {
  const names = places === 1 ? 'steps, channels' : 'height, width, channels'
  if (shape.length !== places + 1)
    throw wrong(where('input'), `[${shape}]`, `${places + 1} axes: ${names}`)
  return { lengths: shape.slice(0, places), channels: shape[places]! }
}

/** [height, width, channels] of images, or of steps. */
export const asImage = (shape: Shape): [number, number, number] =>
  [...(shape.length === 2 ? [1] : []), ...shape] as [number, number, number]

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
  const isValid = mode === 'valid'
  const out = isValid ? Math.floor((size - reach) / stride) + 1 : Math.ceil(size / stride)
  if (out < 1) throw wrong(where, `a window over ${reach}`, `at most ${size}, the input's size`)
  const zeros = isValid ? 0 : Math.max(0, (out - 1) * stride + reach - size)
  const before = mode === 'causal' ? reach - 1 : Math.floor(zeros / 2)
  return { out, before, padded: Math.max(size + zeros, reach, before + size) }
}
