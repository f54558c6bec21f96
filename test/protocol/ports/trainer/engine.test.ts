import { beforeAll, describe, expect, test } from 'vitest'
import { tfjsWasmFolder } from '../../../../node/wasm.ts'
import type { Simd } from '../../../../protocol/engine/engine.ts'
import { Fault } from '../../../../protocol/errors.ts'
import { createOptimizer } from '../../../../protocol/optimizer.ts'
import {
  createEngineTrainer,
  unplannedLayersOf,
} from '../../../../protocol/ports/trainer/engine.ts'
import { createTfjsTrainer } from '../../../../protocol/ports/trainer/tfjs.ts'
import type { Topology } from '../../../../protocol/ports/trainer/topology.ts'
import type { Batch, Trainer } from '../../../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { binaries, bothSimd, expectNear } from '../../../support/engine.ts'
import { denseJson, modelJson, paramsOf, topologyOf } from '../../../support/models.ts'

const BATCH = 16
const SIZES = [19, 23, 7]
const dense = topologyOf(denseJson(SIZES))
const recipes = [
  { name: 'sgd', learningRate: 0.1 },
  { name: 'sgd', learningRate: 0.1, weightDecay: 0.01 },
  { name: 'adam', learningRate: 0.01, weightDecay: 0.1 },
  { name: 'adamw', learningRate: 0.01 },
] as const

let tfjs: Trainer
beforeAll(async () => {
  tfjs = await createTfjsTrainer(dense, {
    ...{ backend: 'wasm', wasmPlaces: tfjsWasmFolder(), kernels: binaries.plain },
  })
  return () => tfjs.close()
})

describe.each(bothSimd)('the %s engine', (simd) => {
  test('has the losses of TensorFlow.js over 100 steps', async () => {
    const trainer = await engineTrainer(dense, simd)
    const losses = walk(trainer, dense, 100)
    const others = walk(tfjs, dense, 100)
    expect(losses.at(-1)).toBeLessThan(losses[0]! / 2)
    expectNear('losses', losses, others, 1e-4)
  })

  test('predicts what TensorFlow.js predicts, in batches of any size', async () => {
    const trainer = await engineTrainer(dense, simd)
    const params = paramsOf(dense)
    const { inputs } = batchOf(1, 50)
    for (const each of [trainer, tfjs]) each.load(params)
    expectNear('predictions', trainer.predict(inputs, 50), tfjs.predict(inputs, 50), 1e-5)
  })

  test('takes arrays of its own and of others, to the same bits', async () => {
    const trainer = await engineTrainer(dense, simd)
    const given = paramsOf(dense)
    const own = trainer.floats(given.length)
    own.set(given)
    const [gradient, other] = [trainer.floats(given.length), new Float32Array(given.length)]
    const loss = trainer.gradientInto(gradient, own, batchOf(1))
    expect(trainer.gradientInto(other, given, batchOf(1))).toBe(loss)
    expect(other).toEqual(gradient.slice())
  })

  test('takes a smaller batch, with the gradient of those examples', async () => {
    const trainer = await engineTrainer(dense, simd)
    const params = paramsOf(dense)
    const [gradient, wanted] = [params.slice(), params.slice()]
    const batch = { ...batchOf(3), size: 5 }
    const loss = trainer.gradientInto(gradient, params, batch)
    expect(loss).toBeCloseTo(tfjs.gradientInto(wanted, params, batch), 5)
    expectNear('gradient', gradient, wanted, 1e-5)
  })

  test.each(recipes)(
    'moves params as the slow $name does, weight decay $weightDecay',
    async (recipe) => {
      const trainer = await engineTrainer(dense, simd)
      const start = paramsOf(dense)
      const [params, gradient, direction] = [start, start, start].map(({ length }) =>
        trainer.floats(length),
      ) as [Float32Array, Float32Array, Float32Array]
      params.set(start)
      const fast = trainer.createOptimizer(recipe)
      const slow = createOptimizer(recipe, dense.tensors)
      const random = randomFrom(3)
      for (let step = 0; step < 50; step++) {
        for (let i = 0; i < gradient.length; i++) gradient[i] = normal(random)
        direction.set(gradient.map(Math.sign))
        const mu = step % 2 === 0 ? 0.9 : 0
        fast.step(params, gradient, direction, mu)
        slow.step(start, gradient, direction, mu)
      }
      expect(fast.steps).toBe(50)
      expectNear('params', params, start, 1e-5)
      slow.slots.forEach((slot, i) => expectNear('slot', fast.slots[i]!, slot, 1e-5))
    },
  )

  test('gives the same bits for the same seed, and drops others for another', async () => {
    const topology = topologyOf(dropoutJson)
    const [first, again] = [
      await engineTrainer(topology, simd),
      await engineTrainer(topology, simd),
    ]
    expect(walk(first, topology, 20)).toEqual(walk(again, topology, 20))
    const gradient = new Float32Array(paramsOf(topology).length)
    const lossOf = (seed: number) =>
      first.gradientInto(gradient, paramsOf(topology), { ...batchOf(1), seed })
    expect(lossOf(1)).toBe(lossOf(1))
    expect(lossOf(1)).not.toBe(lossOf(2))
  })

  test('is finite where logits are huge', async () => {
    const trainer = await engineTrainer(dense, simd)
    const params = paramsOf(dense).map((value) => 1e4 * value)
    const gradient = params.slice()
    expect(trainer.gradientInto(gradient, params, batchOf(1))).toBeGreaterThan(0)
    expect(gradient.every(Number.isFinite)).toBe(true)
  })
})

const dropoutJson = modelJson(
  [SIZES[0]!],
  [
    { class_name: 'Dropout', config: { rate: 0.3 } },
    { class_name: 'Dense', config: { units: SIZES[2]! } },
    { class_name: 'Activation', config: { activation: 'softmax' } },
  ],
  [
    ['layer1/kernel', [SIZES[0]!, SIZES[2]!]],
    ['layer1/bias', [SIZES[2]!]],
  ],
)

test('plain SIMD gives one result on every machine: this is it', async () => {
  const trainer = await engineTrainer(dense, 'plain')
  const losses = walk(trainer, dense, 20)
  expect(losses.at(-1)).toMatchInlineSnapshot(`2.035445949128592`)
})

test('a model that does not end in a softmax is refused', async () => {
  const topology = topologyOf(denseJson(SIZES).replace('softmax', 'sigmoid'))
  await expect(engineTrainer(topology, 'plain')).rejects.toThrow(Fault)
})

test('layers without a plan are named', () => {
  expect(unplannedLayersOf(dense)).toEqual([])
  expect(
    unplannedLayersOf({ ...dense, layers: [{ ...dense.layers[0]!, className: 'Strange' }] }),
  ).toEqual(['Strange'])
})

function engineTrainer(topology: Topology, simd: Simd): Promise<Trainer> {
  return createEngineTrainer(topology, { batchSize: BATCH, binaries, simd })
}

/** Losses of so many steps of gradient descent. */
function walk(trainer: Trainer, topology: Topology, steps: number): number[] {
  const start = paramsOf(topology)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: 'sgd', learningRate: 0.1 })
  return Array.from({ length: steps }, (_, step) => {
    const loss = trainer.gradientInto(gradient, params, batchOf(step % 4))
    optimizer.step(params, gradient)
    return loss
  })
}

function batchOf(seed: number, size = BATCH): Batch {
  const random = randomFrom(seed)
  return {
    inputs: Float32Array.from({ length: size * SIZES[0]! }, () => normal(random)),
    labels: Int32Array.from({ length: size }, () => Math.floor(random() * SIZES[2]!)),
    ...{ size, seed },
  }
}
