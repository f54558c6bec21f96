/**
 * The same model, seed and data on all that trains: the engine's two builds, TensorFlow.js on wasm with the kernel pack, and
 * its plain JavaScript, which is the reference.
 */
import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { tfjsWasmFolder } from '../../../../node/wasm.ts'
import {
  createEngineTrainer,
  unplannedLayersOf,
} from '../../../../protocol/ports/trainer/engine.ts'
import { largestAt } from '../../../../protocol/ports/trainer/evaluate.ts'
import { createTfjsTrainer } from '../../../../protocol/ports/trainer/tfjs.ts'
import type { Topology } from '../../../../protocol/ports/trainer/topology.ts'
import type { Batch, Trainer } from '../../../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { binaries } from '../../../support/engine.ts'
import {
  branchingJson,
  denseJson,
  paramsOf,
  topologyOf,
  transformerJson,
} from '../../../support/models.ts'

const STEPS = 100
const BATCH = 8
const CLASSES = 4
const softmax = { layer: 'Dense', config: { units: CLASSES, activation: 'softmax' } }

const models: Record<string, { topology: Topology; whole?: number }> = {
  dense: { topology: topologyOf(denseJson([12, 16, CLASSES])) },
  'convolutions and pooling': {
    topology: topologyOf(
      branchingJson(
        [10, 10, 2],
        [
          { layer: 'Conv2D', config: { filters: 6, kernel_size: 3, activation: 'relu' } },
          { layer: 'MaxPooling2D', config: {} },
          {
            layer: 'Conv2D',
            config: { filters: 8, kernel_size: 3, strides: 2, padding: 'same', activation: 'relu' },
          },
          { layer: 'AveragePooling2D', config: { padding: 'same' } },
          { layer: 'Flatten' },
          softmax,
        ],
      ),
    ),
  },
  'depthwise convolutions and batch normalisation': {
    topology: topologyOf(
      branchingJson(
        [8, 8, 3],
        [
          { layer: 'DepthwiseConv2D', config: { kernel_size: 3, depth_multiplier: 2 } },
          { layer: 'BatchNormalization' },
          { layer: 'Activation', config: { activation: 'relu' } },
          { layer: 'SeparableConv2D', config: { filters: 6, kernel_size: 3, padding: 'same' } },
          { layer: 'MaxPooling2D', config: {} },
          { layer: 'Flatten' },
          softmax,
        ],
      ),
    ),
  },
  'convolutions over steps': {
    topology: topologyOf(
      branchingJson(
        [12, 3],
        [
          {
            layer: 'Conv1D',
            config: { filters: 6, kernel_size: 3, padding: 'causal', dilation_rate: 2 },
          },
          { layer: 'AveragePooling1D', config: {} },
          {
            layer: 'SeparableConv1D',
            config: { filters: 5, kernel_size: 2, padding: 'causal', depth_multiplier: 2 },
          },
          { layer: 'Conv1D', config: { filters: 6, kernel_size: 3, activation: 'relu' } },
          { layer: 'GlobalMaxPooling1D', config: {} },
          softmax,
        ],
      ),
    ),
  },
  'a branch and batch normalisation': {
    topology: topologyOf(
      branchingJson(
        [6, 6, 3],
        [
          { layer: 'Conv2D', config: { filters: 5, kernel_size: 1 } },
          { layer: 'BatchNormalization' },
          { layer: 'Conv2D', config: { filters: 5, kernel_size: 3, padding: 'same' } },
          { layer: 'Add', inputs: [2, 3] },
          { layer: 'Activation', config: { activation: 'relu' } },
          { layer: 'AveragePooling2D', config: { pool_size: 3, strides: 1 } },
          { layer: 'Flatten' },
          softmax,
        ],
      ),
    ),
  },
  'frozen layers among those that learn': {
    topology: topologyOf(
      branchingJson(
        [8, 8, 2],
        [
          { layer: 'Conv2D', config: { filters: 6, kernel_size: 3 }, frozen: true },
          { layer: 'BatchNormalization', frozen: true },
          { layer: 'Activation', config: { activation: 'relu' } },
          { layer: 'Conv2D', config: { filters: 6, kernel_size: 3 } },
          { layer: 'BatchNormalization', frozen: true },
          { layer: 'Flatten' },
          softmax,
        ],
      ),
    ),
  },
  'embedding, LSTM and GRUs': {
    whole: 20,
    topology: topologyOf(
      branchingJson(
        [7],
        [
          { layer: 'Embedding', config: { input_dim: 20, output_dim: 6 } },
          { layer: 'LSTM', config: { units: 8, return_sequences: true } },
          { layer: 'GRU', config: { units: 8, return_sequences: true } },
          { layer: 'GRU', config: { units: 8, reset_after: true } },
          softmax,
        ],
      ),
    ),
  },
  transformer: { topology: topologyOf(transformerWithoutDropout(6, 15, CLASSES)), whole: 15 },
}

test.each(Object.entries(models))(
  'losses of 100 steps are the same: %s',
  { timeout: 60_000 },
  async (_, { topology, whole }) => {
    const lossesOf = async (trainer: Trainer) => {
      const losses = walk(trainer, topology, whole)
      trainer.close()
      return losses
    }
    const reference = await lossesOf(await tfjs(topology, 'cpu'))
    expect(reference.at(-1)).toBeLessThan(0.9 * reference[0]!)
    const others = [
      await lossesOf(await tfjs(topology, 'wasm')),
      await lossesOf(await planned(topology, 'plain')),
      await lossesOf(await planned(topology, 'relaxed')),
    ]
    for (const losses of others) {
      const off = losses.map((loss, step) => Math.abs(loss - reference[step]!))
      expect(Math.max(...off)).toBeLessThan(1e-3)
    }
  },
)

test('no model here has a layer that the engine does not plan', () => {
  expect(Object.values(models).flatMap(({ topology }) => unplannedLayersOf(topology))).toEqual([])
})

test.each(['wasm', 'cpu'] as const)('on %s steps leave no tensors behind', async (backend) => {
  const { topology } = models['frozen layers among those that learn']!
  const before = tf.memory().numTensors
  const trainer = await tfjs(topology, backend)
  const params = paramsOf(topology)
  const gradient = new Float32Array(params.length)
  const counts = Array.from({ length: 20 }, (_, step) => {
    trainer.gradientInto(gradient, params, batchOf(trainer, step))
    return tf.memory().numTensors
  })
  trainer.close()
  expect(new Set(counts).size).toBe(1)
  expect(tf.memory().numTensors).toBe(before)
})

const kernels = binaries.plain
const tfjs = (topology: Topology, backend: 'wasm' | 'cpu') =>
  createTfjsTrainer(topology, {
    ...{ backend, wasmPlaces: tfjsWasmFolder(), kernels, frozen: frozenOf(topology) },
  })

const planned = (topology: Topology, simd: 'plain' | 'relaxed') =>
  createEngineTrainer(topology, { batchSize: BATCH, binaries, simd, frozen: frozenOf(topology) })

const frozenOf = ({ frozen }: Topology) => paramsOf({ tensors: frozen }, 5, 0.4)

function walk(trainer: Trainer, topology: Topology, whole?: number): number[] {
  const start = paramsOf(topology, 1, 0.4)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: 'sgd', learningRate: 0.1 })
  return Array.from({ length: STEPS }, (_, step) => {
    const loss = trainer.gradientInto(gradient, params, batchOf(trainer, step % 4, whole))
    optimizer.step(params, gradient)
    return loss
  })
}

/** The class is where the largest of the first values stands, or what the first word leaves when divided. */
function batchOf({ inputSize }: Trainer, seed: number, whole?: number): Batch {
  const random = randomFrom(seed)
  const draw = () => (whole ? Math.floor(whole * random()) : normal(random))
  const inputs = Float32Array.from({ length: BATCH * inputSize }, draw)
  const labels = Int32Array.from({ length: BATCH }, (_, row) => {
    const first = inputs.subarray(row * inputSize, row * inputSize + CLASSES)
    return whole ? first[0]! % CLASSES : largestAt(first)
  })
  return { inputs, labels, size: BATCH, seed }
}

/** Backends draw dropped units differently. */
function transformerWithoutDropout(...sizes: [number, number, number]): string {
  return transformerJson(...sizes).replace('"rate":0.1', '"rate":0')
}
