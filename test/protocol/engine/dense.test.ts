import fc from 'fast-check'
import { describe, test } from 'vitest'
import { activations } from '../../../protocol/engine/layers/settings.ts'
import { expectAgreement, graphOf } from '../../support/engine.ts'

const sizes = fc.integer({ min: 1, max: 40 })
const batches = fc.integer({ min: 1, max: 33 })

describe('dense layers', () => {
  test('agree with the Float64 tape at any size', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([batches, sizes, sizes, fc.boolean(), fc.nat(9999)] as const),
        (batch, inputs, units, use_bias, seed) =>
          expectAgreement(graphOf([inputs], [{ layer: 'Dense', config: { units, use_bias } }]), {
            ...{ batch, seed },
          }),
      ),
      { numRuns: 40, seed: 1 },
    )
  })

  test('agree beyond one block of depth, of columns and of rows', async () => {
    for (const [batch, shape, units] of [
      [2, [515], 13],
      [3, [7], 530],
      [1, [791], 9],
      [33, [13, 40], 12],
    ] as const)
      await expectAgreement(graphOf(shape, [{ layer: 'Dense', config: { units } }]), { batch })
  })

  test('agree at every number of rows that tiles of six and of four leave over', async () => {
    const layer = { layer: 'Dense', config: { units: 41, activation: 'relu' } }
    for (const batch of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 23, 60, 61, 67])
      await expectAgreement(graphOf([batch + 2], [layer]), { batch })
    await expectAgreement(graphOf([400], [layer]), { batch: 13 })
  })

  test('take every activation, fused or not, over further axes', async () => {
    for (const activation of activations) {
      const layer = { layer: 'Dense', config: { units: 5, activation } }
      await expectAgreement(graphOf([3, 7], [layer, layer]), { batch: 3 })
    }
  })
})

test('every activation agrees as a layer of its own', async () => {
  await fc.assert(
    fc.asyncProperty(
      ...([fc.constantFrom(...activations), batches, sizes, fc.nat(9999)] as const),
      (activation, batch, channels, seed) =>
        expectAgreement(graphOf([channels], [{ layer: 'Activation', config: { activation } }]), {
          batch,
          seed,
          input: (random) => 12 * random() - 6,
        }),
    ),
    { numRuns: 60, seed: 1 },
  )
})

describe('views and dropout', () => {
  const chain = graphOf(
    [4, 6],
    [
      { layer: 'Reshape', config: { target_shape: [8, 3] } },
      { layer: 'Dense', config: { units: 5, activation: 'relu' } },
      { layer: 'Flatten' },
      { layer: 'Dropout', config: { rate: 0.4 } },
      { layer: 'Dense', config: { units: 3 } },
    ],
  )

  test('agree in training, with the same values dropped', async () => {
    for (const seed of [1, 2, 3]) await expectAgreement(chain, { batch: 4, seed })
  })

  test('agree without training', async () => {
    await expectAgreement(chain, { batch: 4, training: false })
  })
})
