import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { tfjsWasmFolder } from '../../../../node/wasm.ts'
import { normalShare } from '../../../../protocol/engine/layers/activation.ts'
import { Fault } from '../../../../protocol/errors.ts'
import { forEachTensor } from '../../../../protocol/params.ts'
import { activations } from '../../../../protocol/ports/trainer/activations.ts'
import { createTfjsTrainer } from '../../../../protocol/ports/trainer/tfjs.ts'
import type { Topology } from '../../../../protocol/ports/trainer/topology.ts'
import type { Batch, Trainer } from '../../../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { binaries } from '../../../support/engine.ts'
import { denseJson, modelJson, paramsOf, topologyOf } from '../../../support/models.ts'

const options = {
  backend: 'wasm',
  wasmPlaces: tfjsWasmFolder(),
  kernels: binaries.plain,
} as const

const batchNormJson = modelJson(
  [2, 3],
  [
    { class_name: 'Flatten', config: {} },
    { class_name: 'Dense', config: { units: 5, activation: 'tanh' } },
    { class_name: 'BatchNormalization', config: { momentum: 0.9 } },
    { class_name: 'Dropout', config: { rate: 0.25 } },
    { class_name: 'Dense', config: { units: 4, use_bias: false } },
    { class_name: 'Activation', config: { activation: 'softmax' } },
  ],
  [
    // Not the layers' order: the manifest's order is the params' order.
    ['layer4/kernel', [5, 4]],
    ['layer1/kernel', [6, 5]],
    ['layer1/bias', [5]],
    ['layer2/moving_variance', [5]],
    ['layer2/gamma', [5]],
    ['layer2/beta', [5]],
    ['layer2/moving_mean', [5]],
  ],
)
const withoutDropout = batchNormJson.replace('"rate":0.25', '"rate":0')

describe('gradient', () => {
  test.each(Object.keys(activations).filter((name) => name !== 'softmax'))(
    'of a dense net with %s agrees with finite differences in float64',
    async (activation) => {
      const topology = topologyOf(denseJson([5, 6, 3], activation))
      await expectFiniteDifferences(topology, (params, batch) =>
        denseLoss(params, batch, [5, 6, 3], activation),
      )
    },
  )

  test('of a net with BatchNorm agrees with finite differences in float64', async () => {
    await expectFiniteDifferences(topologyOf(withoutDropout), batchNormLoss)
  })

  test('is finite where logits are huge: softmax and cross-entropy are fused', async () => {
    const topology = topologyOf(denseJson([4, 3]))
    const trainer = await createTfjsTrainer(topology, options)
    const params = paramsOf(topology, 1, 3_000)
    const gradient = new Float32Array(params.length)
    const loss = trainer.gradientInto(gradient, params, batchOf(trainer, 8))
    expect(loss).toBeGreaterThan(100)
    expect(Number.isFinite(loss) && gradient.every(Number.isFinite)).toBe(true)
    trainer.close()
  })

  test('is of the params as they are now, also when they were changed in place', async () => {
    const topology = topologyOf(denseJson([20, 30, 10]))
    const trainer = await createTfjsTrainer(topology, options)
    const batch = batchOf(trainer, 16)
    const params = paramsOf(topology)
    const gradient = new Float32Array(params.length)
    for (let step = 0; step < 5; step++) trainer.gradientInto(gradient, params, batch)
    params.set(paramsOf(topology, 2))
    const moved = trainer.gradientInto(gradient, params, batch)
    expect(moved).toBeCloseTo(denseLoss(Float64Array.from(params), batch, [20, 30, 10], 'relu'), 4)
    trainer.close()
  })
})

describe('BatchNorm statistics', () => {
  test('move towards the batch by 1 − momentum, and are never in the gradient', async () => {
    const topology = topologyOf(withoutDropout)
    const trainer = await createTfjsTrainer(topology, options)
    const batch = batchOf(trainer, 16)
    const before = paramsOf(topology)
    const params = before.slice()
    const gradient = new Float32Array(params.length).fill(7)
    trainer.gradientInto(gradient, params, batch)
    const { mean, variance } = batchStatistics(Float64Array.from(before), batch)
    forEachTensor(topology.tensors, ({ role }, start, end) => {
      for (let i = start; i < end; i++) {
        if (role === 'trainable') expect(params[i]).toBe(before[i])
        else {
          const seen = (role === 'mean' ? mean : variance)[i - start]!
          expect(params[i]).toBeCloseTo(0.9 * before[i]! + 0.1 * seen, 5)
          expect(gradient[i]).toBe(0)
        }
      }
    })
    trainer.close()
  })
})

describe('prediction', () => {
  test.each([
    ['dense layers', denseJson([6, 8, 3])],
    ['BatchNorm, Dropout and Activation', batchNormJson],
  ])('is what tfjs-layers makes of the same model.json: %s', async (_, json) => {
    const topology = topologyOf(json)
    const trainer = await createTfjsTrainer(topology, options)
    const params = paramsOf(topology)
    const { inputs } = batchOf(trainer, 7)
    trainer.load(params)
    const ours = trainer.predict(inputs, 7)
    const theirs = await predictWithLayers(topology, params, inputs)
    ours.forEach((value, i) => expect(value).toBeCloseTo(theirs[i]!, 5))
    trainer.close()
  })
})

describe('a trainer', () => {
  test('says which backend it really has', async () => {
    const trainer = await createTfjsTrainer(topologyOf(denseJson([2, 2])), options)
    expect(trainer.backend).toBe('wasm')
    trainer.close()
  })

  test('refuses a backend that TensorFlow.js quietly gives up for another', async () => {
    tf.registerBackend('broken', () => {
      throw new Error('no such device')
    })
    const asked = createTfjsTrainer(topologyOf(denseJson([2, 2])), {
      ...options,
      backend: 'broken',
    })
    await expect(asked).rejects.toThrow('the backend broken did not start')
    tf.removeBackend('broken')
    await tf.setBackend('wasm')
  })

  test('keeps the number of tensors steady over 50 steps and predictions, and leaves none', async () => {
    const before = tf.memory().numTensors
    const topology = topologyOf(batchNormJson)
    const trainer = await createTfjsTrainer(topology, options)
    const params = paramsOf(topology)
    const gradient = new Float32Array(params.length)
    const batch = batchOf(trainer, 8)
    const counts = new Set<number>()
    for (let step = 0; step < 50; step++) {
      trainer.gradientInto(gradient, params, { ...batch, seed: step })
      trainer.load(params)
      trainer.predict(batch.inputs, batch.size)
      counts.add(tf.memory().numTensors)
    }
    trainer.close()
    trainer.close()
    expect(counts.size).toBe(1)
    expect(tf.memory().numTensors).toBe(before)
  })

  test('with the same seed drops the same units, with another others', async () => {
    const topology = topologyOf(batchNormJson)
    const trainer = await createTfjsTrainer(topology, options)
    const lossOf = (seed: number) => {
      const params = paramsOf(topology)
      return trainer.gradientInto(new Float32Array(params.length), params, {
        ...batchOf(trainer, 8),
        seed,
      })
    }
    expect(lossOf(3)).toBe(lossOf(3))
    expect(lossOf(3)).not.toBe(lossOf(4))
    trainer.close()
  })

  test('refuses a model that does not end in a softmax', async () => {
    const json = denseJson([2, 2]).replace('softmax', 'sigmoid')
    const thrown = await createTfjsTrainer(topologyOf(json), options).catch((error) => error)
    expect(thrown).toBeInstanceOf(Fault)
    expect(thrown.detail).toMatchObject({ kind: 'verification', type: 'wrong-output' })
    expect(thrown.message).toContain('sigmoid')
  })

  test('names the layer that it cannot train', async () => {
    const topology = topologyOf(denseJson([2, 2]))
    const layers = topology.layers.map((layer) => ({ ...layer, className: 'Strange' }))
    const asked = createTfjsTrainer({ ...topology, layers }, options)
    await expect(asked).rejects.toThrow('does not train Strange')
  })
})

function batchOf(trainer: Trainer, size: number): Batch {
  const random = randomFrom(11)
  return {
    inputs: Float32Array.from({ length: size * trainer.inputSize }, () => normal(random)),
    labels: Int32Array.from({ length: size }, (_, i) => i % trainer.outputSize),
    size,
    seed: 1,
  }
}

const SHIFT = 1e-5

async function expectFiniteDifferences(
  topology: Topology,
  lossOf: (params: Float64Array, batch: Batch) => number,
): Promise<void> {
  const trainer = await createTfjsTrainer(topology, options)
  const batch = batchOf(trainer, 6)
  const params = paramsOf(topology)
  const gradient = new Float32Array(params.length)
  const slow = Float64Array.from(params)
  const loss = trainer.gradientInto(gradient, params, batch)
  trainer.close()
  expect(loss).toBeCloseTo(lossOf(slow, batch), 5)
  slow.forEach((value, i) => {
    const at = (shifted: number) => {
      slow[i] = shifted
      return lossOf(slow, batch)
    }
    const difference = (at(value + SHIFT) - at(value - SHIFT)) / (2 * SHIFT)
    slow[i] = value
    expect(gradient[i], `param ${i}`).toBeCloseTo(difference, 4)
  })
}

const slowActivations: Record<string, (x: number) => number> = {
  linear: (x) => x,
  relu: (x) => Math.max(0, x),
  relu6: (x) => Math.min(6, Math.max(0, x)),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  selu: (x) => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
  softplus: (x) => Math.log1p(Math.exp(x)),
  softsign: (x) => x / (1 + Math.abs(x)),
  swish: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => x * normalShare(x),
}

/** Mean cross-entropy of dense layers whose params lie kernel, bias, kernel, bias. */
function denseLoss(
  params: Float64Array,
  batch: Batch,
  sizes: number[],
  activation: string,
): number {
  let at = 0
  let rows = rowsOf(batch, sizes[0]!)
  for (let i = 0; i + 1 < sizes.length; i++) {
    const [inputs, units] = [sizes[i]!, sizes[i + 1]!]
    const kernel = params.subarray(at, (at += inputs * units))
    const bias = params.subarray(at, (at += units))
    const act = i + 2 < sizes.length ? slowActivations[activation]! : slowActivations.linear!
    rows = dense(rows, kernel, units, bias).map((row) => row.map(act))
  }
  return meanCrossEntropy(rows, batch)
}

function batchNormLoss(params: Float64Array, batch: Batch): number {
  const { hidden, mean, variance } = batchStatistics(params, batch)
  const [gamma, beta] = [params.subarray(60, 65), params.subarray(65, 70)]
  const normal = hidden.map((row) =>
    row.map((x, j) => ((x - mean[j]!) / Math.sqrt(variance[j]! + 1e-3)) * gamma[j]! + beta[j]!),
  )
  return meanCrossEntropy(dense(normal, params.subarray(0, 20), 4), batch)
}

function batchStatistics(params: Float64Array, batch: Batch) {
  const hidden = dense(rowsOf(batch, 6), params.subarray(20, 50), 5, params.subarray(50, 55)).map(
    (row) => row.map(Math.tanh),
  )
  const mean = hidden[0]!.map((_, j) => average(hidden.map((row) => row[j]!)))
  const variance = mean.map((middle, j) => average(hidden.map((row) => (row[j]! - middle) ** 2)))
  return { hidden, mean, variance }
}

function rowsOf({ inputs, size }: Batch, width: number): number[][] {
  return Array.from({ length: size }, (_, i) =>
    Array.from(inputs.subarray(i * width, (i + 1) * width)),
  )
}

function dense(
  rows: number[][],
  kernel: Float64Array,
  units: number,
  bias?: Float64Array,
): number[][] {
  return rows.map((row) =>
    Array.from({ length: units }, (_, j) =>
      row.reduce((sum, x, i) => sum + x * kernel[i * units + j]!, bias?.[j] ?? 0),
    ),
  )
}

function meanCrossEntropy(logits: number[][], { labels }: Batch): number {
  return average(
    logits.map((row, i) => {
      const most = Math.max(...row)
      return most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0)) - row[labels[i]!]!
    }),
  )
}

function average(values: number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length
}

async function predictWithLayers(
  topology: Topology,
  params: Float32Array,
  inputs: Float32Array,
): Promise<Float32Array> {
  const { modelTopology, weightsManifest } = JSON.parse(topology.cleanModelJson)
  const artifacts = {
    modelTopology,
    weightSpecs: weightsManifest[0].weights,
    weightData: params.buffer as ArrayBuffer,
  }
  const model = await tfl.loadLayersModel(tf.io.fromMemory(artifacts))
  const shape = [
    inputs.length / topology.inputShape.reduce((a, b) => a * b, 1),
    ...topology.inputShape,
  ]
  const answer = tf.tidy(
    () => (model.predict(tf.tensor(inputs, shape)) as tf.Tensor).dataSync().slice() as Float32Array,
  )
  model.dispose()
  return answer
}
