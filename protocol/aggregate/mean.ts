import { invariant } from '../errors.ts'
import type { Aggregator } from './aggregator.ts'
import { pullTowardsInto } from './mix.ts'
import { follow, initState } from './momentum.ts'

/**
 * Mean: pull the copies of k random neighbours and move to the equal-share average of them and us.
 *
 *   params     Float32Array[d], live
 *   received   k >= 1 copies; each gets the mixing weight 1 / (k + 1), as do we
 *
 * Copies are taken in one at a time: after the j-th, params hold the average of us and the first j.
 * Source: McMahan et al. 2017, federated averaging with equal shares; De Vos et al. 2023, epidemic learning (pull).
 */
export const mean: Aggregator = {
  name: 'mean',
  meets: 'pull',
  init: initState,
  give: (state) => state.params,

  settle(state, _sent, received) {
    invariant(received.length > 0, 'mean settles at least one received copy')
    let squared = 0
    received.forEach((copy, taken) => {
      squared += pullTowardsInto(state.params, 1 / (taken + 2), copy, state.tensors)
    })
    follow(state)
    return squared / 2 / received.length
  },
}
