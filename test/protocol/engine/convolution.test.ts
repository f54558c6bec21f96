import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Graph } from '../../../protocol/engine/graph.ts'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { compile } from '../../../protocol/engine/plan.ts'
import type { Random } from '../../../protocol/random.ts'
import { engineFor, expectAgreement, graphOf, type LayerSpec } from '../../support/engine.ts'

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

const planOf = (graph: Graph) =>
  compile(graph, {
    ...{ batch: 2, training: true, base: 65_536, control: 8192 },
    ...{ params: 64, gradient: 1024, frozen: 4096 },
  })
const kernelsOf = (graph: Graph) => planOf(graph).forward.map(({ kernel }) => kernel)

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
        ...([image, one, one, one, one, batches, fc.nat(9999)] as const),
        async (shape, down, across, dilateY, dilateX, batch, seed) => {
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
            { batch, seed },
          )
        },
      ),
      { numRuns: 25, seed: 2 },
    )
  })

  test('agrees where tiles are transformed: 3 x 3 and 5 x 5 kernels over fours of channels', async () => {
    const channels = fc.constantFrom(8, 12, 20, 32)
    let transformed = 0
    await fc.assert(
      fc.asyncProperty(
        ...([
          fc.tuple(fc.integer({ min: 2, max: 7 }), fc.integer({ min: 2, max: 7 })),
          channels,
          channels,
          fc.constantFrom(3, 5),
          modes,
          fc.constantFrom('linear', 'relu', 'gelu'),
          fc.boolean(),
          fc.integer({ min: 1, max: 2 }),
          fc.nat(9999),
        ] as const),
        async (
          [height, width],
          inputs,
          filters,
          size,
          padding,
          activation,
          biased,
          batch,
          seed,
        ) => {
          fc.pre(padding === 'same' || (height >= size && width >= size))
          const config = { filters, kernel_size: size, padding, activation, use_bias: biased }
          const graph = graphOf([height, width, inputs], [{ layer: 'Conv2D', config }])
          if (kernelsOf(graph).includes('winograd')) transformed++
          await expectAgreement(graph, { batch, seed })
        },
      ),
      { numRuns: 40, seed: 5 },
    )
    expect(transformed).toBeGreaterThan(20)
  })

  test.each([
    [[8, 8, 32], {}, true],
    [[3, 3, 32], {}, false],
    [[8, 8, 4], { filters: 4 }, false],
    [[8, 8, 6], {}, false],
    [[8, 8, 32], { strides: 2 }, false],
    [[8, 8, 32], { dilation_rate: 2 }, false],
    [[8, 8, 32], { kernel_size: 5 }, true],
    [[8, 8, 32], { kernel_size: [3, 5] }, false],
    [[8, 8, 32], { kernel_size: 7 }, false],
  ])('over %j with %j is done by transformed tiles: %s', (shape, settings, isTransformed) => {
    const config = { filters: 32, kernel_size: 3, ...settings }
    const kernels = kernelsOf(graphOf(shape, [{ layer: 'Conv2D', config }]))
    expect(kernels.includes('winograd')).toBe(isTransformed)
  })

  test.each([3, 5])(
    'agrees over more tiles of kernel %i than are transformed at a time, and more channels than a panel has',
    async (size) => {
      const conv = (filters: number): LayerSpec => ({
        layer: 'Conv2D',
        config: { filters, kernel_size: size, padding: 'same', activation: 'relu' },
      })
      await expectAgreement(graphOf([7, 6, 8], [conv(12), conv(20)]), {
        batch: size === 3 ? 33 : 13,
      })
    },
  )

  test('sums over many pixels stay as exact as float32 is', async () => {
    const layer = { layer: 'Conv2D', config: { filters: 1, kernel_size: 3 } }
    const value = (random: Random) => 1 + random()
    const options = { batch: 2, tolerance: 2e-6, input: value, weight: value }
    await expectAgreement(graphOf([90, 90, 1], [layer]), options)
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
    const graph = graphOf([5, 5, 4], [{ ...layer, frozen: true }, { layer: 'Flatten' }, denseLayer])
    const { backward } = planOf(graph)
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

/** Up to 12 steps of up to 9 channels. */
const sequence = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 9 }))
const tanh: LayerSpec = { layer: 'Activation', config: { activation: 'tanh' } }

describe('Conv1D', () => {
  test('agrees with the Float64 tape at any length, stride, dilation and padding', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([
          sequence,
          fc.integer({ min: 1, max: 11 }),
          fc.integer({ min: 1, max: 5 }),
          fc.constantFrom([1, 1], [2, 1], [3, 1], [1, 2], [1, 3]),
          fc.constantFrom('valid', 'same', 'causal'),
          batches,
          fc.nat(9999),
        ] as const),
        async (shape, filters, kernel_size, [strides, dilation_rate], padding, batch, seed) => {
          fc.pre(padding !== 'valid' || (kernel_size - 1) * dilation_rate! < shape[0])
          const config = { filters, kernel_size, strides, dilation_rate, padding }
          const relu = { layer: 'Conv1D', config: { ...config, activation: 'relu' } }
          await expectAgreement(graphOf(shape, [tanh, relu]), { batch, seed })
        },
      ),
      { numRuns: 40, seed: 8 },
    )
  })

  test('with causal padding sees nothing of what comes later', async () => {
    const config = { filters: 2, kernel_size: 3, padding: 'causal' }
    const outputs = await Promise.all(
      [0, 1].map(async (last) => {
        const graph = graphOf([6, 1], [{ layer: 'Conv1D', config }])
        const engine = await engineFor(graph, 1, 'plain')
        const params = engine.floats(engine.size).fill(0.5)
        const settings = { params: engine.addressOf(params), gradient: 0 }
        const { plan, forward } = engine.program({ batch: 1, training: false, ...settings })
        engine.floatsAt(plan.input, 6).set([1, 2, 3, 4, 5, last])
        forward()
        return Array.from(engine.floatsAt(plan.logits, 12))
      }),
    )
    expect(outputs[0]!.slice(0, 10)).toEqual(outputs[1]!.slice(0, 10))
    expect(outputs[0]!.slice(10)).not.toEqual(outputs[1]!.slice(10))
    expect(outputs[0]!.slice(0, 6)).toEqual([1, 1, 2, 2, 3.5, 3.5])
  })

  test.each([
    [{ filters: 2, kernel_size: 9 }, 'kernel_size'],
    [{ filters: 2, kernel_size: [3, 3] }, 'kernel_size'],
    [{ filters: 2, kernel_size: 3, padding: 'full' }, 'padding'],
    [{ filters: 2, kernel_size: 3, strides: 0 }, 'strides'],
    [{ filters: 2, kernel_size: 3, strides: 2, dilation_rate: 2 }, 'dilation_rate'],
  ])('refuses %j by name', (config, name) => {
    expect(() => graphOf([5, 2], [{ layer: 'Conv1D', config }])).toThrow(name)
  })

  test('refuses images', () => {
    const config = { filters: 2, kernel_size: 3 }
    expect(() => graphOf([5, 5, 2], [{ layer: 'Conv1D', config }])).toThrow('2 axes')
  })
})

describe.each(['DepthwiseConv2D', 'SeparableConv2D'])('%s', (layer) => {
  const filters = layer === 'SeparableConv2D' ? { filters: 6 } : {}
  test('agrees with the Float64 tape at any size, stride, padding and multiplier', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([
          fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 })),
          fc.integer({ min: 1, max: 9 }),
          fc.constantFrom(1, 1, 2, 3),
          one,
          one,
          fc.tuple(one, one),
          modes,
          fc.integer({ min: 1, max: 5 }),
          fc.nat(9999),
        ] as const),
        async (
          [height, width],
          channels,
          depth_multiplier,
          down,
          across,
          strides,
          padding,
          batch,
          seed,
        ) => {
          fc.pre(padding === 'same' || (down <= height && across <= width))
          const config = {
            kernel_size: [down, across],
            strides,
            padding,
            depth_multiplier,
            ...filters,
          }
          const graph = graphOf([height, width, channels], [tanh, { layer, config }])
          await expectAgreement(graph, { batch, seed })
        },
      ),
      { numRuns: 40, seed: 6 },
    )
  })

  test('agrees with dilated kernels, and kernels larger than the input', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([image, one, one, one, one, batches, fc.nat(9999)] as const),
        async (shape, down, across, dilateY, dilateX, batch, seed) => {
          const config = {
            ...{ kernel_size: [down, across], dilation_rate: [dilateY, dilateX], padding: 'same' },
            ...filters,
          }
          await expectAgreement(graphOf(shape, [tanh, { layer, config }]), { batch, seed })
        },
      ),
      { numRuns: 15, seed: 7 },
    )
  })

  test.each(['relu', 'swish', 'softmax'])('takes the activation %s', async (activation) => {
    const config = { kernel_size: 3, activation, use_bias: activation !== 'swish', ...filters }
    const twice = [
      { layer, config: { ...config, depth_multiplier: 2 } },
      { layer, config },
    ]
    await expectAgreement(graphOf([7, 6, 3], twice), { batch: 3 })
  })

  test('has nothing to do backward when it and all before it are frozen', () => {
    const config = { kernel_size: 3, activation: 'relu', padding: 'same', ...filters }
    const frozen: LayerSpec = { layer, config, frozen: true }
    const { backward } = planOf(graphOf([5, 5, 4], [frozen, { layer: 'Flatten' }, denseLayer]))
    expect(new Set(backward.map(({ kernel }) => kernel))).toEqual(new Set(['gemm', 'sumRows']))
  })

  test.each([
    [{ kernel_size: 9 }, 'kernel_size'],
    [{ kernel_size: 3, depth_multiplier: 0 }, 'depth_multiplier'],
    [{ kernel_size: 3, depthwise_constraint: {} }, 'depthwise_constraint'],
    [{ kernel_size: 3, padding: 'causal' }, 'padding'],
    [{ kernel_size: 3, strides: 2, dilation_rate: 2 }, 'dilation_rate'],
    [{ kernel_size: 3, data_format: 'channels_first' }, 'data_format'],
  ])('refuses %j by name', (config, name) => {
    const spec = { layer, config: { ...config, ...filters } }
    expect(() => graphOf([5, 5, 1], [spec])).toThrow(name)
  })
})

/** Kernels up to those of a network's first layers, over little images, so that batches may be large. */
const pairOf = (least: number, most: number) =>
  fc.tuple(fc.integer({ min: least, max: most }), fc.integer({ min: least, max: most }))
const stridesOrDilation = fc.oneof(
  pairOf(1, 3).map((strides) => ({ strides, dilation_rate: [1, 1] as [number, number] })),
  pairOf(1, 3).map((dilation_rate) => ({ strides: [1, 1], dilation_rate })),
)

describe.each(['Conv2D', 'DepthwiseConv2D', 'SeparableConv2D'])('%s', (layer) => {
  const filters = layer === 'DepthwiseConv2D' ? {} : { filters: 5 }

  test('agrees with large kernels, strided or dilated, in either padding, at any batch', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([pairOf(1, 7), pairOf(0, 5), fc.integer({ min: 1, max: 3 })] as const),
        ...([stridesOrDilation, modes] as const),
        ...([fc.oneof(batches, fc.constantFrom(1, 32, 33)), fc.nat(9999)] as const),
        async (kernel_size, more, channels, { strides, dilation_rate }, padding, batch, seed) => {
          // Unless zeros lie around it an image is as large as the kernel at least.
          const [height, width] = more.map((size, i) =>
            padding === 'same' ? 1 + size : 1 + size + (kernel_size[i]! - 1) * dilation_rate[i]!,
          ) as [number, number]
          const config = { kernel_size, strides, dilation_rate, padding, activation: 'relu' }
          const graph = graphOf(
            [height, width, channels],
            [{ layer, config: { ...config, ...filters } }],
          )
          await expectAgreement(graph, { batch, seed })
        },
      ),
      { numRuns: 80, seed: 12 },
    )
  })

  test.each<[shape: number[], config: Config, batch: number]>([
    [[12, 11, 1], { kernel_size: 5, filters: 6 }, 3],
    [[12, 11, 1], { kernel_size: 5, filters: 6, padding: 'same' }, 3],
    [[15, 14, 3], { kernel_size: 7, filters: 8, strides: 2, padding: 'same' }, 2],
    [[5, 6, 16], { kernel_size: 3, filters: 24, strides: 2, padding: 'same' }, 3],
    [[4, 5, 33], { kernel_size: 3, filters: 17, strides: 2 }, 2],
    [[4, 4, 64], { kernel_size: 1, filters: 16, strides: 2 }, 5],
    [[5, 5, 64], { kernel_size: 3, filters: 9, dilation_rate: 2 }, 1],
  ])(
    'agrees over %j with %j in a batch of %i, as networks have it',
    async (shape, config, batch) => {
      const { filters: wanted, ...own } = config
      const settings = layer === 'DepthwiseConv2D' ? own : { ...own, filters: wanted }
      await expectAgreement(graphOf(shape, [{ layer, config: settings }]), { batch })
    },
  )
})

describe('SeparableConv1D', () => {
  const layer = 'SeparableConv1D'
  test('agrees with the Float64 tape at any length, stride, dilation, padding and multiplier', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([
          sequence,
          fc.constantFrom(1, 1, 2, 3),
          fc.integer({ min: 1, max: 5 }),
          fc.constantFrom([1, 1], [2, 1], [3, 1], [1, 2], [1, 3]),
          fc.constantFrom('valid', 'same', 'causal'),
          batches,
          fc.nat(9999),
        ] as const),
        async (shape, depth_multiplier, kernel_size, [strides, dilation_rate], padding, ...run) => {
          fc.pre(padding !== 'valid' || (kernel_size - 1) * dilation_rate! < shape[0])
          const config = { filters: 6, kernel_size, strides, dilation_rate, padding }
          const relu = { layer, config: { ...config, depth_multiplier, activation: 'relu' } }
          const [batch, seed] = run
          await expectAgreement(graphOf(shape, [tanh, relu]), { batch, seed })
        },
      ),
      { numRuns: 30, seed: 11 },
    )
  })

  test('has kernels of the shapes that Keras gives them', () => {
    const config = { filters: 5, kernel_size: 3, depth_multiplier: 2 }
    const { tensors } = graphOf([9, 4], [{ layer, config }])
    expect(tensors.map(({ shape }) => shape)).toEqual([[3, 4, 2], [1, 8, 5], [5]]) // biome-ignore format: a row
  })

  test.each([
    [{ kernel_size: 9 }, 'kernel_size'],
    [{ kernel_size: 3, strides: 2, dilation_rate: 2 }, 'dilation_rate'],
    [{ kernel_size: 3, pointwise_constraint: {} }, 'pointwise_constraint'],
  ])('refuses %j by name', (config, name) => {
    expect(() => graphOf([5, 2], [{ layer, config: { filters: 2, ...config } }])).toThrow(name)
  })
})

test('SeparableConv2D refuses more values between its kernels than a layer may have', () => {
  const config = { filters: 1, kernel_size: 1, depth_multiplier: 2 ** 20 }
  expect(() => graphOf([32, 32, 1], [{ layer: 'SeparableConv2D', config }])).toThrow(
    'depth_multiplier',
  )
})

describe('pooling', () => {
  test.each(['MaxPooling2D', 'AveragePooling2D'])(
    '%s agrees, with windows that overlap, leave gaps or stick out',
    async (layer) => {
      await fc.assert(
        fc.asyncProperty(
          ...([image, one, one, one, one, modes, batches, fc.nat(9999)] as const),
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

  test.each(['MaxPooling1D', 'AveragePooling1D'])('%s agrees over steps', async (layer) => {
    await fc.assert(
      fc.asyncProperty(
        ...([sequence, one, one, modes, batches, fc.nat(9999)] as const),
        async (shape, pool_size, strides, padding, batch, seed) => {
          fc.pre(padding === 'same' || pool_size <= shape[0])
          const config = { pool_size, strides, padding }
          await expectAgreement(graphOf(shape, [tanh, { layer, config }]), { batch, seed })
        },
      ),
      { numRuns: 25, seed: 9 },
    )
  })

  test.each(['GlobalMaxPooling', 'GlobalAveragePooling'])(
    '%s agrees over steps and images',
    async (name) => {
      await fc.assert(
        fc.asyncProperty(
          ...([fc.oneof(sequence, image), batches, fc.nat(9999)] as const),
          async (shape, batch, seed) => {
            const layer = `${name}${shape.length - 1}D`
            await expectAgreement(graphOf(shape, [tanh, { layer }]), { batch, seed })
          },
        ),
        { numRuns: 20, seed: 10 },
      )
    },
  )

  test.each([
    ['MaxPooling1D', { pool_size: [2, 2] }, 'pool_size'],
    ['AveragePooling1D', { padding: 'causal' }, 'padding'],
    ['GlobalMaxPooling1D', { keepdims: true }, 'keepdims'],
    ['GlobalMaxPooling1D', { data_format: 'channels_first' }, 'data_format'],
    ['MaxPooling2D', {}, '3 axes'],
  ])('%s refuses %j by name', (layer, config, name) => {
    expect(() => graphOf([5, 2], [{ layer, config }])).toThrow(name)
  })
})
