/** LSTM and GRU against numbers that are not ours: PyTorch's, in Keras' layout (test/golden/recurrent.py). */
import '@tensorflow/tfjs-backend-cpu'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
// Brings the gradients of tfjs-core's operations; nothing else of it is used.
import '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import type { Graph } from '../../../protocol/engine/graph.ts'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { forwards } from '../../../protocol/ports/trainer/layers.ts'
import {
  bothSimd,
  expectNear,
  graphOf,
  type Results,
  referenceOf,
  runEngine,
} from '../../support/engine.ts'
import { root } from '../../support/sources.ts'

interface Golden {
  layer: string
  config: Config
  /** [steps, values] of an example. */
  inputShape: number[]
  batch: number
  /** In the layer's own order. */
  weights: Record<string, { shape: number[]; values: number[] }>
  input: number[]
  /** What the outputs are weighted by in the sum that is differentiated. */
  ofOutputs: number[]
  outputs: number[]
  /** By `input` and the weights' names. */
  gradients: Record<string, number[]>
}

const golden: Record<string, Golden> = JSON.parse(
  readFileSync(join(root, 'test/golden/recurrent.json'), 'utf8'),
)

describe.each(Object.entries(golden))('%s', (_, cell) => {
  const graph = graphOf(cell.inputShape, [{ layer: cell.layer, config: cell.config }])
  const problem = {
    params: Float32Array.from(Object.values(cell.weights).flatMap(({ values }) => values)),
    frozen: new Float32Array(0),
    ...{ input: Float32Array.from(cell.input), weights: Float32Array.from(cell.ofOutputs) },
    seed: 1,
  }

  test('has its weights in the same order and shape', () => {
    const shapes = Object.entries(cell.weights).map(([name, { shape }]) => [
      `layer1/${name}`,
      shape,
    ])
    expect(graph.tensors.map(({ name, shape }) => [name, shape])).toEqual(shapes)
  })

  test.each(bothSimd)('is planned as PyTorch computes it, in %s SIMD', async (simd) => {
    expectGolden(await runEngine(graph, problem, { batch: cell.batch }, simd), cell)
  })

  test('has a reference that agrees to Float32', () => {
    expectGolden(referenceOf(graph, problem, { batch: cell.batch }).values, cell, 1e-6)
  })

  test('goes over TensorFlow.js as PyTorch computes it', async () => {
    await tf.setBackend('cpu')
    expectGolden(overTfjs(graph, cell), cell)
  })
})

function expectGolden(got: Results, { outputs, gradients }: Golden, tolerance = 1e-5): void {
  expectNear('outputs', got.output!, outputs, tolerance)
  for (const [name, values] of Object.entries(gradients)) {
    const ours = got[name === 'input' ? 'gradient of input' : `gradient of layer1/${name}`]
    expectNear(`gradient of ${name}`, ours!, values, tolerance)
  }
}

/** The layer's forward pass, and what TensorFlow.js' own tape makes of it. */
function overTfjs({ nodes: [, node] }: Graph, cell: Golden): Results {
  return tf.tidy(() => {
    const names = Object.keys(cell.weights)
    const output = (...[x, ...weights]: tf.Tensor[]) =>
      forwards[cell.layer]!([x!], node!, { weight: (_, name) => weights[names.indexOf(name)] })
    const shape = [cell.batch, ...cell.inputShape]
    const args = [
      tf.tensor(cell.input, shape),
      ...Object.values(cell.weights).map(({ values, shape }) => tf.tensor(values, shape)),
    ]
    const ofOutputs = tf.tensor(cell.ofOutputs, [cell.batch, ...node!.outputShape])
    const gradients = tf.grads((...args) => tf.sum(tf.mul(output(...args), ofOutputs)))(args)
    const named = ['input', ...names.map((name) => `layer1/${name}`)]
    return {
      output: output(...args).dataSync(),
      ...Object.fromEntries(
        gradients.map((values, i) => [`gradient of ${named[i]}`, values.dataSync()]),
      ),
    }
  })
}
