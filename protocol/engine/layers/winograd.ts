import type { Planner } from '../planner.ts'
import { type Backward, type Ends, floorOf, images, type Sizes } from './convolution.ts'

/**
 * 3×3 and 5×5 convolutions of stride 1 with 16 multiplications where the direct ones take 36, 36 where they take 100
 * (kernels/winograd.ts), forward and both gradients. No border is needed: the input gradient is a convolution of the output
 * gradient by the turned kernel, too.
 */

/** Channels go by fours through the kernel. */
const LANES = 4
/** What transforming a tile takes beside its products, in multiply-adds: so many for each channel, by measurement. */
const TRANSFORM = { 3: 58, 5: 260 } as const

/** Whether it takes less than the direct kernels: tiles that stick out, and few channels to share a tile, eat up the gain. */
export function suitsWinograd(sizes: Sizes): boolean {
  const { window, strides, dilation, channels, filters, axes } = sizes
  const [size, other] = window
  const isPlain = [...strides, ...dilation].every((step) => step === 1)
  if (!isPlain || size !== other || (size !== 3 && size !== 5)) return false
  if (channels % LANES !== 0 || filters % LANES !== 0) return false
  const [down, across] = axes
  const tiles = Math.ceil(down.out / 2) * Math.ceil(across.out / 2)
  const direct = size ** 2 * down.out * across.out
  return direct > tiles * ((size + 1) ** 2 + TRANSFORM[size] * (1 / channels + 1 / filters))
}

export function planWinograd(sizes: Sizes, ends: Ends, planner: Planner): Backward {
  const { channels, filters, input, axes, window } = sizes
  const { from, to, isRelu, toGradient, fromGradient, bias = '' } = ends
  const { batch } = planner
  const [down, across] = axes
  const output = [down.out, across.out]
  const kernel = planner.weight(ends.kernel)
  const reach = window[0] - 1
  const side = window[0] + 1
  const scratch = planner.scratch(scratchFloats(side, channels, filters))
  planner.forward(
    'winograd',
    ...[side, from, ...input, channels, down.before, across.before],
    ...[kernel, 0, planner.weight(bias), floorOf(isRelu)],
    ...[to, ...output, filters, batch, scratch],
  )
  return () => {
    const biasGradient = planner.weightGradient(bias)
    const { image, row } = images(toGradient, down.out, across.out, filters)
    if (isRelu || biasGradient)
      planner.backward(
        'maskRows',
        ...[toGradient, isRelu ? to : 0, toGradient, image, row],
        ...[biasGradient, scratch, filters, batch, ...output],
      )
    const kernelGradient = planner.weightGradient(ends.kernel)
    if (kernelGradient)
      planner.backward(
        'winogradFilterGradient',
        ...[side, from, ...input, channels, down.before, across.before],
        ...[toGradient, ...output, filters, batch, kernelGradient, scratch],
      )
    if (fromGradient)
      planner.backward(
        'winograd',
        ...[side, toGradient, ...output, filters, reach - down.before, reach - across.before],
        ...[kernel, 1, 0, floorOf(false)],
        ...[fromGradient, ...input, channels, batch],
        planner.scratch(scratchFloats(side, filters, channels)),
      )
  }
}

/** The most tiles that any of the three calls has at a time; of larger ones half as many. */
const TILES = 48
/** What keeps the matrices apart: panels, or sums, and the tiles on both their sides. */
const APART = 3 * 16
/** One tile of four channels on its way, and a patch of the input, or sixteen kernels. */
const LINES = 144
function scratchFloats(side: number, from: number, to: number): number {
  const wide = Math.ceil(to / 8) * 8
  const tiles = side === 4 ? TILES : TILES / 2
  const matrices = side ** 2 * (from * wide + tiles * (from + wide) + APART)
  return matrices + LINES + Math.max(side ** 2 * from, 16 * (side - 1) ** 2)
}
