import type { LayerRule } from './rule.ts'
import { only, wrong } from './settings.ts'

/** The batch as it comes. */
export const inputLayer: LayerRule = {
  settings: ['sparse'],

  read(config, inputs, where) {
    const { sparse = false } = config
    if (sparse !== false) throw wrong(where('sparse'), sparse, 'false')
    return { config: {}, outputShape: [...only(inputs)], weights: [] }
  },

  plan: (_, planner) => planner.view(),
  reference: (_, [x]) => x!,
}
