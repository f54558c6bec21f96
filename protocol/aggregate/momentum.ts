import { forEachTensor } from '../params.ts'
import type { AggregatorOptions, AggregatorState, Momentum } from './aggregator.ts'

/** The state that every rule starts from. */
export function initState(params: Float32Array, options: AggregatorOptions): AggregatorState {
  const { tensors, momentum: mu } = options
  return { tensors, params, momentum: mu > 0 ? momentumOf(params, options) : undefined }
}

/** A round of training begins: the direction is that much older. */
export function startRound({ momentum }: AggregatorState): void {
  if (momentum) momentum.rounds += 1
}

/**
 * What the direction weighs in a step: mu, and a further mu less for each round that began after the last settled meeting
 * but the first. The mixed params' way is news for about a round; who trains alone would go on in it for ever.
 */
export function weightOf({ mu, rounds }: Momentum): number {
  return mu ** Math.max(1, rounds)
}

/** Counts one local step at learning rate `rate`; the trainer calls it after each. */
export function stepped(state: AggregatorState, rate: number): void {
  if (!state.momentum) return
  state.momentum.rateSum += rate
  state.momentum.steps += 1
}

/**
 * direction ← keep · direction + (1 − keep) · (anchor − params) / rateSum, after a meeting settled; then the anchor moves
 * here. keep = mu ** min(1, steps / stepsPerRound).
 * Without a step since the last settled meeting nothing changes, so the next one that follows steps counts the whole move.
 */
export function follow(state: AggregatorState): void {
  const { momentum, params } = state
  if (!momentum || momentum.rateSum === 0) return
  followInto(momentum, state)
  momentum.anchor.set(params)
  startAnew(momentum)
}

/** A newcomer's start: someone else's direction, with the anchor where it now stands. */
export function adoptMomentum(state: AggregatorState, direction: Float32Array): void {
  if (!state.momentum) return
  state.momentum.direction.set(direction)
  state.momentum.anchor.set(state.params)
  startAnew(state.momentum)
}

function startAnew(momentum: Momentum): void {
  momentum.rateSum = 0
  momentum.steps = 0
  momentum.rounds = 0
}

function momentumOf(params: Float32Array, options: AggregatorOptions): Momentum {
  const { momentum: mu, stepsPerRound = 1, floats = (length) => new Float32Array(length) } = options
  const direction = floats(params.length)
  const anchor = floats(params.length)
  anchor.set(params)
  return { mu, stepsPerRound, direction, anchor, rateSum: 0, steps: 0, rounds: 0 }
}

function followInto(momentum: Momentum, { tensors, params }: AggregatorState): void {
  const { mu, stepsPerRound, direction, anchor, rateSum, steps } = momentum
  const keep = mu ** Math.min(1, steps / stepsPerRound)
  const share = (1 - keep) / rateSum
  forEachTensor(tensors, (tensor, start, end) => {
    if (tensor.role !== 'trainable') return
    for (let i = start; i < end; i++) {
      direction[i] = keep * direction[i]! + share * (anchor[i]! - params[i]!)
    }
  })
}
