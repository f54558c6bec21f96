import '@tensorflow/tfjs-backend-cpu'
import * as tfl from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { createTrainer } from '../../../node/trainer.ts'
import { integerBelow, normal, randomFrom } from '../../../protocol/random.ts'
import { paramsOf } from '../../support/models.ts'
import { written } from '../../support/tfjs-model.ts'

const SIDE = 8
const SIZE = 16
const random = randomFrom(1)

/** A line across, down or aslant, in noise. */
function draw(kind: number): number[] {
  const at = integerBelow(random, SIDE)
  const isOn = (y: number, x: number) => [y === at, x === at, (x + y) % SIDE === at][kind]
  return Array.from({ length: SIDE * SIDE }, (_, i) => {
    return 0.2 * normal(random) + (isOn(Math.floor(i / SIDE), i % SIDE) ? 1 : 0)
  })
}

test('a convolutional model that tfjs-layers wrote is read, planned, and learns', async () => {
  const { layers } = tfl
  const relu = 'relu' as const
  const model = tfl.sequential({
    layers: [
      layers.conv2d({ inputShape: [SIDE, SIDE, 1], filters: 16, kernelSize: 3, activation: relu }),
      layers.conv2d({ filters: 16, kernelSize: 3, padding: 'same', activation: relu }),
      layers.depthwiseConv2d({ kernelSize: 3, padding: 'same' }),
      layers.batchNormalization(),
      layers.separableConv2d({ filters: 8, kernelSize: [2, 3], activation: relu }),
      layers.maxPooling2d({ poolSize: 2, strides: 1 }),
      layers.reshape({ targetShape: [4, 24] }),
      layers.conv1d({ filters: 12, kernelSize: 2, activation: relu }),
      layers.globalMaxPooling1d({}),
      layers.dense({ units: 3, activation: 'softmax' }),
    ],
  })
  const json = await written(model)
  const trainer = await createTrainer(json, { backend: 'auto', batchSize: SIZE })
  expect(trainer.backend).toMatch(/^engine/)
  const start = paramsOf(trainer, 1, 0.3)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: 'adam', learningRate: 0.01 })
  const losses = Array.from({ length: 150 }, (_, step) => {
    const labels = Int32Array.from({ length: SIZE }, () => integerBelow(random, 3))
    const inputs = Float32Array.from(Array.from(labels, draw).flat())
    const loss = trainer.gradientInto(gradient, params, { inputs, labels, size: SIZE, seed: step })
    optimizer.step(params, gradient)
    return loss
  })
  const mean = (part: number[]) => part.reduce((a, b) => a + b) / part.length
  expect(mean(losses.slice(-10))).toBeLessThan(mean(losses.slice(0, 10)) / 3)
  trainer.close()
})
