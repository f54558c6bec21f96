import fc from 'fast-check'
import { describe, test } from 'vitest'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { expectAgreement, graphOf } from '../../support/engine.ts'

const batches = fc.integer({ min: 1, max: 33 })
const steps = fc.integer({ min: 1, max: 6 })
const widths = fc.integer({ min: 1, max: 9 })
const units = fc.integer({ min: 1, max: 11 })
const cells = fc.constantFrom(
  { layer: 'LSTM' },
  { layer: 'GRU' },
  { layer: 'GRU', reset_after: true },
)
const settings = fc.record({
  use_bias: fc.boolean(),
  return_sequences: fc.boolean(),
  go_backwards: fc.boolean(),
  activation: fc.constantFrom('tanh', 'tanh', 'relu', 'sigmoid', 'linear'),
  recurrent_activation: fc.constantFrom('sigmoid', 'hard_sigmoid'),
})

describe('recurrent layers', () => {
  test('agree at any size, in either order of time', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([cells, batches, steps, widths, units, settings, fc.nat(9999)] as const),
        ({ layer, ...cell }, batch, length, width, count, config, seed) =>
          expectAgreement(
            graphOf([length, width], [{ layer, config: { ...config, ...cell, units: count } }]),
            {
              ...{ batch, seed },
            },
          ),
      ),
      { numRuns: 60, seed: 1 },
    )
  })

  test('agree in both directions, however these are merged', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([
          cells,
          fc.constantFrom('concat', 'sum', 'ave', 'mul'),
          fc.integer({ min: 1, max: 9 }),
        ] as const),
        ...([steps, widths, units, fc.boolean(), fc.nat(9999)] as const),
        ({ layer: class_name, ...cell }, merge_mode, batch, length, width, count, every, seed) => {
          const own = { name: 'inner', units: count, return_sequences: every }
          const inner: Config = { ...own, ...cell }
          const layer = { class_name, config: inner }
          const config = { merge_mode, layer }
          return expectAgreement(graphOf([length, width], [{ layer: 'Bidirectional', config }]), {
            ...{ batch, seed },
          })
        },
      ),
      { numRuns: 36, seed: 1 },
    )
  })

  test('agree one upon another', async () => {
    const stack = [
      { layer: 'GRU', config: { units: 8, return_sequences: true } },
      { layer: 'LSTM', config: { units: 5 } },
      { layer: 'Dense', config: { units: 3 } },
    ]
    await expectAgreement(graphOf([5, 4], stack), { batch: 4 })
  })
})
