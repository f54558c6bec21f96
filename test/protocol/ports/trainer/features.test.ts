import { describe, expect, test } from 'vitest'
import { createTrainer } from '../../../../node/trainer.ts'
import { codecs } from '../../../../protocol/codec/table.ts'
import { createGraphTrainer } from '../../../../protocol/ports/trainer/engine.ts'
import { featuresOf, fits } from '../../../../protocol/ports/trainer/features.ts'
import { graphOf } from '../../../../protocol/ports/trainer/topology.ts'
import type { Features, Trainer } from '../../../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { binaries } from '../../../support/engine.ts'
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

  test('is an ordinary one where nothing is frozen', async () => {
    const plain = branchingJson([4], [{ layer: 'Dense', config: { units: 3, activation: 'softmax' } }]) // biome-ignore format: a row
    const trainer = await createTrainer(plain, { backend: 'engine', batchSize: BATCH })
    expect(trainer.features).toBeUndefined()
    trainer.close()
  })
})

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
    let pauses = 0
    const found = await featuresOf(features, examples, affine, async () => pauses++)
    const wanted = Array.from({ length: count }, (_, i) => 2 * (i % 256) + 1)
    expect(seen).toEqual(wanted)
    expect([...found.inputs]).toEqual(wanted.map((value) => 100 + value))
    expect(found).toMatchObject({ size: count, width: 1, labels: examples.labels })
    expect(pauses).toBe(3)
  })

  test('are kept while they take half a GiB at most', () => {
    const features = { size: 1280 } as Features
    expect(fits(features, 100_000)).toBe(true)
    expect(fits(features, 105_000)).toBe(false)
  })
})
