import type { Manifest } from '../../protocol/manifest.ts'

/** Two manifests as a page meets them: pictures that can be drawn, and a table. */
export const digits: Manifest = {
  manifest: 1,
  name: 'digits',
  version: '1.0.0',
  title: 'Handwritten digits',
  license: 'Apache-2.0',
  owner: '12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf',
  parents: [],
  task: 'image-classification',
  input: { kind: 'image', shape: [28, 28, 1], dtype: 'float32' },
  output: { kind: 'classes', labels: ['0', '1', '2', '3'] },
  preprocess: [{ op: 'scale', multiply: 1 / 255 }],
  train: {
    loss: 'categoricalCrossentropy',
    optimizer: { name: 'sgd', learningRate: 0.1 },
    momentum: 0.9,
    batchSize: 8,
    stepsPerRound: 10,
    validation: 0.1,
    seed: 1,
    metrics: ['accuracy', 'loss'],
  },
  gossip: { rule: 'swap', codec: 'int8', swapsPerRound: 2 },
  data: { accept: ['imagefolder', 'csv'] },
  tensors: [{ name: 'kernel', shape: [784, 4], role: 'trainable' }],
  files: [],
}

export const flowers: Manifest = {
  ...digits,
  name: 'flowers',
  task: 'tabular-classification',
  input: { kind: 'table', columns: ['length', 'width'], dtype: 'float32' },
  output: { kind: 'classes', labels: ['setosa', 'virginica'] },
  preprocess: [],
  data: { accept: ['csv'] },
}
