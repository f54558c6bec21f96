import { describe, expect, test } from 'vitest'
import { tfjsWasmFolder } from '../../../../node/wasm.ts'
import { Fault } from '../../../../protocol/errors.ts'
import {
  type Candidate,
  chooseTrainer,
  startTrainer,
  type Ways,
} from '../../../../protocol/ports/trainer/choose.ts'
import { createEngineTrainer } from '../../../../protocol/ports/trainer/engine.ts'
import { createTfjsTrainer } from '../../../../protocol/ports/trainer/tfjs.ts'
import type { Topology } from '../../../../protocol/ports/trainer/topology.ts'
import type { Trainer } from '../../../../protocol/ports/trainer/trainer.ts'
import { binaries, type LayerSpec } from '../../../support/engine.ts'
import { branchingJson, paramsOf, topologyOf } from '../../../support/models.ts'

test('auto takes the engine where it plans every layer, else TensorFlow.js', () => {
  expect(chooseTrainer('auto', [])).toEqual({ type: 'engine', simd: 'auto' })
  expect(chooseTrainer('auto', ['Strange'])).toEqual({ type: 'tfjs', backend: 'auto' })
})

test('what is asked for is taken: plain SIMD, a backend of TensorFlow.js, one of the host', () => {
  expect(chooseTrainer('engine', [])).toEqual({ type: 'engine', simd: 'auto' })
  expect(chooseTrainer('engine-plain', [])).toEqual({ type: 'engine', simd: 'plain' })
  expect(chooseTrainer('wasm', [])).toEqual({ type: 'tfjs', backend: 'wasm' })
  expect(chooseTrainer('cpu', ['Strange'])).toEqual({ type: 'tfjs', backend: 'cpu' })
  expect(chooseTrainer('webgl', [])).toEqual({ type: 'other', backend: 'webgl' })
})

test('the engine refuses a model with a layer it has no plan for, and names the layer', () => {
  expect(() => chooseTrainer('engine', ['Strange'])).toThrow(Fault)
  expect(() => chooseTrainer('engine-plain', ['Strange'])).toThrow('does not train Strange')
})

const BATCH = 8
const topology = topologyOf(
  branchingJson(
    [8, 8, 2],
    [
      { layer: 'Conv2D', config: { filters: 5, kernel_size: 3 } },
      { layer: 'BatchNormalization' },
      { layer: 'Activation', config: { activation: 'relu' } },
      { layer: 'Dropout', config: { rate: 0.5 } },
      { layer: 'Flatten' },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ],
  ),
)

/** Real trainers on a clock of our own: a step takes as long as we say. */
function bench() {
  let time = 0
  let open = 0
  const timed = (trainer: Trainer, ms: number, change: Partial<Trainer> = {}): Trainer => {
    open++
    return {
      ...trainer,
      gradientInto(...given) {
        time += ms
        return trainer.gradientInto(...given)
      },
      close() {
        open--
        trainer.close()
      },
      ...change,
    }
  }
  const tfjs = (topology: Topology, backend: string) =>
    createTfjsTrainer(topology, {
      ...{ backend, wasmPlaces: tfjsWasmFolder(), kernels: binaries.plain },
      frozen: paramsOf({ tensors: topology.frozen }),
    })
  const ways = (others: Candidate[] = []): Ways => ({
    engine: async (topology, simd) =>
      timed(
        await createEngineTrainer(topology, {
          ...{ batchSize: BATCH, binaries, simd },
          frozen: paramsOf({ tensors: topology.frozen }),
        }),
        5,
      ),
    tfjs: async (topology, backend) => timed(await tfjs(topology, backend), 20),
    ...{ others, now: () => time },
  })
  const other = (
    name: string,
    ms: number,
    { backend = name, change = {} }: { backend?: string; change?: Partial<Trainer> } = {},
  ): Candidate => ({
    backend: name,
    start: async (topology) => timed(await tfjs(topology, backend), ms, change),
  })
  const start = (others: Candidate[], backend: 'auto' | 'webgl' = 'auto', of = topology) =>
    startTrainer(of, { backend, batchSize: BATCH }, ways(others))
  return { ways, other, start, openTrainers: () => open }
}

describe('a trial step', () => {
  test('takes the quickest of those that agree with the engine, and leaves no other open', async () => {
    const { other, start, openTrainers } = bench()
    const trainer = await start([other('cpu', 4), other('wasm', 2)])
    expect(trainer.backend).toBe('wasm')
    expect(trainer.remarks).toEqual([])
    expect(openTrainers()).toBe(1)
    trainer.close()
  })

  test('drops nothing, in recurrent layers neither: each backend would drop other values', async () => {
    const { other, start } = bench()
    const gru = { class_name: 'GRU', config: { name: 'inner', units: 3, dropout: 0.5 } }
    const layers = [
      { layer: 'LSTM', config: { units: 4, return_sequences: true, dropout: 0.5 } },
      { layer: 'Bidirectional', config: { layer: gru } },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ]
    const dropping = topologyOf(branchingJson([5, 4], layers))
    const trainer = await start([other('cpu', 1)], 'auto', dropping)
    expect(trainer.remarks).toEqual([])
    expect(trainer.backend).toBe('cpu')
    trainer.close()
  })

  test('stays with the engine where nobody is faster by a tenth, and says who was tried', async () => {
    const { other, start, openTrainers } = bench()
    const trainer = await start([other('cpu', 4.9), other('wasm', 7)])
    expect(trainer.backend).toMatch(/^engine/)
    expect(trainer.remarks).toEqual([
      'cpu is not used: its step takes 4.90 ms, that of engine 5.00 ms',
      'wasm is not used: its step takes 7.00 ms, that of engine 5.00 ms',
    ])
    expect(openTrainers()).toBe(1)
  })

  test('of a model that begins with frozen layers is one on kept features, as in training', async () => {
    const { other, start } = bench()
    const layers: LayerSpec[] = [
      { layer: 'Conv2D', config: { filters: 4, kernel_size: 3, activation: 'relu' }, frozen: true },
      { layer: 'Flatten' },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ]
    // Only the engine's whole step takes time on this clock: the rest of it takes none.
    const trainer = await start([other('cpu', 1)], 'auto', topologyOf(branchingJson([6, 6, 2], layers))) // biome-ignore format: a row
    expect(trainer.backend).toMatch(/^engine/)
    expect(trainer.remarks).toEqual([
      'cpu is not used: its step takes 1.00 ms, that of engine 0.00 ms',
    ])
    trainer.close()
  })

  test('passes over a backend whose gradient is wrong, however fast it is', async () => {
    const { other, start } = bench()
    const candidate = other('wasm', 1)
    const wrong: Candidate = {
      ...candidate,
      async start(topology) {
        const trainer = await candidate.start(topology)
        return {
          ...trainer,
          gradientInto(gradient, ...rest) {
            const loss = trainer.gradientInto(gradient, ...rest)
            gradient[0]! += 1
            return loss
          },
        }
      },
    }
    const trainer = await start([wrong])
    expect(trainer.backend).toMatch(/^engine/)
    expect(trainer.remarks).toEqual([
      expect.stringMatching(
        /^wasm is not used: its step differs by [\d.]+, expected at most 0.001$/,
      ),
    ])
  })

  test('passes over a gradient that is not a number, and predictions that differ', async () => {
    const { other, start } = bench()
    const trainer = await start([
      other('wasm', 1, { change: { gradientInto: () => Number.NaN } }),
      other('cpu', 1, { change: { predict: (_, size) => new Float32Array(3 * size).fill(1 / 3) } }),
    ])
    expect(trainer.backend).toMatch(/^engine/)
    expect(trainer.remarks!.map((remark) => remark.split(' by ')[0])).toEqual([
      'wasm is not used: its step differs',
      'cpu is not used: its step differs',
    ])
  })

  test('reports a backend that quietly is another one, and one that does not start', async () => {
    const { other, start, openTrainers } = bench()
    const trainer = await start([
      other('webgl', 1, { backend: 'wasm' }),
      other('webgpu', 1, { backend: 'no-such-backend' }),
    ])
    expect(trainer.backend).toMatch(/^engine/)
    expect(trainer.remarks).toEqual([
      'webgl is not used: webgl did not start: wasm computes',
      expect.stringMatching(/^webgpu is not used: the backend no-such-backend did not start/),
    ])
    expect(openTrainers()).toBe(1)
  })
})

test('a backend of the host that is asked for is taken untried', async () => {
  const { other, start } = bench()
  const named = other('webgl', 99, { backend: 'cpu', change: { backend: 'webgl' } })
  expect((await start([named], 'webgl')).backend).toBe('webgl')
})

test('one that is asked for and is not there, or quietly is another, is refused', async () => {
  const { other, start, openTrainers } = bench()
  await expect(start([], 'webgl')).rejects.toThrow('there is no webgl here')
  const quiet = start([other('webgl', 1, { backend: 'wasm' })], 'webgl')
  await expect(quiet).rejects.toThrow('webgl did not start: wasm computes')
  expect(openTrainers()).toBe(0)
})

test('TensorFlow.js in plain JavaScript, where its WebAssembly was expected, is said', async () => {
  const { ways } = bench()
  const strange = topology.layers.map((layer, i) =>
    i === 1 ? { ...layer, className: 'S' } : layer,
  )
  const fallenBack: Ways = { ...ways(), tfjs: () => ways().tfjs(topology, 'cpu') }
  const asked = { backend: 'auto', batchSize: BATCH } as const
  const trainer = await startTrainer({ ...topology, layers: strange }, asked, fallenBack)
  expect(trainer.backend).toBe('cpu')
  expect(trainer.remarks).toEqual(['wasm did not start: cpu computes'])
  trainer.close()
})
