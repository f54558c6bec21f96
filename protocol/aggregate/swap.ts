import { invariant } from '../errors.ts'
import type { Aggregator } from './aggregator.ts'
import { addDifferenceInto } from './mix.ts'
import { follow, initState } from './momentum.ts'

/**
 * Swap: two peers meet and both move to their middle; what one gains the other loses.
 *
 *   params   Float32Array[d]  d = number of params in the manifest; live: training goes on during a swap
 *   sent     the copy we gave; received: the copies we got (one, for a swap)
 *
 * settle() adds half the difference of the two *sent* copies, so quantisation, late training and a late
 * commit change no sum: additions commute.
 * Source: Boyd et al. 2006, randomized gossip; Lian et al. 2018, AD-PSGD; Lin et al. 2021, quasi-global momentum.
 */
export const swap: Aggregator = {
  name: 'swap',
  meets: 'swap',
  init: initState,
  give: (state) => state.params,

  settle(state, sent, received) {
    const [theirs] = received
    invariant(
      sent && theirs && received.length === 1,
      'a swap settles one sent with one received copy',
    )
    const squared = addDifferenceInto(state.params, 0.5, theirs, sent, state.tensors)
    follow(state)
    return squared / 2
  },
}
