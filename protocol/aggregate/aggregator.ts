import type { Copy } from '../codec/codec.ts'
import type { TensorSpec } from '../params.ts'

/**
 * An aggregator: neighbours' copies → our params. A rule is a plain object of functions with its state passed in.
 *
 * How it meets: `swap` trades copies with one neighbour, and what one gains the other loses; `pull` reads the copies
 * of `from` neighbours and gives nothing. Copies have passed the codec's gate before they come here.
 */
export interface Aggregator {
  readonly name: RuleName
  readonly meets: 'swap' | 'pull'
  /** Keeps `params`: the live array, which training goes on changing between calls. */
  init(params: Float32Array, options: AggregatorOptions): AggregatorState
  /** The params to encode for a neighbour; borrowed, to be encoded before the next step. */
  give(state: AggregatorState): Float32Array
  /**
   * Moves the live params by what came. `sent` is the copy we gave (absent for `pull`).
   * Returns half the squared distance between the copies, averaged over those received: for a random
   * neighbour an unbiased estimate of consensus distance.
   */
  settle(state: AggregatorState, sent: Copy | undefined, received: readonly Copy[]): number
}

export type RuleName = 'swap' | 'mean'

export interface AggregatorOptions {
  tensors: readonly TensorSpec[]
  /** Quasi-global momentum's μ, 0 to turn it off (Adam and AdamW bring their own and mix only params). */
  momentum: number
  /** The recipe's H, in which direction fades by μ; at 1 (the default) each meeting fades it whole. */
  stepsPerRound?: number
  /** Makes the arrays that lie beside the params; ordinary ones when absent. */
  floats?: (length: number) => Float32Array
}

export interface AggregatorState {
  tensors: readonly TensorSpec[]
  /** Float32Array[d], live. */
  params: Float32Array
  momentum: Momentum | undefined
}

/**
 * Quasi-global momentum: the direction that the *mixed* params took, which every local step follows.
 * Source: Lin et al. 2021 (arXiv 2102.04761), with the learning rate times the step count replaced by the sum of
 * applied rates, so that a schedule may change the rate between meetings; and after a part of a round the direction fades
 * by that part of μ, so that a meeting soon after another does not count its few steps as a whole round; and while no
 * meeting settles its weight falls round by round.
 */
export interface Momentum {
  mu: number
  stepsPerRound: number
  /** Float32Array[d], zero for BatchNorm statistics: a step is x −= rate · (gradient + weight · direction). */
  direction: Float32Array
  /** Float32Array[d]: the params after the last settled meeting. */
  anchor: Float32Array
  /** Sum of the learning rates applied since then, and how many steps that were. */
  rateSum: number
  steps: number
  /** Rounds of training that began since then. */
  rounds: number
}
