import fc from 'fast-check'
import { describe, test } from 'vitest'
import { expectAgreement, graphOf } from '../../support/engine.ts'

/** Softmax does not see what is added to all scores, so the gradient of a bias of the keys is 0: MultiHeadAttention's, or a Dense's. */
const vanishes = /key\/bias/
const few = (most: number) => fc.integer({ min: 1, max: most })

describe('MultiHeadAttention', () => {
  test('agrees where query, value and key are one', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([
          few(33),
          few(10),
          few(9),
          few(3),
          few(9),
          few(9),
          fc.boolean(),
          fc.nat(9999),
        ] as const),
        (batch, length, width, num_heads, key_dim, value_dim, use_bias, seed) => {
          const config = { num_heads, key_dim, value_dim, use_bias }
          const layer = { layer: 'MultiHeadAttention', config, inputs: [0, 0] }
          return expectAgreement(graphOf([length, width], [layer]), { batch, seed, vanishes })
        },
      ),
      { numRuns: 25, seed: 1 },
    )
  })

  test('agrees where query, value and key differ in length and width', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([few(33), few(6), few(7), few(9), fc.nat(9999)] as const),
        (batch, length, width, other, seed) => {
          const graph = graphOf(
            [length, width],
            [
              { layer: 'Permute', config: { dims: [2, 1] } },
              { layer: 'Dense', config: { units: other } },
              { layer: 'Dense', config: { units: 3 }, inputs: [1] },
              {
                layer: 'MultiHeadAttention',
                config: { num_heads: 2, key_dim: 3 },
                inputs: [0, 2, 3],
              },
            ],
          )
          return expectAgreement(graph, { batch, seed, vanishes: /key\/bias|layer3\/bias/ })
        },
      ),
      { numRuns: 12, seed: 1 },
    )
  })

  test('agrees in a block of a transformer', async () => {
    const block = graphOf(
      [5],
      [
        { layer: 'Embedding', config: { input_dim: 11, output_dim: 8 } },
        { layer: 'PositionEmbedding', config: { sequence_length: 6 } },
        { layer: 'Add', inputs: [1, 2] },
        { layer: 'LayerNormalization' },
        {
          layer: 'MultiHeadAttention',
          config: { num_heads: 2, key_dim: 4 },
          inputs: [4, 4],
        },
        { layer: 'Add', inputs: [3, 5] },
        { layer: 'LayerNormalization' },
        { layer: 'Dense', config: { units: 12, activation: 'gelu' } },
        { layer: 'Dense', config: { units: 8 } },
        { layer: 'Add', inputs: [6, 9] },
        { layer: 'Flatten' },
        { layer: 'Dense', config: { units: 3 } },
      ],
    )
    const input = (random: () => number) => Math.floor(11 * random())
    await expectAgreement(block, { batch: 3, input, vanishes })
  })
})
