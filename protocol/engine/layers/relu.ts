import { activated, activationLayer } from './activation.ts'
import type { Config, LayerRule } from './rule.ts'
import { type ActivationName, finite, only, quoted, wrong } from './settings.ts'

/** The activation relu, or relu6, as a layer with a name of its own: networks of Keras' applications have it. */
export const relu: LayerRule = {
  settings: ['max_value', 'negative_slope', 'threshold'],

  read(config, inputs, where) {
    for (const key of ['negative_slope', 'threshold']) finite(config[key] ?? 0, 0, 0, where(key))
    const most = config.max_value ?? null
    if (most !== null && most !== 6) throw wrong(where('max_value'), quoted(most), 'none, or 6')
    return {
      config: most === null ? {} : { max_value: most },
      outputShape: [...only(inputs)],
      weights: [],
    }
  },

  plan: (node, planner) =>
    activationLayer.plan!({ ...node, config: { activation: nameOf(node.config) } }, planner),
  reference: ({ config }, [x], { tape }) => activated(tape, x!, nameOf(config)),
}

export function nameOf({ max_value }: Config): ActivationName {
  return max_value === undefined ? 'relu' : 'relu6'
}
