import type { LayerRule } from './rule.ts'
import { only, product, wrong } from './settings.ts'

/** All axes after the batch as one. */
export const flatten: LayerRule = {
  settings: ['data_format'],

  read(config, inputs, where) {
    const format = config.data_format ?? 'channels_last'
    if (format !== 'channels_last') throw wrong(where('data_format'), format, 'channels_last')
    return { config: {}, outputShape: [product(only(inputs))], weights: [] }
  },

  plan: (_, planner) => planner.view(),
  reference: ({ outputShape }, [x]) => ({ shape: [x!.shape[0]!, ...outputShape], at: x!.at }),
}
