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
  dropout: fc.constantFrom(0, 0, 0.3),
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
        ...([cells, fc.constantFrom('concat', 'sum', 'ave', 'mul'), batches] as const),
        ...([steps, widths, units, fc.boolean(), fc.constantFrom(0, 0.4)] as const),
        fc.nat(9999),
        ({ layer: class_name, ...cell }, merge_mode, ...rest) => {
          const [batch, length, width, count, every, dropout, seed] = rest
          const own = { name: 'inner', units: count, return_sequences: every, dropout }
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

  test('drop nothing of their input where they do not train, or are frozen', async () => {
    for (const layer of ['LSTM', 'GRU']) {
      const config = { units: 5, dropout: 0.5 }
      const graph = graphOf([4, 3], [{ layer, config }])
      await expectAgreement(graph, { batch: 3, training: false })
      const frozen = graphOf([4, 3], [{ layer, config, frozen: true }])
      await expectAgreement(frozen, { batch: 3 })
    }
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
