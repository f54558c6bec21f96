import type { Address, Planner } from '../planner.ts'
import {
  type Backward,
  borderedGradient,
  borderedInput,
  type Ends,
  floorOf,
  type Images,
  images,
  residuePairs,
  type Sizes,
  turnedStart,
} from './convolution.ts'
import type { Pair } from './window.ts'

/**
 * Direct convolution, for any kernel, stride and dilation. The input gradient is a convolution of the zero-bordered output
 * gradient by the turned kernel, once for each residue of the stride.
 */
export function planDirect(sizes: Sizes, ends: Ends, planner: Planner): Backward {
  const input = borderedInput(sizes, ends.from, planner)
  convolve(sizes, input, ends, planner)
  return () => {
    const gradient = borderedGradient(sizes, ends, planner)
    const kernel = planner.weightGradient(ends.kernel)
    if (kernel) filterGradient(sizes, input, gradient, kernel, planner)
    if (ends.fromGradient) inputGradient(sizes, gradient, ends, planner)
  }
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

/** Floats of `filters` panels, each with a bias and so many taps. */
function panelFloats(filters: number, taps: number): number {
  return Math.ceil(filters / LANES) * (1 + taps) * LANES
}

function convolve(
  { channels, filters, window, strides, dilation, axes: [down, across] }: Sizes,
  input: Images,
  { to, isRelu, kernel, bias = '' }: Ends,
  planner: Planner,
): void {
  const taps = window[0] * window[1] * channels
  const output = images(to, down.out, across.out, filters)
  const panels = planner.keep(panelFloats(filters, taps))
  const weights = [planner.weight(kernel), planner.weight(bias)]
  planner.forward('packKernel', ...weights, panels, taps, filters)
  planner.forward(
    'convolve',
    ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
    ...runsOf(input, window, dilation, channels),
    ...[panels, floorOf(isRelu)],
    ...[output.at, output.image, output.row, output.pixel],
    ...[filters, planner.batch, down.out, across.out, planner.scratch(TABLE)],
  )
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

function inputGradient(
  sizes: Sizes,
  gradient: Images,
  { fromGradient, kernel }: Ends,
  planner: Planner,
): void {
  const { channels, filters, input, window, strides, dilation } = sizes
  const to = images(fromGradient, input[0], input[1], channels)
  for (const [down, across] of residuePairs(sizes)) {
    const panels = planner.keep(panelFloats(channels, down.taps * across.taps * filters))
    planner.backward(
      'packTurned',
      ...[planner.weight(kernel), panels, window[1], channels, filters],
      ...[down.tap, strides[0], down.taps, across.tap, strides[1], across.taps],
    )
    planner.backward(
      'convolve',
      turnedStart(gradient, [down, across], dilation),
      ...[gradient.image, gradient.row, gradient.pixel],
      ...runsOf(gradient, [down.taps, across.taps], dilation, filters),
      ...[panels, floorOf(false)],
      ...[to.at + down.place * to.row + across.place * to.pixel],
      ...[to.image, strides[0] * to.row, strides[1] * to.pixel],
      ...[channels, planner.batch, down.count, across.count, planner.scratch(TABLE)],
    )
  }
}
