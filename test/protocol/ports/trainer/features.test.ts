import { describe, expect, test } from 'vitest'
import { startHelper } from '../../../../node/threads.ts'
import { createTrainer } from '../../../../node/trainer.ts'
import { codecs } from '../../../../protocol/codec/table.ts'
import { forEachTensor, sizeOf, type TensorSpec } from '../../../../protocol/params.ts'
import {
  createEngineTrainer,
  createGraphTrainer,
} from '../../../../protocol/ports/trainer/engine.ts'
import { featuresOf, fits } from '../../../../protocol/ports/trainer/features.ts'
import { graphOf } from '../../../../protocol/ports/trainer/topology.ts'
import type { Features, Trainer } from '../../../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { binaries, type LayerSpec } from '../../../support/engine.ts'
import { branchingJson, paramsOf, topologyOf } from '../../../support/models.ts'

/** More than the frozen start takes at once. */
const BATCH = 13
const json = branchingJson(
  [4, 4, 1],
  [
    { layer: 'Conv2D', config: { filters: 3, kernel_size: 3, activation: 'relu' }, frozen: true },
    { layer: 'BatchNormalization', frozen: true },
    { layer: 'GlobalAveragePooling2D' },
    { layer: 'Dense', config: { units: 5, activation: 'relu' } },
    { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
  ],
)
const topology = topologyOf(json)
const params = paramsOf(topology)
const held = paramsOf({ tensors: topology.frozen }, 2)
const random = randomFrom(3)
const inputs = Float32Array.from({ length: 20 * 16 }, () => normal(random))
const labels = Int32Array.from({ length: BATCH }, (_, i) => i % 3)

const trainers = async (): Promise<[cut: Trainer, whole: Trainer]> => {
  const frozen = codecs.float32.encode(held, topology.frozen)
  const options = { batchSize: BATCH, binaries, simd: 'auto', frozen: held } as const
  return [
    await createTrainer(json, { backend: 'engine', batchSize: BATCH, frozen }),
    await createGraphTrainer(graphOf(topology), options),
  ]
}

describe('a trainer of a model that begins with frozen layers', () => {
  test('has the gradient and the loss of the whole, to the bit, on inputs as on features', async () => {
    const [cut, whole] = await trainers()
    const { features } = cut
    expect([features!.size, cut.inputSize, features!.rest.inputSize]).toEqual([3, 16, 3])
    const kept = features!.of(inputs, BATCH)
    const found = [cut, whole, features!.rest].map((trainer) => {
      const gradient = new Float32Array(params.length)
      const values = trainer === features!.rest ? kept : inputs
      const batch = { inputs: values, labels, size: BATCH, seed: 1 }
      return { loss: trainer.gradientInto(gradient, params.slice(), batch), gradient }
    })
    expect(found[0]).toEqual(found[1])
    expect(found[2]).toEqual(found[1])
    for (const each of [cut, whole]) each.close()
  })

  test('predicts what the whole predicts, of more examples than a batch has', async () => {
    const [cut, whole] = await trainers()
    for (const each of [cut, whole]) each.load(params)
    expect(cut.predict(inputs, 20)).toEqual(whole.predict(inputs, 20))
    expect(cut.features!.rest.predict(cut.features!.of(inputs, 20), 20)).toEqual(
      whole.predict(inputs, 20),
    )
    for (const each of [cut, whole]) each.close()
  })

  test('has the same features and predictions for any number of threads', async () => {
    const found = []
    for (const threads of [1, 2, 3]) {
      const trainer = await createEngineTrainer(topology, {
        ...{ batchSize: BATCH, binaries, simd: 'auto', frozen: held, threads, startHelper },
      })
      trainer.load(params)
      found.push([trainer.features!.of(inputs, 20), trainer.predict(inputs, 20)])
      trainer.close()
    }
    expect(found[0]![0]!.some((value) => value !== 0)).toBe(true)
    expect(found[1]).toEqual(found[0])
    expect(found[2]).toEqual(found[0])
  })

  test('is an ordinary one where nothing is frozen', async () => {
    const plain = branchingJson([4], [{ layer: 'Dense', config: { units: 3, activation: 'softmax' } }]) // biome-ignore format: a row
    const trainer = await createTrainer(plain, { backend: 'engine', batchSize: BATCH })
    expect(trainer.features).toBeUndefined()
    trainer.close()
  })
})

test('a model of the size of MobileNet learns its head from features', async () => {
  const conv = (layer: string, config: object): LayerSpec[] => [
    { layer, config: { padding: 'same', use_bias: false, ...config }, frozen: true },
    { layer: 'BatchNormalization', frozen: true },
    { layer: 'ReLU', config: { max_value: 6 } },
  ]
  const block = (filters: number, strides: number) => [
    ...conv('DepthwiseConv2D', { kernel_size: 3, strides }),
    ...conv('Conv2D', { kernel_size: 1, filters }),
  ]
  // Howard et al. 2017, table 1.
  const wide = Array.from({ length: 5 }, () => block(512, 1)).flat()
  const mobileNet = branchingJson(
    [32, 32, 3],
    [
      ...conv('Conv2D', { kernel_size: 3, strides: 2, filters: 32 }),
      ...[...block(64, 1), ...block(128, 2), ...block(128, 1), ...block(256, 2), ...block(256, 1)],
      ...[...block(512, 2), ...wide, ...block(1024, 2), ...block(1024, 1)],
      { layer: 'GlobalAveragePooling2D' },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ],
  )
  const { tensors, frozen, demand } = topologyOf(mobileNet)
  expect([sizeOf(tensors), sizeOf(frozen)]).toEqual([3 * 1025, 3_228_864])
  const work = demand.nodes.map(({ multiplyAdds }) => multiplyAdds)
  expect(work.at(-1)! / demand.multiplyAdds).toBeLessThan(1 / 1000)
  const trainer = await createTrainer(mobileNet, {
    ...{ backend: 'engine', batchSize: 12 },
    frozen: codecs.float32.encode(startOf(frozen), frozen),
  })
  const { of, rest, size } = trainer.features!
  expect(size).toBe(1024)
  const images = Float32Array.from({ length: 12 * 32 * 32 * 3 }, () => normal(random))
  const batch = { inputs: of(images, 12), labels: Int32Array.from({ length: 12 }, (_, i) => i % 3) }
  const head = rest.floats(sizeOf(tensors))
  const gradient = rest.floats(head.length)
  const optimizer = rest.createOptimizer({ name: 'adam', learningRate: 0.01 })
  const losses = Array.from({ length: 200 }, (_, seed) => {
    const loss = rest.gradientInto(gradient, head, { ...batch, size: 12, seed })
    optimizer.step(head, gradient)
    return loss
  })
  expect(losses[0]).toBeCloseTo(Math.log(3), 5)
  expect(losses.at(-1)).toBeLessThan(0.5)
  trainer.load(head)
  const whole = trainer.predict(images, 12)
  rest.load(head)
  expect(rest.predict(batch.inputs, 12)).toEqual(whole)
  trainer.close()
})

/** Kernels as He et al. 2015 draw them, normalisations that change nothing. */
function startOf(tensors: readonly TensorSpec[]): Float32Array {
  const params = new Float32Array(sizeOf(tensors))
  forEachTensor(tensors, ({ name, shape, role }, start, end) => {
    const inputs = shape.slice(0, name.endsWith('depthwise_kernel') ? 2 : 3).reduce((a, b) => a * b)
    const one = () => (shape.length === 4 ? Math.sqrt(2 / inputs) * normal(random) : 1)
    const isZero = role === 'mean' || name.endsWith('beta')
    for (let i = start; i < end; i++) params[i] = isZero ? 0 : one()
  })
  return params
}

describe('features of a set', () => {
  test('are computed once for each example, prepared, in order', async () => {
    const seen: number[] = []
    const features = {
      size: 1,
      of(values: Float32Array, count: number) {
        seen.push(...values.subarray(0, count))
        return values.subarray(0, count).map((value) => 100 + value)
      },
    } as Features
    const count = 601
    const examples = {
      ...{ size: count, width: 1, labels: Uint16Array.from({ length: count }, (_, i) => i % 7) },
      inputs: Uint8Array.from({ length: count }, (_, i) => i % 256),
    }
    const affine = { multiply: new Float64Array([2]), add: new Float64Array([1]) }
    const done: number[] = []
    const found = await featuresOf(features, examples, affine, async (some) => done.push(some))
    const wanted = Array.from({ length: count }, (_, i) => 2 * (i % 256) + 1)
    expect(seen).toEqual(wanted)
    expect([...found.inputs]).toEqual(wanted.map((value) => 100 + value))
    expect(found).toMatchObject({ size: count, width: 1, labels: examples.labels })
    expect(done).toEqual([250, 500, 601])
  })

  test('are kept while they have room in what the host has left', () => {
    const features = { size: 1280, spareBytes: 4 * 1280 * 10 } as Features
    expect(fits(features, 10)).toBe(true)
    expect(fits(features, 11)).toBe(false)
  })

  test('are kept while they take half a GiB at most', () => {
    const features = { size: 1280, spareBytes: Number.POSITIVE_INFINITY } as Features
    expect(fits(features, 100_000)).toBe(true)
    expect(fits(features, 105_000)).toBe(false)
  })
})
