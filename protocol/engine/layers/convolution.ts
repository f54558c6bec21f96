import type { Node } from '../graph.ts'
import { type Address, FLOAT_BYTES, type Planner } from '../planner.ts'
import { activateInto, needsBefore, unactivateInto } from './activation.ts'
import type { ActivationName } from './settings.ts'
import { type Axis, type Padding, type Pair, slide } from './window.ts'

/** What the layers that slide a kernel over images have in common: sizes, places in memory, the activation behind. */

export interface Sizes {
  channels: number
  filters: number
  /** Height and width of input and output; the window's sides; all [down, across]. */
  input: Pair
  window: Pair
  strides: Pair
  dilation: Pair
  axes: readonly [Axis, Axis]
}

export function sizesOf({ config, inputShapes: [shape], outputShape }: Node): Sizes {
  const [height, width, channels] = shape as [number, number, number]
  const window = config.kernel_size as Pair
  const strides = config.strides as Pair
  const dilation = config.dilation_rate as Pair
  const axes = [height, width].map((size, i) =>
    slide(size, window[i]!, strides[i]!, dilation[i]!, config.padding as Padding, ''),
  ) as unknown as Sizes['axes']
  const [filters, input]: [number, Pair] = [outputShape.at(-1)!, [height, width]]
  return { channels, filters, input, window, strides, dilation, axes }
}

/** Where a convolution reads and writes. */
export interface Ends {
  from: Address
  to: Address
  /** Whether negative outputs become 0, and their gradient too. */
  isRelu: boolean
  /** Weight names; without a bias there is none of that name. */
  kernel: string
  bias: string
  /** Gradient of the output, to be overwritten at will; 0 where nothing is trained at or before this layer. */
  toGradient: Address
  /** Gradient of the input, to be overwritten; 0 where nobody needs it. */
  fromGradient: Address
}

/**
 * A layer's plan: `emit` plans what lies between the layer's input and its activation; relu is its own business, the others
 * are applied here, before its backward calls and behind its forward ones.
 */
export function planActivated(
  { config, outputShape }: Node,
  planner: Planner,
  emit: (ends: Omit<Ends, 'kernel' | 'bias'>) => void,
): void {
  const name = config.activation as ActivationName
  const size = outputShape.reduce((a, b) => a * b, planner.batch)
  const channels = outputShape.at(-1)!
  const isFused = name === 'relu' || name === 'linear'
  const to = needsBefore(name) ? planner.keep(size) : planner.output()
  const gradient = planner.outputGradient()
  if (!isFused)
    unactivateInto(planner, name, {
      ...{ gradient, before: to, after: planner.output(), to: gradient },
      ...{ size, channels },
    })
  emit({
    ...{ from: planner.input(0), to, isRelu: name === 'relu' },
    ...{ toGradient: gradient, fromGradient: planner.inputGradient(0) },
  })
  if (!isFused) activateInto(planner, name, { from: to, to: planner.output(), size, channels })
}

/** Images in memory: where the first begins, and bytes from one image, row and pixel to the next. */
export interface Images {
  at: Address
  image: number
  row: number
  pixel: number
}

export function images(at: Address, height: number, width: number, channels: number): Images {
  const pixel = channels * FLOAT_BYTES
  return { at, image: height * width * pixel, row: width * pixel, pixel }
}

/** The least float32: an output that nothing is cut from. */
const NO_FLOOR = -3.4028234663852886e38
export const floorOf = (isRelu: boolean): number => (isRelu ? 0 : NO_FLOOR)

/** Images [height, width, channels] at `from`, with zeros around where windows reach over their edge. */
export function borderedInput(
  { channels, input: [height, width], axes: [down, across] }: Sizes,
  from: Address,
  planner: Planner,
): Images {
  const own = images(from, height, width, channels)
  if (down.padded <= height && across.padded <= width) return own
  const { batch } = planner
  const floats = batch * down.padded * across.padded * channels
  const bordered = images(planner.zeros(floats), down.padded, across.padded, channels)
  const first = bordered.at + down.before * bordered.row + across.before * bordered.pixel
  planner.forward(
    'copyImages',
    ...[own.at, own.image, own.row, first, bordered.image, bordered.row],
    ...[batch, height, own.row],
  )
  return bordered
}

/**
 * The output gradient behind a relu, with zeros around where the input gradient's windows reach; its first value, not the
 * border's, is at `at`. The bias gradient is summed on the way.
 */
export function borderedGradient(
  sizes: Sizes,
  { toGradient, to, isRelu, bias, fromGradient }: Ends,
  planner: Planner,
): Images {
  const { filters, axes } = sizes
  const [down, across] = axes
  const { batch } = planner
  const [top, left] = [0, 1].map((axis) => borderBefore(sizes, axis)) as [number, number]
  const [height, width] = [0, 1].map((axis) => borderedLength(sizes, axis)) as [number, number]
  const bordered = fromGradient
    ? images(planner.zeros(batch * height * width * filters), height, width, filters)
    : images(toGradient, down.out, across.out, filters)
  const at = fromGradient ? bordered.at + top * bordered.row + left * bordered.pixel : bordered.at
  planner.backward(
    'maskRows',
    ...[toGradient, isRelu ? to : 0, at, bordered.image, bordered.row],
    ...[planner.weightGradient(bias), filters, batch, down.out, across.out],
  )
  return { ...bordered, at }
}

/** Zeros before the gradient's first value: as far as the longest of the turned windows reaches back. */
function borderBefore({ window, strides, dilation }: Sizes, axis: number): number {
  return (Math.ceil(window[axis]! / strides[axis]!) - 1) * dilation[axis]!
}

function borderedLength(sizes: Sizes, axis: number): number {
  const { input, strides, axes } = sizes
  const last = Math.floor((axes[axis]!.before + input[axis]! - 1) / strides[axis]!)
  return borderBefore(sizes, axis) + Math.max(axes[axis]!.out, last + 1)
}

/** What the places of one residue of the stride have in common, along one axis. */
export interface Residue {
  /** Its first tap in the kernel, and how many it has. */
  tap: number
  taps: number
  /** Its first place in the input, in the gradient, and how many there are. */
  place: number
  from: number
  count: number
}

/** The residues of the strides that have places, down and across. */
export function residuePairs(sizes: Sizes): [Residue, Residue][] {
  const [down, across] = [residuesOf(sizes, 0), residuesOf(sizes, 1)]
  return down.flatMap((y) => across.map((x): [Residue, Residue] => [y, x]))
}

function residuesOf({ window, strides, input, axes }: Sizes, axis: number): Residue[] {
  const [stride, size, { before }] = [strides[axis]!, input[axis]!, axes[axis]!]
  return Array.from({ length: Math.min(stride, before + size) }, (_, tap) => {
    const from = Math.max(0, Math.ceil((before - tap) / stride))
    const place = tap + from * stride - before
    const count = Math.max(0, Math.ceil((size - place) / stride))
    const taps = Math.max(0, Math.ceil((window[axis]! - tap) / stride))
    return { tap, taps, place, from, count }
  }).filter(({ count }) => count > 0)
}

/** Where, in the bordered gradient, the turned window of a residue's first place begins. */
export function turnedStart(gradient: Images, [down, across]: [Residue, Residue], dilation: Pair) {
  if (down.taps === 0 || across.taps === 0) return gradient.at
  return (
    gradient.at +
    (down.from - (down.taps - 1) * dilation[0]) * gradient.row +
    (across.from - (across.taps - 1) * dilation[1]) * gradient.pixel
  )
}
