import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compile } from '../../../protocol/engine/plan.ts'
import { expectAgreement, graphOf } from '../../support/engine.ts'

const denseLayer = { layer: 'Dense', config: { units: 3 } }
const batches = fc.integer({ min: 1, max: 33 })
const one = fc.integer({ min: 1, max: 4 })
const modes = fc.constantFrom('valid', 'same')

/** Images of at most 9 pixels a side: the tape walks each product. */
const image = fc.tuple(
  fc.integer({ min: 1, max: 9 }),
  fc.integer({ min: 1, max: 9 }),
  fc.integer({ min: 1, max: 5 }),
)

describe('Conv2D', () => {
  test('agrees with the Float64 tape at any size, stride and padding', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([
          image,
          fc.integer({ min: 1, max: 11 }),
          one,
          one,
          one,
          one,
          modes,
          fc.integer({ min: 1, max: 5 }),
          fc.nat(9999),
        ] as const),
        async (shape, filters, down, across, strideY, strideX, padding, batch, seed) => {
          fc.pre(padding === 'same' || (down <= shape[0] && across <= shape[1]))
          const config = {
            filters,
            kernel_size: [down, across],
            strides: [strideY, strideX],
            padding,
          }
          const layer = { layer: 'Conv2D', config }
          await expectAgreement(
            graphOf(shape, [{ layer: 'Activation', config: { activation: 'tanh' } }, layer]),
            { batch, seed },
          )
        },
      ),
      { numRuns: 40, seed: 1 },
    )
  })

  test('agrees with dilated kernels, and kernels larger than the input', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([image, one, one, one, one, fc.nat(9999)] as const),
        async (shape, down, across, dilateY, dilateX, seed) => {
          const config = {
            filters: 3,
            kernel_size: [down, across],
            dilation_rate: [dilateY, dilateX],
            padding: 'same',
          }
          await expectAgreement(
            graphOf(shape, [
              { layer: 'Activation', config: { activation: 'tanh' } },
              { layer: 'Conv2D', config },
            ]),
            { batch: 2, seed },
          )
        },
      ),
      { numRuns: 25, seed: 2 },
    )
  })

  test.each(['linear', 'relu', 'swish', 'sigmoid', 'softmax'])(
    'takes the activation %s',
    async (activation) => {
      const config = { filters: 9, kernel_size: 3, activation, use_bias: activation !== 'sigmoid' }
      const graph = graphOf(
        [7, 6, 2],
        [
          { layer: 'Conv2D', config },
          { layer: 'Conv2D', config: { ...config, filters: 4 } },
        ],
      )
      await expectAgreement(graph, { batch: 5 })
    },
  )

  test('agrees at any batch, 1x1 kernels and 33 included', async () => {
    await fc.assert(
      fc.asyncProperty(...([batches, fc.nat(9999)] as const), (batch, seed) =>
        expectAgreement(
          graphOf(
            [3, 2, 3],
            [
              { layer: 'Conv2D', config: { filters: 5, kernel_size: 1 } },
              { layer: 'Conv2D', config: { filters: 8, kernel_size: 2, padding: 'same' } },
            ],
          ),
          { batch, seed },
        ),
      ),
      { numRuns: 10, seed: 3 },
    )
  })

  test('has nothing to do backward when it and all before it are frozen', () => {
    const layer = { layer: 'Conv2D', config: { filters: 4, kernel_size: 3, activation: 'relu' } }
    const graph = graphOf([5, 5, 4], [layer, { layer: 'Flatten' }, denseLayer])
    const places = { params: 64, gradient: 1024, base: 65_536, control: 8192 }
    const { backward } = compile(graph, {
      ...{ batch: 2, training: true, frozen: new Set([0, 1]) },
      ...places,
    })
    expect(new Set(backward.map(({ kernel }) => kernel))).toEqual(new Set(['gemm', 'sumRows']))
  })

  test.each([
    [{ filters: 2, kernel_size: 9 }, 'kernel_size'],
    [{ filters: 0, kernel_size: 3 }, 'filters'],
    [{ filters: 2, kernel_size: 3, groups: 2 }, 'groups'],
    [{ filters: 2, kernel_size: 3, padding: 'causal' }, 'padding'],
    [{ filters: 2, kernel_size: 3, strides: 2, dilation_rate: 2 }, 'dilation_rate'],
    [{ filters: 2, kernel_size: [3, 3, 3] }, 'kernel_size'],
  ])('refuses %j by name', (config, name) => {
    expect(() => graphOf([5, 5, 1], [{ layer: 'Conv2D', config }])).toThrow(name)
  })
})

describe('pooling', () => {
  test.each(['MaxPooling2D', 'AveragePooling2D'])(
    '%s agrees, with windows that overlap, leave gaps or stick out',
    async (layer) => {
      await fc.assert(
        fc.asyncProperty(
          ...([
            image,
            one,
            one,
            one,
            one,
            modes,
            fc.integer({ min: 1, max: 7 }),
            fc.nat(9999),
          ] as const),
          async (shape, down, across, strideY, strideX, padding, batch, seed) => {
            fc.pre(padding === 'same' || (down <= shape[0] && across <= shape[1]))
            const config = { pool_size: [down, across], strides: [strideY, strideX], padding }
            await expectAgreement(
              graphOf(shape, [
                { layer: 'Activation', config: { activation: 'tanh' } },
                { layer, config },
              ]),
              { batch, seed },
            )
          },
        ),
        { numRuns: 40, seed: 4 },
      )
    },
  )
})
