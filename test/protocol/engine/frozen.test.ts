import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { layers as rules } from '../../../protocol/engine/layers/table.ts'
import { compile } from '../../../protocol/engine/plan.ts'
import type { Random } from '../../../protocol/random.ts'
import {
  bothSimd,
  engineFor,
  expectAgreement,
  graphOf,
  type LayerSpec,
} from '../../support/engine.ts'

const layer = (name: string, config: Config = {}): LayerSpec => ({ layer: name, config })
const frozen = (name: string, config: Config = {}): LayerSpec => ({
  ...layer(name, config),
  frozen: true,
})
const dense = { units: 5, activation: 'tanh' }

/** Little models in which some layers are frozen: before, behind and between those that learn. */
const models: Record<string, { shape: number[]; layers: LayerSpec[] }> = {
  'a frozen start': { shape: [4], layers: [frozen('Dense', dense), layer('Dense', dense)] },
  'a frozen end': { shape: [4], layers: [layer('Dense', dense), frozen('Dense', dense)] },
  'BatchNorm between layers that learn': {
    shape: [3, 4],
    layers: [layer('Dense', dense), frozen('BatchNormalization'), layer('Dense', dense)],
  },
  'BatchNorm without gamma, first': {
    shape: [6],
    layers: [frozen('BatchNormalization', { scale: false }), layer('Dense', dense)],
  },
  'BatchNorm without beta, last': {
    shape: [6],
    layers: [layer('Dense', dense), frozen('BatchNormalization', { center: false })],
  },
  'a branch': {
    shape: [4],
    layers: [
      frozen('Dense', dense),
      { ...layer('Dense', dense), inputs: [0] },
      { layer: 'Add', inputs: [1, 2] },
      layer('Dense', dense),
    ],
  },
  'frozen attention': {
    shape: [3, 4],
    layers: [
      layer('Dense', { units: 4 }),
      { ...frozen('MultiHeadAttention', { num_heads: 2, key_dim: 3 }), inputs: [1, 1] },
      layer('LayerNormalization'),
    ],
  },
  'a frozen LSTM': {
    shape: [3, 4],
    layers: [layer('Dense', dense), frozen('LSTM', { units: 3 }), layer('Dense', dense)],
  },
  'a frozen convolution': {
    shape: [5, 5, 2],
    layers: [
      layer('Conv2D', { filters: 2, kernel_size: 1 }),
      frozen('Conv2D', { filters: 3, kernel_size: 3, activation: 'relu' }),
      layer('Conv2D', { filters: 2, kernel_size: 2 }),
    ],
  },
}

const inner = { class_name: 'LSTM', config: { name: 'inner', units: 3, return_sequences: true } }
const threeByThree = { filters: 3, kernel_size: 3 }

/** Every layer with weights, by the settings that change what it does backward. */
const weighted: Record<string, [shape: number[], config: Config][]> = {
  Dense: [
    [[3, 4], dense],
    [[4], { units: 3, activation: 'relu' }],
  ],
  BatchNormalization: [[[3, 4], {}]],
  LayerNormalization: [[[3, 4], {}]],
  Embedding: [[[5], { input_dim: 4, output_dim: 3 }]],
  PositionEmbedding: [[[3, 4], { sequence_length: 5 }]],
  LSTM: [
    [[3, 4], { units: 3 }],
    [[3, 4], { units: 3, return_sequences: true }],
  ],
  GRU: [
    [[3, 4], { units: 3 }],
    [[3, 4], { units: 3, reset_after: true, return_sequences: true }],
  ],
  Bidirectional: ['concat', 'sum', 'ave', 'mul'].map((merge_mode) => [
    [3, 4],
    { merge_mode, layer: inner },
  ]),
  MultiHeadAttention: [[[3, 4], { num_heads: 2, key_dim: 3 }]],
  Conv1D: [[[6, 2], { ...threeByThree, padding: 'causal' }]],
  Conv2D: [
    [[5, 6, 2], { ...threeByThree, padding: 'same', strides: 2 }],
    [[6, 6, 8], { filters: 8, kernel_size: 3, activation: 'relu' }],
    [[4, 4, 2], { filters: 3, kernel_size: 1, activation: 'swish' }],
  ],
  DepthwiseConv2D: [[[5, 5, 2], { kernel_size: 3, depth_multiplier: 2 }]],
  SeparableConv1D: [[[6, 2], threeByThree]],
  SeparableConv2D: [[[5, 5, 2], { ...threeByThree, padding: 'same' }]],
}
const weightless = [
  ...['InputLayer', 'Flatten', 'Reshape', 'Dropout', 'Activation', 'ReLU', 'Permute'],
  ...['Add', 'Average', 'Multiply', 'Concatenate', 'ZeroPadding2D'],
  ...['Max', 'Average'].flatMap((kind) => [1, 2].map((axes) => `${kind}Pooling${axes}D`)),
  ...['Max', 'Average'].flatMap((kind) => [1, 2].map((axes) => `Global${kind}Pooling${axes}D`)),
]
const rows = Object.entries(weighted).flatMap(([name, cases]) =>
  cases.map(([shape, config]) => ({ name, shape, config })),
)
const head = layer('Dense', { units: 2 })

test('each layer of the table is known here as one with weights or without', () => {
  expect([...Object.keys(weighted), ...weightless].sort()).toEqual(Object.keys(rules).sort())
})

describe.each(rows)('a frozen $name over $shape with $config', ({ name, shape, config }) => {
  const reads = (node: number) => (name === 'MultiHeadAttention' ? { inputs: [node, node] } : {})
  const input = (random: Random) => Math.floor(4 * random())

  test('agrees with the tape where it comes first, and leaves all but the gradient as it was', async () => {
    const graph = graphOf(shape, [{ ...frozen(name, config), ...reads(0) }, head])
    expect(graph.frozen!.length).toBeGreaterThan(0)
    await expectAgreement(graph, { batch: 3, ...(name === 'Embedding' ? { input } : {}) })
  })

  test.skipIf(name === 'Embedding')('agrees with the tape between layers that learn', async () => {
    const before = layer('Dense', { units: shape.at(-1), activation: 'tanh' })
    const graph = graphOf(shape, [before, { ...frozen(name, config), ...reads(1) }, head])
    await expectAgreement(graph, { batch: 3 })
  })

  test('has nothing to do backward where nothing before it learns', () => {
    const specs = [{ ...frozen(name, config), ...reads(0) }, head]
    const { outputShape } = graphOf(shape, specs).nodes[1]!
    expect(backwardOf(shape, specs)).toEqual(backwardOf(outputShape, [head]))
  })
})

/** The kernels of the backward pass. */
function backwardOf(shape: readonly number[], specs: LayerSpec[]): string[] {
  const places = { batch: 4, training: true, params: 8192, gradient: 16_384, frozen: 32_768 }
  const { backward } = compile(graphOf(shape, specs), { ...places, base: 65_536, control: 4096 })
  return backward.map(({ kernel }) => kernel)
}

describe('frozen layers', () => {
  test.each(Object.entries(models))('agree with the tape: %s', async (_, { shape, layers }) => {
    const graph = graphOf(shape, layers)
    expect(graph.frozen!.length).toBeGreaterThan(0)
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 33 }), fc.nat(9999), (batch, seed) =>
        expectAgreement(graph, { batch, seed }),
      ),
      { numRuns: 6, seed: 1 },
    )
    await expectAgreement(graph, { batch: 3, training: false })
  })

  test('keep every bit of their weights, moving statistics included', async () => {
    const graph = graphOf([4], [frozen('BatchNormalization'), layer('Dense', { units: 3 })])
    for (const simd of bothSimd) {
      const engine = await engineFor(graph, 4, simd)
      expect(engine.frozen.length).toBe(16)
      engine.frozen.set(Array.from({ length: 16 }, (_, i) => 1 + i / 7))
      const before = engine.frozen.slice()
      const [params, gradient] = [engine.floats(engine.size), engine.floats(engine.size)]
      params.fill(0.5)
      const at = { params: engine.addressOf(params), gradient: engine.addressOf(gradient) }
      const { plan, forward, loss, backward } = engine.program({ batch: 4, training: true, ...at })
      engine.floatsAt(plan.input, 16).set(Array.from({ length: 16 }, (_, i) => Math.sin(i)))
      for (let step = 0; step < 3; step++) {
        forward()
        loss()
        backward()
      }
      expect(engine.frozen).toEqual(before)
      expect(gradient.some((value) => value !== 0)).toBe(true)
    }
  })

  test('are not part of the flat arrays: those hold what is swapped alone', async () => {
    const graph = graphOf([4], [frozen('Dense', { units: 1000 }), layer('Dense', { units: 3 })])
    const engine = await engineFor(graph, 4, 'plain')
    expect(engine.size).toBe(3003)
    const arrays = Array.from({ length: 8 }, () => engine.floats(engine.size))
    const { byteOffset, byteLength } = engine.frozen
    for (const array of arrays) {
      if (array.buffer !== engine.frozen.buffer) continue
      expect(array.byteOffset + array.byteLength).toBeLessThanOrEqual(byteOffset)
    }
    const { plan } = engine.program({ batch: 4, training: false, params: 4096, gradient: 0 })
    expect(plan.base).toBeGreaterThanOrEqual(byteOffset + byteLength)
  })

  test('stop the backward pass below the first layer that learns', () => {
    const deep = [frozen('Dense', dense), frozen('BatchNormalization'), frozen('Dense', dense)]
    expect(backwardOf([5], [...deep, head])).toEqual(backwardOf([5], [head]))
  })
})
