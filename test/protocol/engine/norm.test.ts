import fc from 'fast-check'
import { describe, test } from 'vitest'
import { expectAgreement, graphOf } from '../../support/engine.ts'

const batches = fc.integer({ min: 2, max: 33 })
const channels = fc.integer({ min: 1, max: 21 })
const steps = fc.integer({ min: 1, max: 9 })
const seeds = fc.nat(9999)
const flags = fc.boolean()

describe('BatchNormalization', () => {
  const graph = (shape: number[], center: boolean, scale: boolean) =>
    graphOf(shape, [{ layer: 'BatchNormalization', config: { center, scale } }])

  test('agrees in training, gradients through its statistics included', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([batches, steps, channels, flags, flags, seeds] as const),
        (batch, length, width, center, scale, seed) =>
          expectAgreement(graph([length, width], center, scale), { batch, seed }),
      ),
      { numRuns: 25, seed: 1 },
    )
  })

  test('agrees beyond one chunk of rows, far from zero', async () => {
    const layers = [{ layer: 'BatchNormalization' }]
    await expectAgreement(graphOf([13, 7, 5], layers), {
      batch: 17,
      input: (random) => 30 + random(),
    })
  })

  test('agrees without training, by its moving statistics', async () => {
    for (const width of [1, 4, 7, 16])
      await expectAgreement(graph([3, width], true, true), { batch: 5, training: false })
  })
})

test('LayerNormalization agrees at any width, with and without gamma and beta', async () => {
  await fc.assert(
    fc.asyncProperty(
      ...([fc.integer({ min: 1, max: 33 }), steps, fc.integer({ min: 2, max: 37 })] as const),
      ...([flags, flags, seeds] as const),
      (batch, length, width, center, scale, seed) =>
        expectAgreement(
          graphOf([length, width], [{ layer: 'LayerNormalization', config: { center, scale } }]),
          { batch, seed },
        ),
    ),
    { numRuns: 30, seed: 1 },
  )
})
