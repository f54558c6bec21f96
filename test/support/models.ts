import { isFrozen } from '../../protocol/engine/graph.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { sizeOf, type TensorSpec } from '../../protocol/params.ts'
import { writeModelJson } from '../../protocol/ports/trainer/model-json.ts'
import { readTopology, type Topology } from '../../protocol/ports/trainer/topology.ts'
import { normal, randomFrom } from '../../protocol/random.ts'
import { graphOf, type LayerSpec } from './graph.ts'

/** Small models and manifests for tests of the trainer and the learner. */

interface LayerEntry {
  class_name: string
  config: Record<string, unknown>
}

/** A Sequential model.json of these layers, whose weights are listed by `weights`. */
export function modelJson(
  inputShape: number[],
  layers: LayerEntry[],
  weights: [name: string, shape: number[]][],
): string {
  const [first, ...rest] = layers
  const named = [
    { ...first!, config: { batch_input_shape: [null, ...inputShape], ...first!.config } },
    ...rest,
  ].map((layer, i) => ({ ...layer, config: { name: `layer${i}`, ...layer.config } }))
  return JSON.stringify({
    modelTopology: { class_name: 'Sequential', config: { layers: named } },
    weightsManifest: [
      {
        paths: ['group1-shard1of1.bin'],
        weights: weights.map(([name, shape]) => ({ name, shape, dtype: 'float32' })),
      },
    ],
  })
}

/** Dense layers: `sizes` from inputs to classes, `activation` between, softmax at the end. */
export function denseJson(sizes: number[], activation = 'relu'): string {
  const last = sizes.length - 2
  return modelJson(
    [sizes[0]!],
    sizes.slice(1).map((units, i) => ({
      class_name: 'Dense',
      config: { units, activation: i === last ? 'softmax' : activation },
    })),
    sizes.slice(1).flatMap((units, i): [string, number[]][] => [
      [`layer${i}/kernel`, [sizes[i]!, units]],
      [`layer${i}/bias`, [units]],
    ]),
  )
}

/** A model.json of these layers, functional where they branch; the last one's activation should be softmax. */
export function branchingJson(inputShape: number[], layers: readonly LayerSpec[]): string {
  const { nodes, tensors, frozen = [] } = graphOf(inputShape, layers)
  const held = nodes.filter((node) => isFrozen({ tensors }, node)).map(({ name }) => name)
  const groups = [{ paths: ['group1-shard1of1.bin'], tensors: [...tensors, ...frozen] }]
  return writeModelJson({ layers: nodes, groups, frozen: new Set(held) })
}

/** One block of attention over `steps` words, normalised before. Vaswani et al. 2017. */
export function transformerJson(steps: number, words: number, classes: number): string {
  const width = 8
  return branchingJson(
    [steps],
    [
      { layer: 'Embedding', config: { input_dim: words, output_dim: width } },
      { layer: 'PositionEmbedding', config: { sequence_length: steps } },
      { layer: 'Add', inputs: [1, 2] },
      { layer: 'LayerNormalization' },
      { layer: 'MultiHeadAttention', config: { num_heads: 2, key_dim: 4 }, inputs: [4, 4] },
      { layer: 'Add', inputs: [3, 5] },
      { layer: 'LayerNormalization' },
      { layer: 'Dense', config: { units: 2 * width, activation: 'gelu' } },
      { layer: 'Dropout', config: { rate: 0.1 } },
      { layer: 'Dense', config: { units: width } },
      { layer: 'Add', inputs: [6, 10] },
      { layer: 'GlobalAveragePooling1D' },
      { layer: 'Dense', config: { units: classes, activation: 'softmax' } },
    ],
  )
}

/** One block that mixes patches and then values. Tolstikhin et al. 2021. */
export function mixerJson(patches: number, size: number, classes: number): string {
  const width = 8
  const turn: LayerSpec = { layer: 'Permute', config: { dims: [2, 1] } }
  return branchingJson(
    [patches * size],
    [
      { layer: 'Reshape', config: { target_shape: [patches, size] } },
      { layer: 'Dense', config: { units: width } },
      { layer: 'LayerNormalization' },
      turn,
      { layer: 'Dense', config: { units: 4, activation: 'gelu' } },
      { layer: 'Dense', config: { units: patches } },
      turn,
      { layer: 'Add', inputs: [2, 7] },
      { layer: 'LayerNormalization' },
      { layer: 'Dense', config: { units: 2 * width, activation: 'gelu' } },
      { layer: 'Dense', config: { units: width } },
      { layer: 'Add', inputs: [8, 11] },
      { layer: 'GlobalAveragePooling1D' },
      { layer: 'Dense', config: { units: classes, activation: 'softmax' } },
    ],
  )
}

/** The kinds of model that a volunteer trains, each of 36 whole numbers below 9 and three classes. */
export const kinds: readonly { name: string; json: string }[] = (() => {
  const last: LayerSpec = { layer: 'Dense', config: { units: 3, activation: 'softmax' } }
  const image: LayerSpec = { layer: 'Reshape', config: { target_shape: [6, 6, 1] } }
  const convolution = {
    layer: 'Conv2D',
    config: { filters: 4, kernel_size: 3, activation: 'relu' },
  }
  const words = { layer: 'Embedding', config: { input_dim: 9, output_dim: 6 } }
  const flat = { layer: 'Flatten' }
  const layers = {
    convolution: [image, convolution, { layer: 'MaxPooling2D' }, flat, last],
    recurrent: [words, { layer: 'LSTM', config: { units: 8 } }, last],
    transfer: [image, { ...convolution, frozen: true as const }, flat, last],
  }
  const made = Object.entries(layers).map(([name, list]) => ({
    name,
    json: branchingJson([36], list),
  }))
  return [...made, { name: 'attention', json: transformerJson(36, 9, 3) }]
})()

export function topologyOf(json: string): Topology {
  return readTopology(json, { memoryBytes: 2 ** 30, batchSize: 64 })
}

/** Seeded params: small normal numbers, variances 1 and means 0. */
export function paramsOf(
  { tensors }: { tensors: readonly TensorSpec[] },
  seed = 1,
  spread = 0.5,
): Float32Array {
  const random = randomFrom(seed)
  const params = new Float32Array(sizeOf(tensors))
  let at = 0
  for (const { shape, role } of tensors) {
    const end = at + shape.reduce((a, b) => a * b, 1)
    for (; at < end; at++)
      params[at] = role === 'trainable' ? spread * normal(random) : role === 'mean' ? 0 : 1
  }
  return params
}

/** A manifest of a table model with columns x0, x1 ... and the classes a, b ... */
export function tableManifest(
  json: string,
  { inputs, classes, ...overrides }: { inputs: number; classes: number } & Partial<Manifest>,
): Manifest {
  return {
    manifest: 1,
    name: 'table',
    version: '1.0.0',
    title: 'A table',
    license: 'Apache-2.0',
    owner: '12D3KooWJDwWc1wTDhBqvcbuJ8kkFmaaoDVW6bbGkSxVyUfEsARx',
    parents: [],
    task: 'tabular-classification',
    input: {
      kind: 'table',
      columns: Array.from({ length: inputs }, (_, i) => `x${i}`),
      dtype: 'float32',
    },
    output: {
      kind: 'classes',
      labels: Array.from({ length: classes }, (_, i) => String.fromCharCode(97 + i)),
    },
    preprocess: [],
    train: {
      loss: 'categoricalCrossentropy',
      optimizer: { name: 'sgd', learningRate: 0.1 },
      momentum: 0.9,
      batchSize: 16,
      stepsPerRound: 5,
      strict: true,
      validation: 0.2,
      seed: 1,
      metrics: ['accuracy', 'loss'],
    },
    gossip: { rule: 'swap', codec: 'int8', swapsPerRound: 2 },
    data: { accept: ['csv'] },
    tensors: topologyOf(json).tensors.map((tensor) => ({ ...tensor, shape: [...tensor.shape] })),
    files: [],
    ...overrides,
  }
}

/** A manifest of an image model with the classes a, b ... */
export function imageManifest(
  json: string,
  shape: [number, number, 1 | 3 | 4],
  overrides: Partial<Manifest> = {},
): Manifest {
  return tableManifest(json, {
    inputs: 1,
    classes: 2,
    task: 'image-classification',
    input: { kind: 'image', shape, dtype: 'float32' },
    preprocess: [{ op: 'scale', multiply: 1 / 255 }],
    data: { accept: ['imagefolder', 'csv'] },
    ...overrides,
  })
}
