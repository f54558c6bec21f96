import '@tensorflow/tfjs-backend-cpu'
import * as tfl from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { createTrainer } from '../../../node/trainer.ts'
import { integerBelow, randomFrom } from '../../../protocol/random.ts'
import { expectNear } from '../../support/engine.ts'
import { paramsOf } from '../../support/models.ts'
import { written } from '../../support/tfjs-model.ts'

const WORDS = 20
const STEPS = 6
const SIZE = 16

test('a recurrent model that tfjs-layers wrote is read, planned, and learns', async () => {
  const recurrentInitializer = 'zeros' as const
  const lstm = tfl.layers.lstm({ units: 8, returnSequences: true, recurrentInitializer })
  const model = tfl.sequential({
    layers: [
      tfl.layers.embedding({ inputDim: WORDS, outputDim: 5, inputLength: STEPS }),
      tfl.layers.bidirectional({ layer: lstm as tfl.RNN, mergeMode: 'concat' }),
      tfl.layers.layerNormalization(),
      tfl.layers.gru({ units: 8, recurrentInitializer }),
      tfl.layers.batchNormalization(),
      tfl.layers.dense({ units: 3, activation: 'softmax' }),
    ],
  })
  const json = await written(model)
  const trainer = await createTrainer(json, { backend: 'auto', batchSize: SIZE })
  expect(trainer.backend).toMatch(/^engine/)
  const start = paramsOf(trainer)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: 'adam', learningRate: 0.02 })
  const random = randomFrom(1)
  const losses = Array.from({ length: 150 }, (_, step) => {
    const inputs = Float32Array.from({ length: SIZE * STEPS }, () => integerBelow(random, WORDS))
    const labels = Int32Array.from({ length: SIZE }, (_, i) => inputs[i * STEPS + 2]! % 3)
    const loss = trainer.gradientInto(gradient, params, { inputs, labels, size: SIZE, seed: step })
    optimizer.step(params, gradient)
    return loss
  })
  const mean = (part: number[]) => part.reduce((a, b) => a + b) / part.length
  expect(mean(losses.slice(-10))).toBeLessThan(mean(losses.slice(0, 10)) / 2)
  const words = Float32Array.from({ length: SIZE * STEPS }, () => integerBelow(random, WORDS))
  const cpu = await createTrainer(json, { backend: 'cpu', batchSize: SIZE })
  for (const each of [trainer, cpu]) each.load(params)
  expectNear('predictions', trainer.predict(words, SIZE), cpu.predict(words, SIZE))
  trainer.close()
  cpu.close()
})
