import type { Node } from '../graph.ts'
import { type Address, FLOAT_BYTES, type Planner } from '../planner.ts'
import { activateInto, needsBefore, unactivateInto } from './activation.ts'
import type { Config, Shape, Tape, Values, Where } from './rule.ts'
import { type ActivationName, absent, activation, flag, only, wrong, zeros } from './settings.ts'
import {
  type Axis,
  asImage,
  asPair,
  channelsLast,
  type Padding,
  type Pair,
  type Places,
  padding,
  placesOf,
  sides,
  slide,
} from './window.ts'

/** What the layers that slide a kernel have in common: settings, sizes, places in memory, the activation behind. */

const refused = ['bias_regularizer', 'activity_regularizer', 'bias_constraint']

export const convolutionSettings = [
  ...['kernel_size', 'strides', 'padding', 'data_format', 'dilation_rate', 'groups'],
  ...['activation', 'use_bias', ...refused],
]

/** The settings that they share, checked and clean; what comes of them. */
export function readConvolution(
  config: Config,
  inputs: readonly Shape[],
  places: Places,
  where: Where,
): { clean: Config; channels: number; window: number[]; out: number[]; useBias: boolean } {
  const { lengths, channels } = placesOf(only(inputs), places, where)
  channelsLast(config, where)
  absent(config, where, refused)
  if ((config.groups ?? 1) !== 1) throw wrong(where('groups'), String(config.groups), '1')
  const window = sides(config.kernel_size, undefined, places, where('kernel_size'))
  const strides = sides(config.strides, 1, places, where('strides'))
  const dilation = sides(config.dilation_rate, 1, places, where('dilation_rate'))
  const known: Padding[] = places === 1 ? ['valid', 'same', 'causal'] : ['valid', 'same']
  const mode = padding(config, known, where)
  if (Math.max(...strides) > 1 && Math.max(...dilation) > 1) {
    const both = `[${dilation}] with strides [${strides}]`
    throw wrong(where('dilation_rate'), both, '1 beside strides')
  }
  const out = lengths.map(
    (size, i) => slide(size, window[i]!, strides[i]!, dilation[i]!, mode, where('kernel_size')).out,
  )
  const useBias = flag(config.use_bias, true, where('use_bias'))
  const clean = {
    ...{ kernel_size: window, strides, padding: mode, dilation_rate: dilation },
    activation: activation(config.activation, where('activation')),
    ...{ use_bias: useBias, bias_initializer: zeros },
  }
  return { clean, channels, window, out, useBias }
}

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
  const [height, width, channels] = asImage(shape!)
  const window = asPair(config.kernel_size as number[])
  const strides = asPair(config.strides as number[])
  const dilation = asPair(config.dilation_rate as number[])
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
  bias?: string
  /** Gradient of the output, to be overwritten at will; 0 where nothing is trained at or before this layer. */
  toGradient: Address
  /** Gradient of the input, to be overwritten; 0 where nobody needs it. */
  fromGradient: Address
}

/** Emits the backward calls of what was planned forward. */
export type Backward = () => void

/**
 * A layer's plan: `forward` plans what lies between the layer's input and its activation, and gives what goes backward, which is
 * left out where nobody needs it. Relu is its own business; the other activations are applied here.
 */
export function planActivated(
  { config, outputShape }: Node,
  planner: Planner,
  forward: (ends: Omit<Ends, 'kernel' | 'bias'>) => Backward,
): void {
  const name = config.activation as ActivationName
  const size = outputShape.reduce((a, b) => a * b, planner.batch)
  const channels = outputShape.at(-1)!
  const isFused = name === 'relu' || name === 'linear'
  const [after, gradient] = [planner.output(), planner.outputGradient()]
  const to = needsBefore(name) ? planner.keep(size) : after
  const backward = forward({
    ...{ from: planner.input(0), to, isRelu: name === 'relu' },
    ...{ toGradient: gradient, fromGradient: planner.inputGradient(0) },
  })
  if (!isFused) activateInto(planner, name, { from: to, to: after, size, channels })
  if (gradient === 0) return
  if (!isFused) {
    const places = { gradient, before: to, after, to: gradient }
    unactivateInto(planner, name, { ...places, size, channels })
  }
  backward()
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

/**
 * Images [height, width, channels] at `from`, each channel `times` times over, with zeros around where windows reach over
 * their edge.
 */
export function borderedInput(
  { channels, input: [height, width], axes: [down, across] }: Sizes,
  from: Address,
  planner: Planner,
  times = 1,
): Images {
  const { batch } = planner
  const own = images(from, height, width, channels)
  const isInside = down.padded <= height && across.padded <= width
  if (isInside && times === 1) return own
  const wide = channels * times
  const bordered = images(
    planner.zeros(batch * down.padded * across.padded * wide),
    ...[down.padded, across.padded, wide],
  )
  const first = bordered.at + down.before * bordered.row + across.before * bordered.pixel
  const to = [first, bordered.image, bordered.row, batch, height]
  if (times === 1) planner.forward('copyImages', own.at, own.image, own.row, ...to, own.row)
  else planner.forward('repeatRows', own.at, ...to, width * channels, times)
  return bordered
}

/**
 * The output gradient behind a relu, with zeros around where the input gradient's windows reach; its first value, not the
 * border's, is at `at`. The bias gradient is summed on the way.
 */
export function borderedGradient(
  sizes: Sizes,
  { toGradient, to, isRelu, bias = '', fromGradient }: Ends,
  planner: Planner,
): Images {
  const { filters, axes } = sizes
  const { batch } = planner
  const out = axes.map((axis) => axis.out) as [number, number]
  const own = images(toGradient, ...out, filters)
  const [top, left] = [0, 1].map((axis) => borderBefore(sizes, axis)) as [number, number]
  const padded = [0, 1].map((axis) => borderedLength(sizes, axis)) as [number, number]
  const isInside = padded[0] === out[0] && padded[1] === out[1]
  let gradient = own
  if (fromGradient && !isInside) {
    const bordered = images(
      planner.zeros(batch * padded[0] * padded[1] * filters),
      ...padded,
      filters,
    )
    gradient = { ...bordered, at: bordered.at + top * bordered.row + left * bordered.pixel }
  }
  const biasGradient = planner.weightGradient(bias)
  if (gradient !== own || isRelu || biasGradient)
    planner.backward(
      'maskRows',
      ...[toGradient, isRelu ? to : 0, gradient.at, gradient.image, gradient.row],
      ...[biasGradient, planner.scratch(filters), filters, batch, ...out],
    )
  return gradient
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

/** For references: every place of the output, image by image, with the taps of its window that lie inside the image. */
export function* windowsOf(
  sizes: Sizes,
  batch: number,
): Generator<{ pixel: number; tap: number }[]> {
  const { axes } = sizes
  for (let image = 0; image < batch; image++) {
    for (let row = 0; row < axes[0].out; row++) {
      for (let column = 0; column < axes[1].out; column++) yield tapsAt(sizes, image, row, column)
    }
  }
}

function tapsAt(
  { input, window, strides, dilation, axes }: Sizes,
  image: number,
  row: number,
  column: number,
): { pixel: number; tap: number }[] {
  const taps: { pixel: number; tap: number }[] = []
  for (let i = 0; i < window[0]; i++) {
    const y = row * strides[0] - axes[0].before + i * dilation[0]
    if (y < 0 || y >= input[0]) continue
    for (let j = 0; j < window[1]; j++) {
      const x = column * strides[1] - axes[1].before + j * dilation[1]
      if (x < 0 || x >= input[1]) continue
      taps.push({ pixel: (image * input[0] + y) * input[1] + x, tap: i * window[1] + j })
    }
  }
  return taps
}

/** A convolution on the tape: x [batch, ...input, channels] and kernel [...window, channels, filters], before the activation. */
export function convolved(
  sizes: Sizes,
  x: Values,
  { tape, kernel, bias }: { tape: Tape; kernel: Values; bias: Values | undefined },
): number[] {
  const { channels, filters } = sizes
  const nothing = tape.constant(0)
  const out: number[] = []
  for (const taps of windowsOf(sizes, x.shape[0]!)) {
    for (let k = 0; k < filters; k++) {
      let sum = bias ? bias.at[k]! : nothing
      for (const { pixel, tap } of taps) {
        for (let c = 0; c < channels; c++) {
          const weight = kernel.at[(tap * channels + c) * filters + k]!
          sum = tape.multiplyAdd(x.at[pixel * channels + c]!, weight, sum)
        }
      }
      out.push(sum)
    }
  }
  return out
}
