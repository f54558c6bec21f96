import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AggregatorState } from '../../../protocol/aggregate/aggregator.ts'
import { swap } from '../../../protocol/aggregate/swap.ts'
import type { Codec, Copy } from '../../../protocol/codec/codec.ts'
import { codecs } from '../../../protocol/codec/table.ts'
import { d, decodeAll, paramsFrom, squaredDistance, tensors } from '../../support/params.ts'

const VARIANCE = [566, 576] as const
/** Params are about 1: a few roundings to float32. */
const ROUNDING = 2e-6

function stateFrom(seed: number): AggregatorState {
  return swap.init(paramsFrom(seed), { tensors, momentum: 0 })
}

function copyOf(state: AggregatorState, codec: Codec): Copy {
  return { codec, bytes: codec.encode(swap.give(state), tensors) }
}

/** Training goes on during a swap. */
function train(state: AggregatorState, seed: number): void {
  const steps = paramsFrom(seed, 0.01)
  for (let i = 0; i < d; i++) if (i < VARIANCE[0]) state.params[i] = state.params[i]! + steps[i]!
}

function sumOf(...states: AggregatorState[]): Float64Array {
  const sum = new Float64Array(d)
  for (const { params } of states) for (let i = 0; i < d; i++) sum[i]! += params[i]!
  return sum
}

function expectClose(got: ArrayLike<number>, expected: ArrayLike<number>, within = ROUNDING): void {
  for (let i = 0; i < d; i++) expect(Math.abs(got[i]! - expected[i]!)).toBeLessThan(within)
}

describe.each(Object.values(codecs))('with $name', (codec) => {
  test('each side adds half the difference of the two sent copies, against float64', () => {
    const [ours, theirs] = [stateFrom(1), stateFrom(2)]
    const [sent, received] = [copyOf(ours, codec), copyOf(theirs, codec)]
    const given = decodeAll(codec, sent.bytes)
    const got = decodeAll(codec, received.bytes)
    const oracle = Float64Array.from(ours.params, (value, i) => value + (got[i]! - given[i]!) / 2)
    const distance = swap.settle(ours, sent, [received])
    expectClose(ours.params, oracle)
    expect(distance).toBeCloseTo(squaredDistance(got, given) / 2, 6)
  })

  test('what one gains the other loses, whatever is trained meanwhile and whenever each settles', () => {
    const seeds = fc.record({ a: fc.nat(1e6), b: fc.nat(1e6), between: fc.nat(1e6) })
    const holds = fc.property(seeds, ({ a, b, between }) => {
      const [low, high] = [stateFrom(a), stateFrom(b)]
      const [first, second] = [copyOf(low, codec), copyOf(high, codec)]
      train(low, between)
      train(high, between + 1)
      const before = sumOf(low, high)
      swap.settle(low, first, [second])
      // The accepter trains on before it hears COMMIT.
      const half = sumOf(low, high)
      train(high, between + 2)
      const trained = sumOf(low, high).map((value, i) => value - half[i]!)
      swap.settle(high, second, [first])
      const expected = before.map((value, i) => value + trained[i]!)
      // Variances may be lifted to zero, so they are looked at on their own.
      for (let i = 0; i < VARIANCE[0]; i++) {
        expect(Math.abs(sumOf(low, high)[i]! - expected[i]!)).toBeLessThan(4 * ROUNDING)
      }
    })
    fc.assert(holds, { seed: 4, numRuns: 25 })
  })

  test('two peers that stand still meet in their middle', () => {
    const [low, high] = [stateFrom(3), stateFrom(4)]
    const middle = sumOf(low, high).map((value) => value / 2)
    const [first, second] = [copyOf(low, codec), copyOf(high, codec)]
    swap.settle(low, first, [second])
    swap.settle(high, second, [first])
    const within = codec.name === 'int8' ? 0.02 : ROUNDING
    expectClose(low.params, middle, within)
    expectClose(high.params, middle, within)
  })

  test('variances stay at or above zero, whatever came', () => {
    const state = stateFrom(5)
    const sent = copyOf(state, codec)
    const hostile = { codec, bytes: codec.encode(new Float32Array(d).fill(-1000), tensors) }
    swap.settle(state, sent, [hostile])
    expect(state.params.subarray(...VARIANCE).every((value) => value === 0)).toBe(true)
    expect(state.params[0]).toBeLessThan(-400)
  })
})

test('a swap of an int8 with a float32 copy changes no sum either', () => {
  const [low, high] = [stateFrom(6), stateFrom(7)]
  const before = sumOf(low, high)
  const [first, second] = [copyOf(low, codecs.int8), copyOf(high, codecs.float32)]
  swap.settle(low, first, [second])
  swap.settle(high, second, [first])
  for (let i = 0; i < VARIANCE[0]; i++) {
    expect(Math.abs(sumOf(low, high)[i]! - before[i]!)).toBeLessThan(4 * ROUNDING)
  }
})

test('settling writes to the live array, and copies stay as they are', () => {
  const state = stateFrom(8)
  const { params } = state
  const [sent, received] = [copyOf(state, codecs.int8), copyOf(stateFrom(9), codecs.int8)]
  const bytes = [sent.bytes.slice(), received.bytes.slice()]
  swap.settle(state, sent, [received])
  expect(state.params).toBe(params)
  expect([sent.bytes, received.bytes]).toEqual(bytes)
})

test('a swap without its sent copy, or with two received, is our own mistake', () => {
  const state = stateFrom(10)
  const copy = copyOf(state, codecs.int8)
  expect(() => swap.settle(state, undefined, [copy])).toThrow('invariant')
  expect(() => swap.settle(state, copy, [copy, copy])).toThrow('invariant')
  expect(() => swap.settle(state, copy, [])).toThrow('invariant')
})
