import type { Planner } from '../planner.ts'
import { activated } from './activation.ts'
import {
  type Backward,
  convolutionSettings,
  convolved,
  type Ends,
  planActivated,
  readConvolution,
  type Sizes,
  sizesOf,
} from './convolution.ts'
import { planDirect } from './direct.ts'
import type { LayerRule } from './rule.ts'
import { type ActivationName, absent, integer, MAX_UNITS, zeros } from './settings.ts'
import type { Places } from './window.ts'
import { planWinograd, suitsWinograd } from './winograd.ts'

const refused = ['kernel_regularizer', 'kernel_constraint']

/**
 * y = activation(x ∗ kernel + bias) over images [height, width, channels], kernel [down, across, channels, filters]; or over
 * steps [steps, channels], kernel [across, channels, filters], which count as images of one row.
 */
export function conv(places: Places): LayerRule {
  return {
    settings: ['filters', ...convolutionSettings, ...refused],

    read(config, inputs, where) {
      absent(config, where, refused)
      const { clean, channels, window, out, useBias } = readConvolution(
        config,
        inputs,
        places,
        where,
      )
      const filters = integer(config.filters, 1, MAX_UNITS, where('filters'))
      return {
        config: { ...clean, filters, kernel_initializer: zeros },
        outputShape: [...out, filters],
        weights: [
          { name: 'kernel', shape: [...window, channels, filters], role: 'trainable' },
          ...(useBias ? [{ name: 'bias', shape: [filters], role: 'trainable' as const }] : []),
        ],
      }
    },

    plan(node, planner) {
      const sizes = sizesOf(node)
      planActivated(node, planner, (ends) =>
        planConvolution(sizes, { ...ends, kernel: 'kernel', bias: 'bias' }, planner),
      )
    },

    reference(node, [x], { tape, weight }) {
      const weights = { tape, kernel: weight('kernel')!, bias: weight('bias') }
      const shape = [x!.shape[0]!, ...node.outputShape]
      const values = { shape, at: convolved(sizesOf(node), x!, weights) }
      return activated(tape, values, node.config.activation as ActivationName)
    },
  }
}

/** By the kernels that take less. */
export function planConvolution(sizes: Sizes, ends: Ends, planner: Planner): Backward {
  return (suitsWinograd(sizes) ? planWinograd : planDirect)(sizes, ends, planner)
}
