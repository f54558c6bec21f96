import { describe, expect, test } from 'vitest'
import type { Aggregator, AggregatorState } from '../../../protocol/aggregate/aggregator.ts'
import {
  adoptMomentum,
  follow,
  initState,
  startRound,
  stepped,
  weightOf,
} from '../../../protocol/aggregate/momentum.ts'
import { aggregators } from '../../../protocol/aggregate/table.ts'
import { float32 } from '../../../protocol/codec/float32.ts'
import { d, paramsFrom, tensors } from '../../support/params.ts'

const MU = 0.9
const STATISTICS = [566, 576] as const

function stateFrom(seed: number, momentum = MU, stepsPerRound = 1): AggregatorState {
  return initState(paramsFrom(seed), { tensors, momentum, stepsPerRound })
}

/** One local step of the paper: x ← x − η (g + μ m̂). */
function step(state: AggregatorState, gradient: Float32Array, rate: number): void {
  const { params, momentum } = state
  for (let i = 0; i < d; i++) {
    params[i] = params[i]! - rate * (gradient[i]! + MU * (momentum?.direction[i] ?? 0))
  }
  stepped(state, rate)
}

test('follows the paper: m̂ ← μ m̂ + (1 − μ)(x_t − x_{t+1}) / η over three meetings, against float64', () => {
  const state = stateFrom(1)
  const oracle = new Float64Array(d)
  let anchor = Float64Array.from(state.params)
  for (let meeting = 1; meeting <= 3; meeting++) {
    const rates = [0.1, 0.05, 0.02]
    for (const [at, rate] of rates.entries()) step(state, paramsFrom(10 * meeting + at), rate)
    // The meeting moves params, too: what counts is where they end.
    const shift = paramsFrom(100 + meeting)
    for (let i = 0; i < d; i++) state.params[i] = state.params[i]! + 0.1 * shift[i]!
    follow(state)
    const applied = rates.reduce((sum, rate) => sum + rate, 0)
    for (let i = 0; i < d; i++) {
      oracle[i] = MU * oracle[i]! + ((1 - MU) * (anchor[i]! - state.params[i]!)) / applied
    }
    anchor = Float64Array.from(state.params)
    for (let i = 0; i < d; i++) {
      const isStatistic = i >= 556 && i < STATISTICS[1]
      const expected = isStatistic ? 0 : oracle[i]!
      expect(Math.abs(state.momentum!.direction[i]! - expected)).toBeLessThan(1e-4)
    }
  }
})

test('leaves BatchNorm statistics without a direction', () => {
  const state = stateFrom(2)
  step(state, paramsFrom(3), 0.1)
  follow(state)
  const { direction } = state.momentum!
  expect(direction.subarray(556, STATISTICS[1]).every((value) => value === 0)).toBe(true)
  expect(direction[0]).not.toBe(0)
  expect(direction[d - 1]).not.toBe(0)
})

describe('with no step since the last meeting', () => {
  test.each(Object.values(aggregators))(
    '$name leaves direction, anchor and count as they are',
    (rule) => {
      const state = stateFrom(4)
      step(state, paramsFrom(5), 0.1)
      meet(rule, state)
      const { direction, anchor } = structuredClone(state.momentum!)
      meet(rule, state)
      expect(state.momentum).toMatchObject({ direction, anchor, steps: 0, rateSum: 0 })
      expect(state.params).not.toEqual(anchor)
    },
  )

  test('the next meeting after a step counts the whole way from the anchor', () => {
    const state = stateFrom(6)
    meet(aggregators.swap, state)
    const before = state.momentum!.anchor.slice()
    step(state, paramsFrom(7), 0.5)
    meet(aggregators.swap, state)
    const expected = ((1 - MU) * (before[0]! - state.params[0]!)) / 0.5
    expect(state.momentum!.direction[0]).toBeCloseTo(expected, 5)
  })
})

test('a part of a round fades the direction by that part, and a round and more by one whole', () => {
  for (const [steps, fading] of [
    [1, 0.25],
    [3, 0.75],
    [4, 1],
    [9, 1],
  ] as const) {
    const state = stateFrom(18, MU, 4)
    const direction = paramsFrom(19)
    state.momentum!.direction.set(direction)
    for (let i = 0; i < steps; i++) step(state, paramsFrom(20 + i), 0.1)
    const before = state.momentum!.anchor[0]!
    meet(aggregators.swap, state)
    const keep = MU ** fading
    const expected =
      keep * direction[0]! + ((1 - keep) * (before - state.params[0]!)) / (0.1 * steps)
    expect(state.momentum!.direction[0]).toBeCloseTo(expected, 4)
  }
})

test('steps at rate zero neither count nor divide', () => {
  const state = stateFrom(8)
  step(state, paramsFrom(9), 0)
  meet(aggregators.swap, state)
  expect(state.momentum!.direction.every(Number.isFinite)).toBe(true)
})

test('a swap that is not settled leaves momentum running', () => {
  const state = stateFrom(10)
  step(state, paramsFrom(11), 0.1)
  aggregators.swap.give(state)
  step(state, paramsFrom(12), 0.1)
  expect(state.momentum).toMatchObject({ steps: 2, rateSum: 0.2 })
})

test('the direction weighs μ for a round, less in each one more, and μ again once a meeting settled', () => {
  const state = stateFrom(18)
  const { mu } = state.momentum!
  const weights = () => {
    startRound(state)
    step(state, paramsFrom(19), 0.1)
    return weightOf(state.momentum!)
  }
  expect([weights(), weights(), weights()]).toEqual([mu, mu ** 2, mu ** 3])
  meet(aggregators.swap, state)
  expect(weights()).toBe(mu)
})

test('adam brings its own: at μ = 0 there is no momentum to follow', () => {
  const state = stateFrom(13, 0)
  expect(state.momentum).toBeUndefined()
  stepped(state, 0.1)
  meet(aggregators.swap, state)
  expect(state.momentum).toBeUndefined()
})

test('a newcomer takes over the direction, and counts from where it stands', () => {
  const state = stateFrom(14)
  step(state, paramsFrom(15), 0.1)
  const direction = paramsFrom(16)
  state.params.set(paramsFrom(17))
  adoptMomentum(state, direction)
  expect(state.momentum).toMatchObject({ direction, anchor: paramsFrom(17), steps: 0, rateSum: 0 })
})

/** Settles with a copy of some other peer. */
function meet(rule: Aggregator, state: AggregatorState): void {
  const copyOf = (params: Float32Array) => ({
    codec: float32,
    bytes: float32.encode(params, tensors),
  })
  rule.settle(state, copyOf(rule.give(state)), [copyOf(paramsFrom(99))])
}
