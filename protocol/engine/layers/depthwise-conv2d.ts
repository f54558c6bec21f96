import { activated } from './activation.ts'
import { convolutionSettings, planActivated, readConvolution, sizesOf } from './convolution.ts'
import { convolvedByChannel, planDepthwise } from './depthwise.ts'
import type { LayerRule } from './rule.ts'
import { type ActivationName, absent, integer, MAX_UNITS, zeros } from './settings.ts'

const refused = ['depthwise_regularizer', 'depthwise_constraint']

/** y[..., c · M + m] = activation(x[..., c] ∗ kernel[..., c, m] + bias); depthwise_kernel [down, across, channels, M]. */
export const depthwiseConv2d: LayerRule = {
  settings: ['depth_multiplier', 'depthwise_initializer', ...convolutionSettings, ...refused],

  read(config, inputs, where) {
    absent(config, where, refused)
    const { clean, channels, window, out, useBias } = readConvolution(config, inputs, 2, where)
    const times = integer(config.depth_multiplier ?? 1, 1, MAX_UNITS, where('depth_multiplier'))
    const filters = channels * times
    return {
      config: { ...clean, depth_multiplier: times, depthwise_initializer: zeros },
      outputShape: [...out, filters],
      weights: [
        { name: 'depthwise_kernel', shape: [...window, channels, times], role: 'trainable' },
        ...(useBias ? [{ name: 'bias', shape: [filters], role: 'trainable' as const }] : []),
      ],
    }
  },

  plan(node, planner) {
    const sizes = sizesOf(node)
    planActivated(node, planner, (ends) =>
      planDepthwise(sizes, { ...ends, kernel: 'depthwise_kernel', bias: 'bias' }, planner),
    )
  },

  reference(node, [x], { tape, weight }) {
    const weights = { tape, kernel: weight('depthwise_kernel')!, bias: weight('bias') }
    const shape = [x!.shape[0]!, ...node.outputShape]
    const values = { shape, at: convolvedByChannel(sizesOf(node), x!, weights) }
    return activated(tape, values, node.config.activation as ActivationName)
  },
}
