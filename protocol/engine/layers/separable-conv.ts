import type { Node } from '../graph.ts'
import { activated } from './activation.ts'
import { planConvolution } from './conv.ts'
import {
  convolutionSettings,
  convolved,
  planActivated,
  readConvolution,
  type Sizes,
  sizesOf,
} from './convolution.ts'
import { convolvedByChannel, planDepthwise } from './depthwise.ts'
import type { LayerRule } from './rule.ts'
import {
  type ActivationName,
  absent,
  integer,
  MAX_ACTIVATION,
  MAX_UNITS,
  product,
  wrong,
  zeros,
} from './settings.ts'
import { type Places, slide } from './window.ts'

const refused = ['depthwise', 'pointwise'].flatMap((kernel) => [
  `${kernel}_regularizer`,
  `${kernel}_constraint`,
])
const unused = ['depthwise_initializer', 'pointwise_initializer']

/**
 * Each channel by kernels of its own, then a mix of channels at each place: DepthwiseConv2D and a Conv2D of 1 x 1 in one. Over
 * images depthwise_kernel is [down, across, channels, M] and pointwise_kernel [1, 1, channels · M, filters]; over steps, which
 * count as images of one row, [across, channels, M] and [1, channels · M, filters].
 */
export function separableConv(places: Places): LayerRule {
  return {
    settings: ['filters', 'depth_multiplier', ...unused, ...convolutionSettings, ...refused],

    read(config, inputs, where) {
      absent(config, where, refused)
      const { clean, channels, window, out, useBias } = readConvolution(
        config,
        inputs,
        places,
        where,
      )
      const filters = integer(config.filters, 1, MAX_UNITS, where('filters'))
      const times = integer(config.depth_multiplier ?? 1, 1, MAX_UNITS, where('depth_multiplier'))
      const between = product(out) * channels * times
      if (between > MAX_ACTIVATION) {
        const came = `${times}, which makes ${between} values between its two kernels`
        throw wrong(where('depth_multiplier'), came, `at most ${MAX_ACTIVATION}`)
      }
      const trainable = { role: 'trainable' as const }
      return {
        config: {
          ...{ ...clean, filters, depth_multiplier: times },
          ...{ depthwise_initializer: zeros, pointwise_initializer: zeros },
        },
        outputShape: [...out, filters],
        weights: [
          { name: 'depthwise_kernel', shape: [...window, channels, times], ...trainable },
          {
            name: 'pointwise_kernel',
            shape: [...once(places), channels * times, filters],
            ...trainable,
          },
          ...(useBias ? [{ name: 'bias', shape: [filters], ...trainable }] : []),
        ],
      }
    },

    plan(node, planner) {
      const { depthwise, pointwise } = partsOf(node)
      const between = planner.batch * pointwise.channels * pointwise.input[0] * pointwise.input[1]
      planActivated(node, planner, (ends) => {
        const middle = planner.keep(between)
        const isWanted = planner.weightGradient('depthwise_kernel') || ends.fromGradient
        const gradient = isWanted ? planner.keep(between) : 0
        const first = planDepthwise(
          depthwise,
          { ...ends, to: middle, isRelu: false, kernel: 'depthwise_kernel', toGradient: gradient },
          planner,
        )
        const second = planConvolution(
          pointwise,
          ...[
            {
              ...ends,
              from: middle,
              kernel: 'pointwise_kernel',
              bias: 'bias',
              fromGradient: gradient,
            },
          ],
          planner,
        )
        return () => {
          second()
          if (gradient) first()
        }
      })
    },

    reference(node, [x], { tape, weight }) {
      const { depthwise, pointwise } = partsOf(node)
      const batch = x!.shape[0]!
      const between = convolvedByChannel(depthwise, x!, {
        tape,
        kernel: weight('depthwise_kernel')!,
      })
      const middle = { shape: [batch, ...pointwise.input, pointwise.channels], at: between }
      const weights = { tape, kernel: weight('pointwise_kernel')!, bias: weight('bias') }
      const values = {
        shape: [batch, ...node.outputShape],
        at: convolved(pointwise, middle, weights),
      }
      return activated(tape, values, node.config.activation as ActivationName)
    },
  }
}

const once = (places: Places): number[] => Array.from({ length: places }, () => 1)

function partsOf(node: Node): { depthwise: Sizes; pointwise: Sizes } {
  const sizes = sizesOf(node)
  const [down, across] = sizes.axes
  const wide = sizes.channels * (node.config.depth_multiplier as number)
  const still = (length: number) => slide(length, 1, 1, 1, 'valid', '')
  const unit = [1, 1] as const
  return {
    depthwise: { ...sizes, filters: wide },
    pointwise: {
      ...{ channels: wide, filters: sizes.filters, input: [down.out, across.out] },
      ...{
        window: unit,
        strides: unit,
        dilation: unit,
        axes: [still(down.out), still(across.out)],
      },
    },
  }
}
