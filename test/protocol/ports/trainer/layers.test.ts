/** Layers over TensorFlow.js core operations: values as tfjs-layers has them, gradients on wasm as on cpu. */
import '@tensorflow/tfjs-backend-cpu'
import { type BackendWasm, setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { beforeAll, expect, test } from 'vitest'
import { tfjsWasmFolder } from '../../../../node/wasm.ts'
import type { Config } from '../../../../protocol/engine/layers/rule.ts'
import { layers } from '../../../../protocol/engine/layers/table.ts'
import { type Context, forwards } from '../../../../protocol/ports/trainer/layers.ts'
import { registerPack } from '../../../../protocol/ports/trainer/pack.ts'
import type { Layer } from '../../../../protocol/ports/trainer/topology.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { binaries, expectNear } from '../../../support/engine.ts'

const BATCH = 3

beforeAll(async () => {
  tf.enableProdMode()
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false)
  setWasmPaths(tfjsWasmFolder())
  await tf.setBackend('wasm')
  await registerPack(tf.backend() as BackendWasm, binaries.plain)
})

interface Row {
  shape: number[]
  layer: tfl.layers.Layer
  /** Inputs are whole numbers below this. */
  whole?: number
}

const image = [8, 7, 3]
const steps = [9, 4]
const same = { padding: 'same' as const }
const zeros = 'zeros' as const // tfjs-layers' default, orthogonal, is missing in this build
const cell = { units: 5, recurrentInitializer: zeros }
const lstm = (settings: object) => tfl.layers.lstm({ ...cell, ...settings })
const gru = (settings: object) => tfl.layers.gru({ ...cell, ...settings })

const rows: Record<string, Row> = {
  ReLU: { shape: steps, layer: tfl.layers.reLU() },
  'ReLU to 6': { shape: steps, layer: tfl.layers.reLU({ maxValue: 6 }) },
  ZeroPadding2D: {
    shape: image,
    layer: tfl.layers.zeroPadding2d({
      padding: [
        [0, 1],
        [2, 3],
      ],
    }),
  },
  Conv2D: {
    shape: image,
    layer: tfl.layers.conv2d({ filters: 5, kernelSize: 3, activation: 'relu' }),
  },
  'Conv2D same, with strides': {
    shape: image,
    layer: tfl.layers.conv2d({ ...same, filters: 4, kernelSize: [3, 2], strides: [2, 3] }),
  },
  'Conv2D with a window shorter than its stride': {
    shape: image,
    layer: tfl.layers.conv2d({ ...same, filters: 4, kernelSize: 1, strides: 2 }),
  },
  'Conv2D dilated': {
    shape: image,
    layer: tfl.layers.conv2d({ filters: 4, kernelSize: [3, 2], dilationRate: [2, 3] }),
  },
  Conv1D: { shape: steps, layer: tfl.layers.conv1d({ filters: 6, kernelSize: 3 }) },
  'Conv1D same, with strides, without bias': {
    shape: steps,
    layer: tfl.layers.conv1d({ ...same, filters: 6, kernelSize: 2, strides: 3, useBias: false }),
  },
  'Conv1D dilated': {
    shape: steps,
    layer: tfl.layers.conv1d({ ...same, filters: 6, kernelSize: 3, dilationRate: 2 }),
  },
  DepthwiseConv2D: { shape: image, layer: tfl.layers.depthwiseConv2d({ kernelSize: 3 }) },
  'DepthwiseConv2D same, with strides, of two filters': {
    shape: image,
    layer: tfl.layers.depthwiseConv2d({
      ...{ ...same, kernelSize: [3, 2], strides: 2, depthMultiplier: 2, activation: 'tanh' },
    }),
  },
  SeparableConv2D: {
    shape: image,
    layer: tfl.layers.separableConv2d({ filters: 6, kernelSize: 3, activation: 'relu' }),
  },
  'SeparableConv2D same, with strides, of two filters': {
    shape: image,
    layer: tfl.layers.separableConv2d({
      ...{ ...same, filters: 6, kernelSize: [2, 3], strides: 2, depthMultiplier: 2 },
      useBias: false,
    }),
  },
  MaxPooling2D: { shape: image, layer: tfl.layers.maxPooling2d({ poolSize: 2 }) },
  'MaxPooling2D same, overlapping': {
    shape: image,
    layer: tfl.layers.maxPooling2d({ ...same, poolSize: [3, 2], strides: [2, 1] }),
  },
  MaxPooling1D: { shape: steps, layer: tfl.layers.maxPooling1d({ poolSize: 2 }) },
  'MaxPooling1D same': {
    shape: steps,
    layer: tfl.layers.maxPooling1d({ ...same, poolSize: 3, strides: 2 }),
  },
  AveragePooling2D: { shape: image, layer: tfl.layers.averagePooling2d({ poolSize: 2 }) },
  'AveragePooling2D same, overlapping': {
    shape: image,
    layer: tfl.layers.averagePooling2d({ ...same, poolSize: [3, 4], strides: [2, 1] }),
  },
  AveragePooling1D: { shape: steps, layer: tfl.layers.averagePooling1d({ poolSize: 2 }) },
  'AveragePooling1D same': {
    shape: steps,
    layer: tfl.layers.averagePooling1d({ ...same, poolSize: 3, strides: 2 }),
  },
  GlobalMaxPooling1D: { shape: steps, layer: tfl.layers.globalMaxPooling1d({}) },
  GlobalMaxPooling2D: { shape: image, layer: tfl.layers.globalMaxPooling2d({}) },
  GlobalAveragePooling1D: { shape: steps, layer: tfl.layers.globalAveragePooling1d({}) },
  GlobalAveragePooling2D: { shape: image, layer: tfl.layers.globalAveragePooling2d({}) },
  LayerNormalization: { shape: steps, layer: tfl.layers.layerNormalization() },
  Embedding: {
    ...{ shape: [6], whole: 11 },
    layer: tfl.layers.embedding({ inputDim: 11, outputDim: 5 }),
  },
  LSTM: { shape: steps, layer: lstm({}) },
  'LSTM of sequences, backwards, relu, no bias': {
    shape: steps,
    layer: lstm({
      ...{ returnSequences: true, goBackwards: true, useBias: false },
      ...{ activation: 'relu', recurrentActivation: 'sigmoid' },
    }),
  },
  GRU: { shape: steps, layer: gru({}) },
  'GRU of sequences, backwards': {
    shape: steps,
    layer: gru({ returnSequences: true, goBackwards: true }),
  },
  ...Object.fromEntries(
    (['concat', 'sum', 'ave', 'mul'] as const).flatMap((mergeMode) =>
      [lstm({}), gru({ returnSequences: true })].map((layer, i) => [
        `Bidirectional ${mergeMode}, ${i === 0 ? 'LSTM' : 'GRU of sequences'}`,
        { shape: steps, layer: tfl.layers.bidirectional({ layer: layer as tfl.RNN, mergeMode }) },
      ]),
    ),
  ),
}

test.each(Object.entries(rows))('%s', async (_, { shape, layer, whole }) => {
  await tf.setBackend('cpu')
  const random = randomFrom(1)
  const input = tfl.input({ shape })
  const output = layer.apply(input) as tfl.SymbolicTensor
  const model = tfl.model({ inputs: input, outputs: output })
  const some = ({ shape }: { shape: readonly (number | null)[] }) =>
    Float32Array.from({ length: sizeOf(shape) }, () => 0.5 * normal(random))
  const weights = layer.weights.map((weight) => ({
    name: weight.originalName.slice(layer.name.length + 1),
    shape: weight.shape as number[],
    values: some(weight),
  }))
  layer.setWeights(weights.map(({ values, shape }) => tf.tensor(values.slice(), shape)))
  const x = Float32Array.from({ length: BATCH * sizeOf(shape) }, () =>
    whole ? Math.floor(whole * random()) : normal(random),
  )
  const wanted = model.predict(tf.tensor(x.slice(), [BATCH, ...shape])) as tf.Tensor
  const entry = JSON.parse(JSON.stringify(model.toJSON(null, false))).config.layers[1]
  const node: Layer = {
    ...{ className: layer.getClassName(), name: layer.name, config: cleaned(entry, shape) },
    ...{ inputs: [0], inputShapes: [shape], outputShape: wanted.shape.slice(1) },
    weights: Object.fromEntries(weights.map(({ name }, i) => [name, i])),
  }
  const draw = some(wanted)

  const got = await resultsOn('wasm')
  expectNear('values', got[0]!, wanted.dataSync(), 1e-5)
  const reference = await resultsOn('cpu')
  got.forEach((values, i) => {
    const name = i === 0 ? 'values' : (weights[i - 1]?.name ?? 'input')
    expectNear(`gradient of ${name}`, values, reference[i]!, 1e-5)
  })

  /** Values, and gradients of the weights and of an input of real numbers. */
  async function resultsOn(backend: string): Promise<Float32Array[]> {
    await tf.setBackend(backend)
    return tf.tidy(() => {
      const forward = (...args: tf.Tensor[]) => {
        const weight = (layer: Layer, name: string) => args[layer.weights[name]!]
        const input = args[weights.length] ?? tf.tensor(x.slice(), [BATCH, ...shape])
        return forwards[node.className]!([input], node, { weight })
      }
      const args = weights.map(({ values, shape }) => tf.tensor(values.slice(), shape))
      if (!whole) args.push(tf.tensor(x.slice(), [BATCH, ...shape]))
      const sum = (...args: tf.Tensor[]) =>
        tf.sum(tf.mul(forward(...args), tf.tensor(draw.slice(), wanted.shape)))
      const all = [forward(...args), ...tf.grads(sum)(args)]
      return all.map((tensor) => tensor.dataSync().slice() as Float32Array)
    })
  }
})

test.each(['LSTM', 'GRU'])(
  '%s drops the same values of an example at all steps, while it trains',
  async (name) => {
    await tf.setBackend('cpu')
    const [batch, steps, width, rate] = [8, 3, 10, 0.4]
    const random = randomFrom(1)
    const some = (shape: number[]) =>
      tf.tensor(
        Float32Array.from({ length: sizeOf(shape) }, () => 0.5 * normal(random)),
        shape,
      )
    const weights = [some([width, 20]), some([5, 20])] // for 4 gates of 5 units; a GRU takes 15
    const cut = name === 'GRU' ? weights.map((w) => tf.slice(w, [0, 0], [-1, 15])) : weights
    const config = { units: 5, use_bias: false }
    const read = (settings: Config) =>
      cleaned({ class_name: name, config: settings }, [steps, width])
    const run = (x: tf.Tensor, settings: Config, training?: Context['training']) => {
      const layer = {
        config: read(settings),
        weights: { kernel: 0, recurrent_kernel: 1 },
      } as Config
      const weight = (_: Layer, key: string) => cut[['kernel', 'recurrent_kernel'].indexOf(key)]
      return forwards[name]!([x], layer as unknown as Layer, {
        weight,
        ...(training ? { training } : {}),
      })
    }
    const x = some([batch, steps, width])
    const training = { seedOf: () => 3, observe: () => {} }
    const dropping = { ...config, dropout: rate }

    const slope = tf.grad((x) => tf.sum(run(x, dropping, training)))(x)
    const kept = tf.cast(tf.notEqual(slope, 0), 'float32')
    const ofFirst = tf.slice(kept, [0, 0, 0], [-1, 1, -1])
    expect(kept.arraySync()).toEqual(tf.tile(ofFirst, [1, steps, 1]).arraySync())
    const share = tf.mean(ofFirst).dataSync()[0]!
    expect(Math.abs(share - (1 - rate))).toBeLessThan(0.15)
    const masked = tf.div(tf.mul(x, kept), 1 - rate)
    const got = run(x, dropping, training).dataSync()
    expectNear('values', got, run(masked, config).dataSync(), 1e-5)
    expectNear('predictions', run(x, dropping).dataSync(), run(x, config).dataSync(), 0, 0)
  },
)

test('there is a forward for every layer that a model may have', () => {
  expect(Object.keys(layers).filter((name) => !Object.hasOwn(forwards, name))).toEqual([])
})

const sizeOf = (shape: readonly (number | null)[]) =>
  shape.reduce((size: number, length) => size * (length ?? 1), 1)

/** Settings as the layer's own shape rule leaves them. */
function cleaned({ class_name, config }: { class_name: string; config: Config }, shape: number[]) {
  const rule = layers[class_name]!
  const known = Object.entries(config).filter(([key]) => rule.settings.includes(key))
  return rule.read(Object.fromEntries(known), [shape], (key) => key).config
}
