import type { Graph, Node } from '../../protocol/engine/graph.ts'
import { graphOf, type LayerSpec } from '../support/graph.ts'
import { denseJson } from '../support/models.ts'

/** A model that bench `train` times: one row here, for both sides. */
export interface TrainModel {
  name: string
  /** As a model.json, or as a graph where layers branch. */
  source: { json: string } | { graph: Graph }
  optimizer: 'sgd' | 'adam'
  /** Multiply-adds of one example's forward pass, and of one whole step's: three times that, but for the first layer two. */
  multiplyAdds: { forward: number; firstLayer: number }
  /** The same model in PyTorch: see yardstick.py. */
  torch: { model: string; input: number[]; vocabulary?: number }
  /** Share of PyTorch's speed to reach, plain and relaxed. */
  reach: { plain: number; relaxed: number }
}

const dense = {
  source: { json: denseJson([784, 128, 10]) },
  multiplyAdds: { forward: 784 * 128 + 128 * 10, firstLayer: 784 * 128 },
  torch: {
    model: 'nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))',
    input: [784],
  },
}

const denseLayer = (units: number, settings = {}): LayerSpec => ({
  layer: 'Dense',
  config: { units, ...settings },
})

/** Embedding of 1,000 words in 32 values, LSTM of 64 units over 40 steps: 57,482 params; PyTorch's LSTM has a second bias. */
const recurrent = {
  source: {
    graph: graphOf(
      [40],
      [
        { layer: 'Embedding', config: { input_dim: 1000, output_dim: 32 } },
        { layer: 'LSTM', config: { units: 64, recurrent_activation: 'sigmoid' } },
        denseLayer(10),
      ],
    ),
  },
  multiplyAdds: { forward: 40 * (32 + 64) * 256 + 64 * 10, firstLayer: 0 },
  torch: {
    model:
      'nn.Sequential(nn.Embedding(1000, 32), Last(nn.LSTM(32, 64, batch_first=True)), nn.Linear(64, 10))',
    ...{ input: [40], vocabulary: 1000 },
  },
}

/** Two blocks of 64 values and 4 heads over 32 of 1,000 words, normalised before: 133,632 params. */
function transformer(): Graph {
  const layers: LayerSpec[] = [
    { layer: 'Embedding', config: { input_dim: 1000, output_dim: 64 } },
    { layer: 'PositionEmbedding', config: { sequence_length: 32 } },
    { layer: 'Add', inputs: [1, 2] },
  ]
  for (let block = 0; block < 2; block++) {
    const x = layers.length
    layers.push(
      { layer: 'LayerNormalization' },
      {
        layer: 'MultiHeadAttention',
        config: { num_heads: 4, key_dim: 16 },
        inputs: [x + 1, x + 1],
      },
      { layer: 'Add', inputs: [x, x + 2] },
      { layer: 'LayerNormalization' },
      denseLayer(128, { activation: 'gelu' }),
      denseLayer(64),
      { layer: 'Add', inputs: [x + 3, x + 6] },
    )
  }
  return graphOf(
    [32],
    [...layers, { layer: 'GlobalAveragePooling1D' }, denseLayer(10, { use_bias: false })],
  )
}

/** Two blocks over 16 patches of 49 pixels, in 64 values: 39,658 params. Tolstikhin et al. 2021. */
function mixer(): Graph {
  const turn: LayerSpec = { layer: 'Permute', config: { dims: [2, 1] } }
  const layers = [denseLayer(64)]
  for (let block = 0; block < 2; block++) {
    const x = layers.length
    layers.push(
      { layer: 'LayerNormalization' },
      turn,
      denseLayer(32, { activation: 'gelu' }),
      denseLayer(16),
      turn,
      { layer: 'Add', inputs: [x, x + 5] },
      { layer: 'LayerNormalization' },
      denseLayer(128, { activation: 'gelu' }),
      denseLayer(64),
      { layer: 'Add', inputs: [x + 6, x + 9] },
    )
  }
  return graphOf([16, 49], [...layers, { layer: 'GlobalAveragePooling1D' }, denseLayer(10)])
}

const conv = (filters: number, size: number, padding: 'valid' | 'same'): LayerSpec => ({
  layer: 'Conv2D',
  config: { filters, kernel_size: size, padding, activation: 'relu' },
})
const pool: LayerSpec = { layer: 'MaxPooling2D', config: {} }

/** Convolutions and pools, then two dense layers. */
function imageModel(inputShape: number[], layers: LayerSpec[], units: number, body: string) {
  const graph = graphOf(inputShape, [
    ...layers,
    { layer: 'Flatten' },
    denseLayer(units, { activation: 'relu' }),
    denseLayer(10),
  ])
  const flat = graph.nodes.at(-4)!.outputShape.reduce((a, b) => a * b)
  const [height, width, channels] = inputShape as [number, number, number]
  const model = `nn.Sequential(${body}, nn.Flatten(), nn.Linear(${flat}, ${units}), nn.ReLU(), nn.Linear(${units}, 10))`
  return {
    ...{ source: { graph }, multiplyAdds: countsOf(graph), optimizer: 'sgd' as const },
    torch: { model, input: [channels, height, width] },
  }
}

/** Convolution, depthwise and pointwise, each behind a relu and two of them normalised: 1,674 params, running means included. */
function depthwiseModel() {
  const graph = graphOf(
    [32, 32, 3],
    [
      ...[conv(16, 3, 'same'), { layer: 'BatchNormalization' }],
      {
        layer: 'DepthwiseConv2D',
        config: { kernel_size: 3, padding: 'same', activation: 'relu' },
      },
      ...[conv(32, 1, 'valid'), { layer: 'BatchNormalization' }],
      ...[{ layer: 'GlobalAveragePooling2D' }, denseLayer(10)],
    ],
  )
  const body = [
    ...[torchConv(3, 16, 3, 1), 'nn.BatchNorm2d(16)'],
    ...['nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU()', torchConv(16, 32, 1)],
    ...['nn.BatchNorm2d(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)'],
  ].join(', ')
  return {
    ...{ source: { graph }, multiplyAdds: countsOf(graph), optimizer: 'sgd' as const },
    torch: { model: `nn.Sequential(${body})`, input: [3, 32, 32] },
  }
}

function countsOf(graph: Graph): TrainModel['multiplyAdds'] {
  const counts = graph.nodes.slice(1).map(multiplyAdds)
  return { forward: counts.reduce((a, b) => a + b), firstLayer: counts[0]! }
}

/** Of one example's forward pass; nothing for layers that do not multiply. */
function multiplyAdds({ className, config, inputShapes: [input], outputShape }: Node): number {
  const outputs = outputShape.reduce((a, b) => a * b)
  if (className === 'Dense') return input!.at(-1)! * outputs
  if (!className.endsWith('Conv2D')) return 0
  const [down, across] = config.kernel_size as [number, number]
  if (className === 'DepthwiseConv2D') return down * across * outputs
  return down * across * input!.at(-1)! * outputs
}

const torchConv = (from: number, to: number, size: number, padding = 0) =>
  `nn.Conv2d(${from}, ${to}, ${size}, padding=${padding}), nn.ReLU()`
const torchPool = 'nn.MaxPool2d(2)'

export const trainModels: readonly TrainModel[] = [
  { name: 'dense SGD', ...dense, optimizer: 'sgd', reach: { plain: 0.8, relaxed: 1.2 } },
  { name: 'dense Adam', ...dense, optimizer: 'adam', reach: { plain: 1, relaxed: 1.3 } },
  {
    name: 'embedding + LSTM 64',
    ...recurrent,
    optimizer: 'sgd',
    reach: { plain: 0.4, relaxed: 0.5 },
  },
  {
    name: 'transformer d64',
    source: { graph: transformer() },
    multiplyAdds: {
      forward: 2 * (32 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * 32 * 32 * 64),
      firstLayer: 0,
    },
    torch: { model: 'Transformer()', input: [32], vocabulary: 1000 },
    optimizer: 'sgd',
    reach: { plain: 0.5, relaxed: 0.6 },
  },
  {
    name: 'MLP-mixer',
    source: { graph: mixer() },
    multiplyAdds: {
      forward: 16 * 49 * 64 + 2 * (2 * 64 * 16 * 32 + 2 * 16 * 64 * 128) + 640,
      firstLayer: 16 * 49 * 64,
    },
    torch: { model: 'Mixer()', input: [16, 49] },
    optimizer: 'sgd',
    reach: { plain: 0.5, relaxed: 0.6 },
  },
  {
    name: 'handwriting CNN',
    ...imageModel(
      [28, 28, 1],
      [
        conv(32, 3, 'valid'),
        conv(32, 3, 'valid'),
        pool,
        conv(64, 3, 'valid'),
        conv(64, 3, 'valid'),
        pool,
      ],
      512,
      [
        ...[torchConv(1, 32, 3), torchConv(32, 32, 3), torchPool],
        ...[torchConv(32, 64, 3), torchConv(64, 64, 3), torchPool],
      ].join(', '),
    ),
    reach: { plain: 0.7, relaxed: 0.85 },
  },
  {
    name: 'CNN 32x32x3',
    ...imageModel(
      [32, 32, 3],
      [conv(32, 3, 'same'), conv(32, 3, 'same'), pool, conv(64, 3, 'same'), pool],
      128,
      [
        ...[torchConv(3, 32, 3, 1), torchConv(32, 32, 3, 1), torchPool],
        ...[torchConv(32, 64, 3, 1), torchPool],
      ].join(', '),
    ),
    reach: { plain: 0.65, relaxed: 0.8 },
  },
  {
    name: 'LeNet 5x5',
    ...imageModel(
      [28, 28, 1],
      [conv(32, 5, 'same'), pool, conv(64, 5, 'same'), pool],
      128,
      [torchConv(1, 32, 5, 2), torchPool, torchConv(32, 64, 5, 2), torchPool].join(', '),
    ),
    reach: { plain: 0.5, relaxed: 0.6 },
  },
  {
    name: 'depthwise + batch-norm',
    ...depthwiseModel(),
    reach: { plain: 0.7, relaxed: 0.8 },
  },
]
