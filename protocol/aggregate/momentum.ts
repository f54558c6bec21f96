import { forEachTensor } from '../params.ts'
import type { AggregatorOptions, AggregatorState, Momentum } from './aggregator.ts'

/** The state that every rule starts from. */
export function initState(params: Float32Array, options: AggregatorOptions): AggregatorState {
  const { tensors, momentum: mu } = options
  return { tensors, params, momentum: mu > 0 ? momentumOf(params, mu) : undefined }
}

/** Counts one local step at learning rate `rate`; the trainer calls it after each. */
export function stepped(state: AggregatorState, rate: number): void {
  if (!state.momentum) return
  state.momentum.rateSum += rate
  state.momentum.steps += 1
}

/**
 * direction ← mu · direction + (1 − mu) · (anchor − params) / rateSum, after a meeting settled; then the anchor moves here.
 * Without a step since the last settled meeting nothing changes, so the next one that follows steps counts the whole move.
 */
export function follow(state: AggregatorState): void {
  const { momentum, params } = state
  if (!momentum || momentum.rateSum === 0) return
  followInto(momentum, state)
  momentum.anchor.set(params)
  momentum.rateSum = 0
  momentum.steps = 0
}

/** A newcomer's start: someone else's direction, with the anchor where it now stands. */
export function adoptMomentum(state: AggregatorState, direction: Float32Array): void {
  if (!state.momentum) return
  state.momentum.direction.set(direction)
  state.momentum.anchor.set(state.params)
  state.momentum.rateSum = 0
  state.momentum.steps = 0
}

function momentumOf(params: Float32Array, mu: number): Momentum {
  const direction = new Float32Array(params.length)
  return { mu, direction, anchor: params.slice(), rateSum: 0, steps: 0 }
}

function followInto(momentum: Momentum, { tensors, params }: AggregatorState): void {
  const { mu, direction, anchor, rateSum } = momentum
  const share = (1 - mu) / rateSum
  forEachTensor(tensors, (tensor, start, end) => {
    if (tensor.role !== 'trainable') return
    for (let i = start; i < end; i++) {
      direction[i] = mu * direction[i]! + share * (anchor[i]! - params[i]!)
    }
  })
}
