/**
 * Forward values of the engine against tfjs-layers, built with tfjs-layers' own settings as it writes them in model.json.
 */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { beforeAll, expect, test } from 'vitest'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { forEachTensor } from '../../../protocol/params.ts'
import { normal, randomFrom } from '../../../protocol/random.ts'
import { bothSimd, engineFor, expectNear, graphOf } from '../../support/engine.ts'

const BATCH = 5

beforeAll(async () => {
  tf.enableProdMode()
  await tf.setBackend('cpu')
})

/** tfjs-layers' default for a recurrent kernel is orthogonal, which this build of its core cannot make. */
const recurrentInitializer = 'zeros' as const
const cell = { units: 6, recurrentInitializer }
const rnn = (settings: object) => ({ ...cell, ...settings })

const rows: Record<string, { shape: number[]; layer: () => tfl.layers.Layer; whole?: number }> = {
  LSTM: { shape: [7, 5], layer: () => tfl.layers.lstm(cell) },
  'LSTM of sequences, sigmoid gates, no bias': {
    shape: [7, 5],
    layer: () =>
      tfl.layers.lstm(
        rnn({ returnSequences: true, recurrentActivation: 'sigmoid', useBias: false }),
      ),
  },
  'LSTM going backwards': {
    shape: [7, 5],
    layer: () => tfl.layers.lstm(rnn({ returnSequences: true, goBackwards: true })),
  },
  GRU: { shape: [7, 5], layer: () => tfl.layers.gru(cell) },
  'GRU of sequences going backwards': {
    shape: [7, 5],
    layer: () => tfl.layers.gru(rnn({ returnSequences: true, goBackwards: true })),
  },
  ...Object.fromEntries(
    (['concat', 'sum', 'ave', 'mul'] as const).flatMap((mergeMode) =>
      [true, false].map((returnSequences) => [
        `Bidirectional ${mergeMode}, ${returnSequences ? 'sequences' : 'last'}`,
        {
          shape: [4, 3],
          layer: () => {
            const inner = tfl.layers.lstm(rnn({ returnSequences }))
            return tfl.layers.bidirectional({ layer: inner as tfl.RNN, mergeMode })
          },
        },
      ]),
    ),
  ),
  'Bidirectional GRU': {
    shape: [4, 3],
    layer: () =>
      tfl.layers.bidirectional({ layer: tfl.layers.gru(cell) as tfl.RNN, mergeMode: 'concat' }),
  },
  Embedding: {
    shape: [9],
    layer: () => tfl.layers.embedding({ inputDim: 12, outputDim: 7 }),
    whole: 12,
  },
  BatchNormalization: { shape: [3, 6], layer: () => tfl.layers.batchNormalization() },
  'BatchNormalization without scale and center': {
    shape: [6],
    layer: () => tfl.layers.batchNormalization({ scale: false, center: false, epsilon: 0.01 }),
  },
  LayerNormalization: { shape: [3, 7], layer: () => tfl.layers.layerNormalization() },
  GlobalAveragePooling1D: {
    shape: [4, 5],
    layer: () => tfl.layers.globalAveragePooling1d({}),
  },
  GlobalAveragePooling2D: {
    shape: [4, 3, 5],
    layer: () => tfl.layers.globalAveragePooling2d({}),
  },
  ...Object.fromEntries(
    (['valid', 'same'] as const).flatMap((padding) => [
      [
        `Conv2D ${padding}`,
        {
          shape: [7, 6, 4],
          layer: () => tfl.layers.conv2d({ filters: 8, kernelSize: 3, padding, strides: [2, 1] }),
        },
      ],
      [
        `Conv2D by tiles, ${padding}`,
        {
          shape: [6, 8, 16],
          layer: () => tfl.layers.conv2d({ filters: 16, kernelSize: 3, padding }),
        },
      ],
      [
        `DepthwiseConv2D ${padding}`,
        {
          shape: [7, 6, 3],
          layer: () =>
            tfl.layers.depthwiseConv2d({ kernelSize: 3, padding, depthMultiplier: 2, strides: 2 }),
        },
      ],
      [
        `SeparableConv2D ${padding}`,
        {
          shape: [7, 6, 3],
          layer: () =>
            tfl.layers.separableConv2d({
              filters: 5,
              kernelSize: [3, 2],
              padding,
              activation: 'relu',
            }),
        },
      ],
    ]),
  ),
  Conv1D: {
    shape: [9, 3],
    layer: () => tfl.layers.conv1d({ filters: 5, kernelSize: 3, strides: 2, padding: 'same' }),
  },
  'Conv1D, dilated': {
    shape: [9, 3],
    layer: () => tfl.layers.conv1d({ filters: 5, kernelSize: 3, dilationRate: 2 }),
  },
  MaxPooling1D: {
    shape: [9, 3],
    layer: () => tfl.layers.maxPooling1d({ poolSize: 3, strides: 2 }),
  },
  AveragePooling1D: {
    shape: [9, 3],
    layer: () => tfl.layers.averagePooling1d({ poolSize: 2, padding: 'same' }),
  },
  MaxPooling2D: {
    shape: [7, 5, 3],
    layer: () => tfl.layers.maxPooling2d({ poolSize: [2, 3], padding: 'same' }),
  },
  AveragePooling2D: {
    shape: [7, 5, 3],
    layer: () => tfl.layers.averagePooling2d({ poolSize: 3, strides: 2, padding: 'same' }),
  },
  GlobalMaxPooling1D: { shape: [4, 5], layer: () => tfl.layers.globalMaxPooling1d({}) },
  GlobalMaxPooling2D: { shape: [4, 3, 5], layer: () => tfl.layers.globalMaxPooling2d({}) },
  Permute: { shape: [3, 4, 5], layer: () => tfl.layers.permute({ dims: [3, 1, 2] }) },
}

test.each(Object.entries(rows))(
  '%s gives what tfjs-layers gives',
  async (_, { shape, layer, whole }) => {
    const random = randomFrom(1)
    const made = layer()
    const model = tfl.sequential()
    model.add(tfl.layers.inputLayer({ inputShape: shape }))
    model.add(made)
    const weights = made.weights.map(({ shape, originalName }) => {
      const isVariance = originalName.endsWith('moving_variance')
      const one = () => (isVariance ? 0.5 + random() : 0.5 * normal(random))
      return tf.tensor(Float32Array.from({ length: sizeOf(shape) }, one), shape as number[])
    })
    made.setWeights(weights)
    const input = Float32Array.from({ length: BATCH * sizeOf(shape) }, () =>
      whole ? Math.floor(whole * random()) : normal(random),
    )
    const wanted = (model.predict(tf.tensor(input, [BATCH, ...shape])) as tf.Tensor).dataSync()

    const written = JSON.parse(JSON.stringify(model.toJSON(null, false)))
    const { class_name, config } = (written.config?.layers ?? written).at(-1)
    const graph = graphOf(shape, [{ layer: class_name, config: withoutNames(config) }])
    const names = made.weights.map(({ originalName }) => originalName.slice(made.name.length + 1))
    for (const simd of bothSimd) {
      const engine = await engineFor(graph, BATCH, simd)
      const params = engine.floats(Math.max(1, engine.size))
      forEachTensor(graph.tensors, ({ name, shape }, start) => {
        const index = names.indexOf(name.slice('layer1/'.length))
        expect(index, `tfjs-layers has ${name}`).toBeGreaterThanOrEqual(0)
        expect(shape).toEqual(weights[index]!.shape)
        params.set(weights[index]!.dataSync(), start)
      })
      expect(graph.tensors.length).toBe(names.length)
      const at = { params: engine.addressOf(params), gradient: 0 }
      const { plan, forward } = engine.program({ batch: BATCH, training: false, ...at })
      engine.floatsAt(plan.input, input.length).set(input)
      forward()
      expectNear(simd, engine.floatsAt(plan.logits, wanted.length).slice(), wanted, 2e-6)
    }
  },
)

const sizeOf = (shape: readonly (number | null)[]) =>
  shape.reduce((size: number, length) => size * (length ?? 1), 1)

/** What topology.ts takes off before a rule reads a layer's settings. */
function withoutNames(config: Config): Config {
  const names = ['name', 'trainable', 'dtype', 'batch_input_shape']
  return Object.fromEntries(Object.entries(config).filter(([key]) => !names.includes(key)))
}
