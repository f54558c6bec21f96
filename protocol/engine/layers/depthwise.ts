import type { Planner } from '../planner.ts'
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
  windowsOf,
} from './convolution.ts'
import type { Tape, Values } from './rule.ts'
import type { Pair } from './window.ts'

/**
 * Each channel by kernels of its own: filter c · M + m is channel c by its kernel m, where filters = channels · M. With M > 1 the
 * channels are repeated on their way in, and their gradient is folded on its way out.
 */
export function planDepthwise(sizes: Sizes, ends: Ends, planner: Planner): Backward {
  const { channels, filters, strides, window, dilation, axes } = sizes
  const { to, isRelu, kernel, bias = '', fromGradient } = ends
  const { batch } = planner
  const [down, across] = axes
  const times = filters / channels
  const input = borderedInput(sizes, ends.from, planner, times)
  const output = images(to, down.out, across.out, filters)
  const windows = [
    ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
    ...tapsOf(input, window, dilation),
  ]
  const places = [filters, batch, down.out, across.out]
  planner.forward(
    'depthwise',
    ...windows,
    ...[planner.weight(kernel), planner.weight(bias), floorOf(isRelu)],
    ...[output.at, output.image, output.row, output.pixel, ...places],
  )
  return () => {
    const gradient = borderedGradient(sizes, ends, planner)
    const result = planner.weightGradient(kernel)
    const { at, image, row, pixel } = gradient
    if (result)
      planner.backward(
        'depthwiseFilterGradient',
        ...[...windows, at, image, row, pixel, ...places, result],
      )
    if (!fromGradient) return
    const pixels = batch * sizes.input[0] * sizes.input[1]
    const repeated = times === 1 ? fromGradient : planner.keep(pixels * filters)
    inputGradient(sizes, gradient, { ...ends, fromGradient: repeated }, planner)
    if (times > 1) planner.backward('foldRepeats', repeated, fromGradient, pixels * channels, times)
  }
}

/** Rows of taps, bytes from one to the next, columns, and theirs. */
function tapsOf({ row, pixel }: Images, [down, across]: Pair, [dilateY, dilateX]: Pair) {
  return [down, dilateY * row, across, dilateX * pixel]
}

function inputGradient(
  sizes: Sizes,
  gradient: Images,
  { fromGradient, kernel }: Ends,
  planner: Planner,
): void {
  const { filters, input, window, strides, dilation } = sizes
  const to = images(fromGradient, input[0], input[1], filters)
  for (const [down, across] of residuePairs(sizes)) {
    const turned = planner.keep(down.taps * across.taps * filters)
    planner.backward(
      'turnDepthwise',
      ...[planner.weight(kernel), turned, window[1], filters],
      ...[down.tap, strides[0], down.taps, across.tap, strides[1], across.taps],
    )
    planner.backward(
      'depthwise',
      turnedStart(gradient, [down, across], dilation),
      ...[gradient.image, gradient.row, gradient.pixel],
      ...tapsOf(gradient, [down.taps, across.taps], dilation),
      ...[turned, 0, floorOf(false)],
      ...[to.at + down.place * to.row + across.place * to.pixel],
      ...[to.image, strides[0] * to.row, strides[1] * to.pixel],
      ...[filters, planner.batch, down.count, across.count],
    )
  }
}

/** On the tape: x [batch, ...input, channels] and kernel [...window, channels, M], before the activation. */
export function convolvedByChannel(
  sizes: Sizes,
  x: Values,
  { tape, kernel, bias }: { tape: Tape; kernel: Values; bias?: Values | undefined },
): number[] {
  const { channels, filters } = sizes
  const nothing = tape.constant(0)
  const out: number[] = []
  for (const taps of windowsOf(sizes, x.shape[0]!)) {
    for (let k = 0; k < filters; k++) {
      const c = Math.floor((k * channels) / filters)
      let sum = bias ? bias.at[k]! : nothing
      for (const { pixel, tap } of taps) {
        const weight = kernel.at[tap * filters + k]!
        sum = tape.multiplyAdd(x.at[pixel * channels + c]!, weight, sum)
      }
      out.push(sum)
    }
  }
  return out
}
