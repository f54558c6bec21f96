import { invariant } from '../errors.ts'
import type { Aggregator } from './aggregator.ts'
import { averageInto } from './mix.ts'
import { follow, initState } from './momentum.ts'

/**
 * Mean: pull the copies of k random neighbours and move to the equal-share average of them and us.
 *
 *   params     Float32Array[d], live
 *   received   k >= 1 copies; each gets the mixing weight 1 / (k + 1), as do we
 *
 * Source: McMahan et al. 2017, federated averaging with equal shares; De Vos et al. 2023, epidemic learning (pull).
 */
export const mean: Aggregator = {
  name: 'mean',
  meets: 'pull',
  init: initState,
  give: (state) => state.params,

  settle(state, _sent, received) {
    invariant(received.length > 0, 'mean settles at least one received copy')
    const squared = averageInto(state.params, received, state.tensors)
    follow(state)
    return squared / 2 / received.length
  },
}
