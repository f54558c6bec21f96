import type { Node } from '../graph.ts'
import { type Address, FLOAT_BYTES, type Planner } from '../planner.ts'
import { activated, activateInto, needsBefore, unactivateInto } from './activation.ts'
import type { LayerRule, ReferenceContext, Values } from './rule.ts'
import {
  type ActivationName,
  absent,
  activation,
  flag,
  integer,
  MAX_UNITS,
  only,
  wrong,
  zeros,
} from './settings.ts'
import {
  type Axis,
  channelsLast,
  imageOf,
  type Padding,
  type Pair,
  padding,
  pair,
  slide,
} from './window.ts'

const refused = [
  'kernel_regularizer',
  'bias_regularizer',
  'activity_regularizer',
  'kernel_constraint',
  'bias_constraint',
]

/**
 * y = activation(x ∗ kernel + bias) over images [height, width, channels]; kernel [down, across, channels, filters]. The input
 * gradient is a convolution of the zero-bordered output gradient by the turned kernel, once for each residue of the stride.
 */
export const conv2d: LayerRule = {
  settings: [
    ...['filters', 'kernel_size', 'strides', 'padding', 'data_format', 'dilation_rate', 'groups'],
    ...['activation', 'use_bias', ...refused],
  ],

  read(config, inputs, where) {
    const [height, width, channels] = imageOf(only(inputs), where)
    channelsLast(config, where)
    absent(config, where, refused)
    const filters = integer(config.filters, 1, MAX_UNITS, where('filters'))
    const size = pair(config.kernel_size, undefined, where('kernel_size'))
    const strides = pair(config.strides, 1, where('strides'))
    const dilation = pair(config.dilation_rate, 1, where('dilation_rate'))
    const mode = padding(config, where)
    const useBias = flag(config.use_bias, true, where('use_bias'))
    if ((config.groups ?? 1) !== 1) throw wrong(where('groups'), String(config.groups), '1')
    if (Math.max(...strides) > 1 && Math.max(...dilation) > 1)
      throw wrong(
        where('dilation_rate'),
        `[${dilation}] with strides [${strides}]`,
        '1 beside strides',
      )
    const [rows, columns] = [height, width].map((length, axis) =>
      slide(length, size[axis]!, strides[axis]!, dilation[axis]!, mode, where('kernel_size')),
    ) as [Axis, Axis]
    return {
      config: {
        ...{ filters, kernel_size: [...size], strides: [...strides], padding: mode },
        ...{ dilation_rate: [...dilation], use_bias: useBias },
        activation: activation(config.activation, where('activation')),
        kernel_initializer: zeros,
        bias_initializer: zeros,
      },
      outputShape: [rows.out, columns.out, filters],
      weights: [
        { name: 'kernel', shape: [...size, channels, filters], role: 'trainable' },
        ...(useBias ? [{ name: 'bias', shape: [filters], role: 'trainable' as const }] : []),
      ],
    }
  },

  plan(node, planner) {
    const sizes = sizesOf(node)
    const input = borderedInput(sizes, planner)
    const before = convolve(node, sizes, input, planner)
    const gradient = borderedGradient(node, sizes, before, planner)
    const kernel = planner.weightGradient('kernel')
    if (kernel) filterGradient(sizes, input, gradient, kernel, planner)
    const to = planner.inputGradient(0)
    if (to) inputGradient(sizes, gradient, to, planner)
  },

  reference(node, [x], context) {
    const { activation } = node.config
    return activated(context.tape, convolved(node, x!, context), activation as ActivationName)
  },
}

interface Sizes {
  channels: number
  filters: number
  /** Height and width of input and output; the window's sides; all [down, across]. */
  input: Pair
  window: Pair
  strides: Pair
  dilation: Pair
  axes: readonly [Axis, Axis]
}

function sizesOf({ config, inputShapes: [shape], outputShape }: Node): Sizes {
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

/** Images in memory: where the first begins, and bytes from one image, row and pixel to the next. */
interface Images {
  at: Address
  image: number
  row: number
  pixel: number
}

function images(at: Address, height: number, width: number, channels: number): Images {
  const pixel = channels * FLOAT_BYTES
  return { at, image: height * width * pixel, row: width * pixel, pixel }
}

/** The input, with zeros around where windows reach over its edge. */
function borderedInput(
  { channels, input: [height, width], axes }: Sizes,
  planner: Planner,
): Images {
  const own = images(planner.input(0), height, width, channels)
  const [down, across] = axes
  if (down.padded <= height && across.padded <= width) return own
  const floats = planner.batch * down.padded * across.padded * channels
  const bordered = images(planner.zeros(floats), down.padded, across.padded, channels)
  const first = bordered.at + down.before * bordered.row + across.before * bordered.pixel
  const { batch } = planner
  planner.forward(
    'copyImages',
    ...[own.at, own.image, own.row, first, bordered.image, bordered.row],
    ...[batch, height, own.row],
  )
  return bordered
}

/** How the taps of a window lie in memory, as runs of floats side by side: rows, their step, columns, theirs, length. */
function runsOf(
  { row, pixel }: Images,
  [down, across]: Pair,
  [dilateY, dilateX]: Pair,
  channels: number,
) {
  const isWhole = dilateX === 1
  const columns = isWhole ? 1 : across
  return [down, dilateY * row, columns, dilateX * pixel, isWhole ? across * channels : channels]
}

/** Floats of scratch that the kernel keeps addresses in. */
const TABLE = 480
const LANES = 8
/** The least float32: an output that nothing is cut from. */
const NO_FLOOR = -3.4028234663852886e38

/** Floats of `filters` panels, each with a bias and so many taps. */
function panelFloats(filters: number, taps: number): number {
  return Math.ceil(filters / LANES) * (1 + taps) * LANES
}

/** Gives where the values before the activation lie: the output's place unless the gradient needs both. */
function convolve(
  { config, outputShape }: Node,
  sizes: Sizes,
  input: Images,
  planner: Planner,
): Address {
  const { channels, filters, window, strides, dilation, axes } = sizes
  const [down, across] = axes
  const taps = window[0] * window[1] * channels
  const name = config.activation as ActivationName
  const size = planner.batch * down.out * across.out * filters
  const isFused = name === 'relu'
  const to = needsBefore(name) ? planner.keep(size) : planner.output()
  const output = images(to, down.out, across.out, filters)
  const panels = planner.keep(panelFloats(filters, taps))
  planner.forward(
    'packKernel',
    planner.weight('kernel'),
    planner.weight('bias'),
    panels,
    taps,
    filters,
  )
  planner.forward(
    'convolve',
    ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
    ...runsOf(input, window, dilation, channels),
    ...[panels, isFused ? 0 : NO_FLOOR],
    ...[output.at, output.image, output.row, output.pixel],
    ...[filters, planner.batch, down.out, across.out, planner.scratch(TABLE)],
  )
  if (!isFused && name !== 'linear')
    activateInto(planner, name, {
      from: to,
      to: planner.output(),
      size,
      channels: outputShape.at(-1)!,
    })
  return to
}

/** The output gradient behind the activation, with zeros around where the input gradient's windows reach. */
function borderedGradient(
  { config, outputShape }: Node,
  sizes: Sizes,
  before: Address,
  planner: Planner,
): Images {
  const { filters, axes } = sizes
  const [down, across] = axes
  const { batch } = planner
  const gradient = planner.outputGradient()
  const name = config.activation as ActivationName
  const size = batch * down.out * across.out * filters
  if (name !== 'relu' && name !== 'linear')
    unactivateInto(planner, name, {
      gradient,
      before,
      after: planner.output(),
      to: gradient,
      ...{ size, channels: outputShape.at(-1)! },
    })
  const wantsInput = planner.inputGradient(0) !== 0
  const [top, left] = [0, 1].map((axis) => borderBefore(sizes, axis)) as [number, number]
  const [height, width] = [0, 1].map((axis) => borderedLength(sizes, axis)) as [number, number]
  const bordered = wantsInput
    ? images(planner.zeros(batch * height * width * filters), height, width, filters)
    : images(gradient, down.out, across.out, filters)
  const first = wantsInput ? bordered.at + top * bordered.row + left * bordered.pixel : bordered.at
  planner.backward(
    'maskRows',
    ...[gradient, name === 'relu' ? planner.output() : 0, first, bordered.image, bordered.row],
    ...[planner.weightGradient('bias'), filters, batch, down.out, across.out],
  )
  return { ...bordered, at: first }
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

function filterGradient(
  { channels, filters, window, strides, dilation, axes: [down, across] }: Sizes,
  input: Images,
  gradient: Images,
  to: Address,
  planner: Planner,
): void {
  planner.backward(
    'filterGradient',
    ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
    ...runsOf(input, window, dilation, channels),
    ...[gradient.at, gradient.image, gradient.row, gradient.pixel],
    ...[filters, planner.batch, down.out, across.out, to],
  )
}

/** What the places of one residue of the stride have in common, along one axis. */
interface Residue {
  /** Its first tap in the kernel, and how many it has. */
  tap: number
  taps: number
  /** Its first place in the input, in the gradient, and how many there are. */
  place: number
  from: number
  count: number
}

function residuesOf({ window, strides, input, axes }: Sizes, axis: number): Residue[] {
  const [stride, size, { before }] = [strides[axis]!, input[axis]!, axes[axis]!]
  return Array.from({ length: Math.min(stride, before + size) }, (_, tap) => {
    const from = Math.max(0, Math.ceil((before - tap) / stride))
    const place = tap + from * stride - before
    const count = Math.max(0, Math.ceil((size - place) / stride))
    const taps = Math.max(0, Math.ceil((window[axis]! - tap) / stride))
    return { tap, taps, place, from, count }
  })
}

function inputGradient(sizes: Sizes, gradient: Images, at: Address, planner: Planner): void {
  const { channels, filters, input, window, strides, dilation } = sizes
  const to = images(at, input[0], input[1], channels)
  const kernel = planner.weight('kernel')
  for (const down of residuesOf(sizes, 0)) {
    for (const across of residuesOf(sizes, 1)) {
      if (down.count === 0 || across.count === 0) continue
      const panels = planner.keep(panelFloats(channels, down.taps * across.taps * filters))
      planner.backward(
        'packTurned',
        ...[kernel, panels, window[1], channels, filters],
        ...[down.tap, strides[0], down.taps, across.tap, strides[1], across.taps],
      )
      const back = [
        (down.from - (down.taps - 1) * dilation[0]) * gradient.row,
        (across.from - (across.taps - 1) * dilation[1]) * gradient.pixel,
      ]
      const hasTaps = down.taps > 0 && across.taps > 0
      planner.backward(
        'convolve',
        ...[hasTaps ? gradient.at + back[0]! + back[1]! : gradient.at],
        ...[gradient.image, gradient.row, gradient.pixel],
        ...runsOf(gradient, [down.taps, across.taps], dilation, filters),
        ...[panels, NO_FLOOR],
        ...[to.at + down.place * to.row + across.place * to.pixel],
        ...[to.image, strides[0] * to.row, strides[1] * to.pixel],
        ...[channels, planner.batch, down.count, across.count, planner.scratch(TABLE)],
      )
    }
  }
}

function convolved(node: Node, x: Values, { tape, weight }: ReferenceContext): Values {
  const { channels, filters, input, window, strides, dilation, axes } = sizesOf(node)
  const [kernel, bias] = [weight('kernel')!, weight('bias')]
  const [batch, nothing] = [x.shape[0]!, tape.constant(0)]
  const at: number[] = []
  const places = [batch, axes[0].out, axes[1].out, filters]
  for (let place = 0; place < places.reduce((a, b) => a * b); place++) {
    const k = place % filters
    const column = Math.floor(place / filters) % axes[1].out
    const row = Math.floor(place / filters / axes[1].out) % axes[0].out
    const image = Math.floor(place / filters / axes[1].out / axes[0].out)
    let sum = bias ? bias.at[k]! : nothing
    for (let i = 0; i < window[0]; i++) {
      const y = row * strides[0] - axes[0].before + i * dilation[0]
      if (y < 0 || y >= input[0]) continue
      for (let j = 0; j < window[1]; j++) {
        const z = column * strides[1] - axes[1].before + j * dilation[1]
        if (z < 0 || z >= input[1]) continue
        for (let c = 0; c < channels; c++) {
          const value = x.at[((image * input[0] + y) * input[1] + z) * channels + c]!
          const tap = kernel.at[((i * window[1] + j) * channels + c) * filters + k]!
          sum = tape.multiplyAdd(value, tap, sum)
        }
      }
    }
    at.push(sum)
  }
  return { shape: places, at }
}
