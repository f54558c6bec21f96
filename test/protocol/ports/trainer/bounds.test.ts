import { describe, expect, test } from 'vitest'
import { startHelper } from '../../../../node/threads.ts'
import type { HelperInit } from '../../../../protocol/engine/channel.ts'
import { cutOf, START_BATCH } from '../../../../protocol/engine/cut.ts'
import { createEngine, planMemory } from '../../../../protocol/engine/engine.ts'
import { helperBytes } from '../../../../protocol/engine/space.ts'
import { Fault } from '../../../../protocol/errors.ts'
import { sizeOf } from '../../../../protocol/params.ts'
import { MAX_STEP_MULTIPLY_ADDS } from '../../../../protocol/ports/trainer/bounds.ts'
import { createEngineTrainer } from '../../../../protocol/ports/trainer/engine.ts'
import {
  graphOf as graphOfTopology,
  readTopology,
} from '../../../../protocol/ports/trainer/topology.ts'
import { binaries, type LayerSpec } from '../../../support/engine.ts'
import { branchingJson, denseJson, mixerJson, transformerJson } from '../../../support/models.ts'

const limits = { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 32 }
const softmax: LayerSpec = { layer: 'Dense', config: { units: 2, activation: 'softmax' } }
const chain = (inputShape: number[], ...layers: LayerSpec[]) =>
  branchingJson(inputShape, [...layers, softmax])
const pool = (size: number, config: object = {}): LayerSpec => ({
  ...{ layer: 'MaxPooling2D', config: { pool_size: size, ...config } },
})

describe('memory', () => {
  test.each([
    ['dense', denseJson([20, 30, 5])],
    ['a transformer', transformerJson(6, 9, 3)],
    ['a mixer', mixerJson(3, 4, 5)],
    [
      'recurrent',
      chain([5], { layer: 'Embedding', config: { input_dim: 7, output_dim: 3 } }, { layer: 'LSTM', config: { units: 4 } }), // biome-ignore format: a row
    ],
    [
      'convolutional',
      chain([9, 9, 2], { layer: 'Conv2D', config: { filters: 3, kernel_size: 3 } }, pool(2), { layer: 'Flatten' }), // biome-ignore format: a row
    ],
  ])('is what the engine takes to the byte, and two copies in flight: %s', async (_, json) => {
    const topology = readTopology(json, limits)
    const graph = graphOfTopology(topology)
    const engine = await createEngine(graph, { batch: limits.batchSize, binaries, simd: 'plain' })
    const copies = 2 * 4 * sizeOf(topology.tensors)
    expect(topology.demand.memoryBytes).toBe(engine.memory.buffer.byteLength + copies)
  })

  test('of a model that begins with frozen layers is that of its two parts', () => {
    const layers: LayerSpec[] = [
      { layer: 'Dense', config: { units: 300, activation: 'relu' }, frozen: true },
      { layer: 'Dense', config: { units: 20, activation: 'relu' } },
      softmax,
    ]
    const topology = readTopology(branchingJson([50], layers), limits)
    const { start, rest } = cutOf(graphOfTopology(topology))!
    const before = planMemory(start, START_BATCH, 'forward').bytes
    const after = planMemory(rest, limits.batchSize).bytes
    const copies = 2 * 4 * sizeOf(topology.tensors)
    expect(topology.demand.memoryBytes).toBe(before + after + copies)
  })

  test.each<[string, { frozen?: true }]>([
    ['a model that learns as a whole', {}],
    ['one that begins with frozen layers', { frozen: true }],
  ])('on three threads is that of the two helpers, too: %s', async (_, held) => {
    const layers: LayerSpec[] = [
      { layer: 'Conv2D', config: { filters: 3, kernel_size: 3 }, ...held },
      { layer: 'Flatten' },
      softmax,
    ]
    const json = branchingJson([9, 9, 2], layers)
    const [alone, helped] = [1, 3].map((threads) => readTopology(json, { ...limits, threads }))
    const inits: HelperInit[] = []
    const trainer = await createEngineTrainer(helped!, {
      ...{ batchSize: limits.batchSize, binaries, simd: 'plain', threads: 3 },
      frozen: new Float32Array(sizeOf(helped!.frozen)),
      startHelper(init, ears) {
        inits.push(init)
        return startHelper(init, ears)
      },
    })
    const engines = await Promise.all(inits.map((init) => createEngine(init.graph, init)))
    const own = engines.map(({ memory }, i) => memory.buffer.byteLength + inits[i]!.own.byteLength)
    const shared = new Set(inits.flatMap(({ params, frozen }) => [params, frozen]))
    const all = [...own, ...Array.from(shared, ({ byteLength }) => byteLength)]
    expect(inits.length).toBe(held.frozen ? 4 : 2)
    expect(helped!.demand.memoryBytes - alone!.demand.memoryBytes).toBe(
      all.reduce((a, b) => a + b, 0),
    )
    trainer.close()
  })

  test('of a helper is that of its part in training: less than half with two', () => {
    const json = chain([24, 24, 4], { layer: 'Conv2D', config: { filters: 16, kernel_size: 3 } }, { layer: 'Flatten' }) // biome-ignore format: a row
    const graph = graphOfTopology(readTopology(json, limits))
    const whole = planMemory(graph, 32).bytes
    expect(helperBytes(graph, { batch: 32, threads: 4 })).toBeLessThan(3 * 0.75 * whole)
  })

  test('grows with the batch', () => {
    const bytes = (batchSize: number) =>
      readTopology(denseJson([2000, 300, 5]), { ...limits, batchSize }).demand.memoryBytes
    expect(bytes(256) - bytes(1)).toBeGreaterThan(4 * 255 * (2000 + 2 * 300))
  })
})

describe('multiply-adds', () => {
  const forward = (json: string) => {
    const { demand } = readTopology(json, { ...limits, batchSize: 1 })
    return demand.nodes.map(({ multiplyAdds }) => multiplyAdds / 3)
  }
  test('of Dense are its kernel once for each place', () => {
    expect(forward(denseJson([784, 128, 10]))).toEqual([784, 784 * 128, 128 * 10])
    expect(forward(chain([3, 4, 5], softmax, { layer: 'Flatten' }))[1]).toBe(12 * 5 * 2)
  })

  test('of Conv2D are its kernel once for each place of the output', () => {
    const conv = { layer: 'Conv2D', config: { filters: 8, kernel_size: [3, 5], strides: 2 } }
    const json = chain([11, 13, 2], conv, { layer: 'Flatten' })
    expect(forward(json)[1]).toBe(5 * 5 * 3 * 5 * 2 * 8)
  })

  test('of pooling are its window at each value', () => {
    const json = chain([8, 8, 3], pool(4, { strides: 2, padding: 'same' }), { layer: 'Flatten' })
    expect(forward(json)[1]).toBe(16 * 4 * 4 * 3)
  })

  test('of an Embedding are none of its table', () => {
    const table = { layer: 'Embedding', config: { input_dim: 1000, output_dim: 8 } }
    expect(forward(chain([6], table, { layer: 'Flatten' }))[1]).toBe(6 * 8)
  })

  test.each([
    ['LSTM', 4],
    ['GRU', 3],
  ])('of %s are both its kernels in each step', (layer, gates) => {
    const run = { layer, config: { units: 5 } }
    expect(forward(chain([7, 3], run))[1]).toBe(7 * gates * 5 * (3 + 5))
    const both = { class_name: layer, config: { name: 'x', units: 5 } }
    const twice = { layer: 'Bidirectional', config: { layer: both } }
    expect(forward(chain([7, 3], twice))[1]).toBe(2 * 7 * gates * 5 * (3 + 5))
  })

  test('of attention are its projections, its scores and their mixture', () => {
    const json = branchingJson(
      [10, 8],
      [
        { layer: 'Dense', config: { units: 8 } },
        { layer: 'MultiHeadAttention', config: { num_heads: 2, key_dim: 3 }, inputs: [1, 1] },
        { layer: 'Flatten' },
        softmax,
      ],
    )
    expect(forward(json)[2]).toBe(4 * 10 * 8 * 6 + 2 * 10 * 10 * 6)
  })

  test('of a step are three times those of each example', () => {
    const { demand } = readTopology(denseJson([10, 5]), limits)
    expect(demand.multiplyAdds).toBe(3 * 32 * (10 + 10 * 5))
    expect(demand.nodes.reduce((sum, { multiplyAdds }) => sum + multiplyAdds, 0)).toBe(
      demand.multiplyAdds,
    )
  })
})

describe('a model that asks for more than there is is refused, naming its largest layer:', () => {
  const steps = 20_000
  const cases: [name: string, json: string, type: string, says: RegExp][] = [
    [
      'scores of attention over 20,000 steps',
      branchingJson(
        [steps, 4],
        [
          { layer: 'MultiHeadAttention', config: { num_heads: 2, key_dim: 2 }, inputs: [0, 0] },
          { layer: 'GlobalAveragePooling1D' },
          softmax,
        ],
      ),
      'too-much-memory',
      /takes about 1\d{5} MB, expected at most 4295 MB; .* layer1 \(MultiHeadAttention\)/,
    ],
    [
      'a window as large as its image, at each of its pixels',
      chain([1024, 1024, 1], pool(1024, { strides: 1, padding: 'same' }), { layer: 'Flatten' }),
      'too-much-work',
      /takes .* billion multiply-adds, expected at most 4,399 billion; .*layer1 \(MaxPooling2D\)/,
    ],
    [
      'a table of 10^13 values',
      chain([1], { layer: 'Embedding', config: { input_dim: 2 ** 22, output_dim: 2 ** 21 } }, { layer: 'Flatten' }), // biome-ignore format: a row
      'too-many-params',
      /has 8,\S+ params, expected at most 536,870,912; the largest layer is layer1 \(Embedding\)/,
    ],
    [
      'steps by the million',
      chain([2 ** 22, 1], { layer: 'LSTM', config: { units: 16 } }),
      'too-much-memory',
      /layer1 \(LSTM\)/,
    ],
    [
      'a plan of a million calls',
      chain(
        [1024, 1024, 1],
        { layer: 'Conv2D', config: { filters: 1, kernel_size: 1 } },
        { layer: 'Conv2D', config: { filters: 1, kernel_size: 1024, strides: 1023 } },
        { layer: 'Flatten' },
      ),
      'too-much-work',
      /layer2 \(Conv2D\) has more than 65536 kernel calls/,
    ],
  ]
  test.each(cases)('%s', (_, json, type, says) => {
    const fault = faultOf(() => readTopology(json, limits))
    expect(fault.detail).toMatchObject({ kind: 'verification', type })
    expect(fault.message).toMatch(says)
  })

  test('threads that one would have room without', () => {
    const json = chain([9, 9, 2], { layer: 'Conv2D', config: { filters: 3, kernel_size: 3 } }, { layer: 'Flatten' }) // biome-ignore format: a row
    const { memoryBytes } = readTopology(json, limits).demand
    const asked = { ...limits, memoryBytes: memoryBytes + 1000, threads: 4 }
    const fault = faultOf(() => readTopology(json, asked))
    expect(fault.detail).toMatchObject({ type: 'too-much-memory', limitBytes: asked.memoryBytes })
    expect(fault.message).toMatch(/on 4 threads takes about \d+ MB/)
    expect(fault.detail.hint).toContain('fewer threads')
    expect(readTopology(json, { ...asked, threads: 1 }).demand.memoryBytes).toBe(memoryBytes)
  })

  test('a step of more multiply-adds than the host allows', () => {
    const asked = () => readTopology(denseJson([10, 5]), { ...limits, multiplyAdds: 5000 })
    expect(faultOf(asked).detail).toMatchObject({ type: 'too-much-work', layer: 'layer0 (Dense)' })
    expect(MAX_STEP_MULTIPLY_ADDS).toBeGreaterThan(5000)
  })
})

function faultOf(work: () => unknown): Fault {
  try {
    work()
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
  throw new Error('expected a Fault, got none')
}
