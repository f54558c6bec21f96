import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { expectAgreement, graphOf } from '../../support/engine.ts'

const few = (most: number) => fc.integer({ min: 0, max: most })
const some = (most: number) => fc.integer({ min: 1, max: most })
const conv = { layer: 'Conv2D', config: { filters: 2, kernel_size: 1 } }

describe('ZeroPadding2D', () => {
  test('agrees with the Float64 tape on any sides, between layers that learn', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([fc.tuple(some(6), some(6), some(5)), few(3), few(3), few(3), few(3)] as const),
        ...([some(33), fc.nat(9999)] as const),
        (shape, top, bottom, left, right, batch, seed) => {
          const config = {
            padding: [
              [top, bottom],
              [left, right],
            ],
          }
          const graph = graphOf(shape, [conv, { layer: 'ZeroPadding2D', config }, conv])
          return expectAgreement(graph, { batch, seed })
        },
      ),
      { numRuns: 25, seed: 1 },
    )
  })

  test.each<[padding: unknown, shape: number[]]>([
    [undefined, [5, 6, 1]],
    [2, [7, 8, 1]],
    [
      [1, 2],
      [5, 8, 1],
    ],
    [[[0, 1], [2, 3]], [4, 9, 1]], // biome-ignore format: a row
  ])('of %j makes 3 x 4 images %j', (padding, shape) => {
    const config = padding === undefined ? {} : { padding }
    const graph = graphOf([3, 4, 1], [{ layer: 'ZeroPadding2D', config }])
    expect(graph.nodes.at(-1)!.outputShape).toEqual(shape)
  })
})

describe('ReLU', () => {
  test.each([[{}], [{ max_value: 6 }], [{ max_value: null, negative_slope: 0, threshold: 0 }]])(
    '%j agrees',
    (config) => {
      const graph = graphOf([3, 5], [{ layer: 'Dense', config: { units: 7 } }, { layer: 'ReLU', config }]) // biome-ignore format: a row
      return expectAgreement(graph, { batch: 9, input: (random) => 20 * (random() - 0.5) })
    },
  )
})

test.each<[layer: string, config: Config, says: RegExp]>([
  ['ZeroPadding2D', { padding: [1, 2, 3] }, /padding is \[1,2,3\], expected one whole number/],
  ['ZeroPadding2D', { padding: [[1], [2]] }, /padding is \[\[1\],\[2\]\]/],
  ['ZeroPadding2D', { padding: -1 }, /padding is -1, expected a whole number from 0 to 1024/],
  ['ZeroPadding2D', { padding: 1e9 }, /padding is 1000000000/],
  ['ZeroPadding2D', { data_format: 'channels_first' }, /data_format/],
  ['ReLU', { max_value: 1 }, /max_value is 1, expected none, or 6/],
  ['ReLU', { negative_slope: 0.1 }, /negative_slope is 0.1, expected a number from 0 to 0/],
  ['ReLU', { threshold: 1 }, /threshold is 1/],
])('%s %j is refused', (layer, config, says) => {
  expect(() => graphOf([3, 3, 1], [{ layer, config }])).toThrow(says)
})
