import type { Planner } from '../planner.ts'
import { type Backward, type Ends, floorOf, images, type Sizes } from './convolution.ts'

/**
 * 3×3 convolutions of stride 1 with 16 multiplications where the direct ones take 36 (kernels/winograd.ts), forward and both
 * gradients. No border is needed: the input gradient is a convolution of the output gradient by the turned kernel, too.
 */

/** Channels go by fours through the kernel. */
const LANES = 4
/** What transforming a tile takes beside its products, in multiply-adds: so many for each channel, by measurement. */
const TRANSFORM = 58

/** Whether it takes less than the direct kernels: tiles that stick out, and few channels to share a tile, eat up the gain. */
export function suitsWinograd(sizes: Sizes): boolean {
  const { window, strides, dilation, channels, filters, axes } = sizes
  const isPlain = [...strides, ...dilation].every((step) => step === 1)
  if (!isPlain || window.some((side) => side !== 3)) return false
  if (channels % LANES !== 0 || filters % LANES !== 0) return false
  const [down, across] = axes
  const tiles = Math.ceil(down.out / 2) * Math.ceil(across.out / 2)
  const direct = 9 * down.out * across.out
  return direct > tiles * (16 + TRANSFORM * (1 / channels + 1 / filters))
}

export function planWinograd(sizes: Sizes, ends: Ends, planner: Planner): Backward {
  const { channels, filters, input, axes } = sizes
  const { from, to, isRelu, toGradient, fromGradient, bias = '' } = ends
  const { batch } = planner
  const [down, across] = axes
  const output = [down.out, across.out]
  const kernel = planner.weight(ends.kernel)
  const scratch = planner.scratch(scratchFloats(channels, filters))
  planner.forward(
    'winograd',
    ...[from, ...input, channels, down.before, across.before],
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
        ...[biasGradient, filters, batch, ...output],
      )
    const kernelGradient = planner.weightGradient(ends.kernel)
    if (kernelGradient)
      planner.backward(
        'winogradFilterGradient',
        ...[from, ...input, channels, down.before, across.before],
        ...[toGradient, ...output, filters, batch, kernelGradient, scratch],
      )
    if (fromGradient)
      planner.backward(
        'winograd',
        ...[toGradient, ...output, filters, 2 - down.before, 2 - across.before],
        ...[kernel, 1, 0, floorOf(false)],
        ...[fromGradient, ...input, channels, batch],
        planner.scratch(scratchFloats(filters, channels)),
      )
  }
}

/** The most tiles that any of the three calls has at a time, and a patch of the input. */
const TILES = 49
/** What keeps the 16 apart. */
const APART = 3 * 16
/** Floats for the 16 matrices and the tiles on both their sides. */
function scratchFloats(from: number, to: number): number {
  const wide = Math.ceil(to / 8) * 8
  return 16 * (from * wide + TILES * (from + wide) + APART)
}
