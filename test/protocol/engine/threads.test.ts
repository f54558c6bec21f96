import { afterEach, describe, expect, test, vi } from 'vitest'
import { startHelper as startInNode } from '../../../node/threads.ts'
import type { Simd } from '../../../protocol/engine/engine.ts'
import type { Graph } from '../../../protocol/engine/graph.ts'
import type { StartHelper } from '../../../protocol/engine/leader.ts'
import { helperBytes } from '../../../protocol/engine/space.ts'
import { createTeam, forwardThreadsFor, threadsFor } from '../../../protocol/engine/team.ts'
import { forEachTensor } from '../../../protocol/params.ts'
import {
  createGraphTrainer,
  type EngineTrainerOptions,
} from '../../../protocol/ports/trainer/engine.ts'
import type { Batch, Trainer } from '../../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom } from '../../../protocol/random.ts'
import {
  binaries,
  bothSimd,
  engineFor,
  expectNear,
  graphOf,
  type LayerSpec,
} from '../../support/engine.ts'
import { paramsOf } from '../../support/models.ts'

const BATCH = 12
const SHAPE = [8, 8, 3]
const CLASSES = 5
const dense = (units: number, settings = {}): LayerSpec => ({
  layer: 'Dense',
  config: { units, ...settings },
})
const convolution = { layer: 'Conv2D', config: { filters: 6, kernel_size: [3, 3] } }
const relu = { layer: 'Activation', config: { activation: 'relu' } }
const head: LayerSpec[] = [
  { layer: 'Flatten' },
  { layer: 'Dropout', config: { rate: 0.4 } },
  dense(CLASSES),
]
const model = graphOf(SHAPE, [convolution, relu, { layer: 'MaxPooling2D' }, ...head])
const normed = graphOf(SHAPE, [convolution, { layer: 'BatchNormalization' }, relu, ...head])

const recurrent = graphOf(SHAPE, [
  { layer: 'Reshape', config: { target_shape: [8, 24] } },
  { layer: 'LSTM', config: { units: 5, dropout: 0.4 } },
  dense(CLASSES),
])

const open: Trainer[] = []
afterEach(() => {
  for (const trainer of open.splice(0)) trainer.close()
})

async function trainerOf(
  graph: Graph,
  threads: number,
  options: Partial<EngineTrainerOptions> = {},
): Promise<Trainer> {
  const trainer = await createGraphTrainer(graph, {
    ...{ batchSize: BATCH, binaries, simd: 'plain', threads, startHelper: startInNode },
    ...options,
  })
  open.push(trainer)
  return trainer
}

function batchOf(seed: number, size = BATCH): Batch {
  const random = randomFrom(seed)
  const width = SHAPE.reduce((a, b) => a * b, 1)
  return {
    inputs: Float32Array.from({ length: size * width }, () => normal(random)),
    labels: Int32Array.from({ length: size }, () => Math.floor(random() * CLASSES)),
    ...{ size, seed },
  }
}

/** The gradient, the loss and the params (whose BatchNorm statistics move) of one batch. */
function gradientOf(trainer: Trainer, batch: Batch) {
  const params = paramsOf(trainer)
  const gradient = new Float32Array(params.length).fill(Number.NaN)
  return { loss: trainer.gradientInto(gradient, params, batch), gradient, params }
}

function walk(trainer: Trainer, steps: number): { losses: number[]; params: Float32Array } {
  const start = paramsOf(trainer)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: 'adam', learningRate: 0.01 })
  const losses = Array.from({ length: steps }, (_, step) => {
    const loss = trainer.gradientInto(gradient, params, batchOf(step % 4))
    optimizer.step(params, gradient)
    return loss
  })
  return { losses, params: params.slice() }
}

describe.each(bothSimd)('threads on the %s engine', (simd: Simd) => {
  test.each([
    ['dropout', model],
    ['dropout in a recurrent layer', recurrent],
  ])(
    'have the gradient of one thread, %s included, whatever the size of the batch',
    async (_, model) => {
      const [one, two, three] = await Promise.all(
        [1, 2, 3].map((threads) => trainerOf(model, threads, { simd })),
      )
      expect([one, two, three].map((trainer) => trainer!.threads)).toEqual([1, 2, 3])
      for (const size of [12, 7, 5, 3, 2, 1]) {
        const wanted = gradientOf(one!, batchOf(size, size))
        for (const trainer of [two!, three!]) {
          const got = gradientOf(trainer, batchOf(size, size))
          expect(got.loss).toBeCloseTo(wanted.loss, 5)
          expectNear(`${trainer.threads} threads, batch ${size}`, got.gradient, wanted.gradient)
        }
      }
    },
  )

  test('give the same bits for the same seed and number of threads', async () => {
    const [first, again, alone] = await Promise.all(
      [3, 3, 1].map((threads) => trainerOf(normed, threads, { simd })),
    )
    const [one, two] = [walk(first!, 12), walk(again!, 12)]
    expect(one).toEqual(two)
    expect(one.losses.at(-1)).toBeLessThan(one.losses[0]!)
    expect(walk(alone!, 12)).not.toEqual(one)
  })

  test('predict the same bits as one thread', async () => {
    const [one, three] = await Promise.all(
      [1, 3].map((threads) => trainerOf(normed, threads, { simd })),
    )
    for (const seed of [1, 2]) {
      const params = paramsOf(one!, seed)
      for (const trainer of [one!, three!]) trainer.load(params)
      for (const size of [50, 37, 13, 3]) {
        const { inputs } = batchOf(seed, size)
        expect(three!.predict(inputs, size)).toEqual(one!.predict(inputs, size))
      }
    }
  })
})

test('BatchNorm takes the statistics of each part; the moving ones are averaged by its size', async () => {
  // Without dropout, which draws by an example's place, a part is a batch of its own.
  const graph = graphOf(SHAPE, [
    ...[convolution, { layer: 'BatchNormalization' }, relu, { layer: 'Flatten' }, dense(CLASSES)],
  ])
  const [one, three] = await Promise.all([1, 3].map((threads) => trainerOf(graph, threads)))
  const whole = batchOf(1, 11)
  const got = gradientOf(three!, whole)
  const wanted = { gradient: got.gradient.map(() => 0), params: got.params.map(() => 0) }
  for (const [first, size] of [
    [0, 4],
    [4, 4],
    [8, 3],
  ] as const) {
    const inputs = whole.inputs.subarray(first * one!.inputSize)
    const labels = whole.labels.subarray(first)
    const part = gradientOf(one!, { inputs, labels, size, seed: 1 })
    for (const name of ['gradient', 'params'] as const)
      part[name].forEach((value, i) => (wanted[name][i]! += (size / whole.size) * value))
  }
  expectNear('gradient', got.gradient, wanted.gradient)
  let moved = 0
  forEachTensor(graph.tensors, ({ role, name }, start, end) => {
    if (role === 'trainable') return
    expectNear(name, got.params.subarray(start, end), wanted.params.subarray(start, end))
    moved += Math.abs(got.params[start]! - paramsOf(one!)[start]!)
  })
  expect(moved).toBeGreaterThan(0)
})

test('frozen weights are those of every thread', async () => {
  const graph = graphOf(SHAPE, [
    { ...convolution, frozen: true },
    ...[relu, { layer: 'Flatten' }, dense(CLASSES)],
  ])
  const gradients = await Promise.all(
    [1, 2].map(async (threads) => {
      const engine = await engineFor(graph, BATCH, 'plain')
      const team = await createTeam(engine, {
        ...{ batch: BATCH, threads, binaries, start: startInNode },
      })
      const [params, gradient] = [engine.floats(engine.size), engine.floats(engine.size)]
      const draw = randomFrom(1)
      for (const values of [engine.frozen, params])
        for (let i = 0; i < values.length; i++) values[i] = 0.3 * normal(draw)
      const places = [params, gradient].map(engine.addressOf) as [number, number]
      team.gradientOf(batchOf(1), ...places)
      team.close()
      return gradient
    }),
  )
  expectNear('gradient', gradients[1]!, gradients[0]!)
  expect(gradients[0]!.some((value) => value !== 0)).toBe(true)
})

test('more threads than examples in a batch are not started', async () => {
  expect((await trainerOf(model, 40)).threads).toBe(BATCH)
})

describe('a thread that is lost', () => {
  /** A thread that says it is ready and then nothing. */
  const silent: StartHelper = (_, { onSaid }) => {
    onSaid({ type: 'ready' })
    return { close: () => {} }
  }

  test('is no wait without end: it has a limit, and a clear fault', async () => {
    const trainer = await trainerOf(model, 2, { startHelper: silent, silenceMs: 20 })
    for (const limit of ['did not answer', 'did not answer'])
      expect(() => gradientOf(trainer, batchOf(1))).toThrow(limit)
    expect(() => gradientOf(trainer, batchOf(1))).toThrow(
      expect.objectContaining({ detail: expect.objectContaining({ type: 'thread-lost' }) }),
    )
  })

  test('is noticed between two steps', async () => {
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    let kill = () => {}
    const trainer = await trainerOf(model, 2, {
      startHelper: (init, ears) => {
        const thread = startInNode(init, {
          ...ears,
          onEnded(error) {
            ears.onEnded(error)
            resolve()
          },
        })
        kill = thread.close
        return thread
      },
    })
    gradientOf(trainer, batchOf(1))
    kill()
    await ended
    expect(() => gradientOf(trainer, batchOf(1))).toThrow('ended by itself')
    trainer.load(paramsOf(trainer))
    expect(() => trainer.predict(batchOf(1, 30).inputs, 30)).toThrow('ended by itself')
  })

  test('says what went wrong in its part', async () => {
    const startHelper: StartHelper = (init, ears) => startInNode({ ...init, batch: 1 }, ears)
    const trainer = await trainerOf(model, 2, { startHelper })
    expect(() => gradientOf(trainer, batchOf(1))).toThrow(
      /failed: .*(batch|plan|offset|range|bounds)/,
    )
  })

  test('before it is ready is a fault too, and the others are ended', async () => {
    const ends: Promise<void>[] = []
    const startHelper: StartHelper = (init, ears) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      const isBroken = ends.push(promise) === 2
      return startInNode(isBroken ? { ...init, simd: 'plain', binaries: nothing } : init, {
        ...ears,
        onEnded(error) {
          ears.onEnded(error)
          resolve()
        },
      })
    }
    await expect(trainerOf(model, 4, { startHelper })).rejects.toThrow(/WebAssembly/)
    expect(ends.length).toBe(3)
    await Promise.all(ends)
  })
})

const nothing = { plain: new Uint8Array(8), relaxed: new Uint8Array(8) }

test('where no memory can be shared there is one thread, and more are refused', async () => {
  vi.stubGlobal('SharedArrayBuffer', undefined)
  try {
    await expect(trainerOf(model, 2)).rejects.toMatchObject({ detail: { type: 'no-threads' } })
    expect((await trainerOf(model, 1)).threads).toBe(1)
  } finally {
    vi.unstubAllGlobals()
  }
})

test('closing a trainer ends its threads', async () => {
  const ends: Promise<void>[] = []
  const startHelper: StartHelper = (init, ears) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    ends.push(promise)
    return startInNode(init, { ...ears, onEnded: () => resolve() })
  }
  const trainer = await trainerOf(model, 3, { startHelper })
  gradientOf(trainer, batchOf(1))
  trainer.close()
  trainer.close()
  await Promise.all(ends)
  expect(ends.length).toBe(2)
  expect(() => gradientOf(trainer, batchOf(1))).toThrow('was closed')
})

describe('unless told, there are as many threads', () => {
  const images = graphOf([28, 28, 1], [
    ...[32, 32].map((filters) => ({ layer: 'Conv2D', config: { filters, kernel_size: [3, 3] } })),
    ...[{ layer: 'GlobalAveragePooling2D' }, dense(10)],
  ] as LayerSpec[])
  const digits = graphOf([784], [dense(1024), dense(10)])

  test('as cores but one, where convolutions use each param often', () => {
    expect([1, 2, 3, 4, 8].map((cores) => threadsFor(images, 32, cores))).toEqual([1, 1, 2, 3, 7])
  })

  test('as one, where a step is short or each param is used once', () => {
    expect(threadsFor(digits, 32, 8)).toBe(1)
    expect(threadsFor(model, BATCH, 8)).toBe(1)
  })

  test('as a frozen start gains by: nothing is added up between them', () => {
    expect([1, 2, 3, 8].map((cores) => forwardThreadsFor(images, 8, cores))).toEqual([1, 1, 2, 7])
    expect(forwardThreadsFor(digits, 8, 8)).toBe(1)
  })

  test('as there is room for', async () => {
    const roomFor = (threads: number) => helperBytes(images, { batch: 32, threads })
    const threadsIn = async (spareBytes: number) =>
      (await trainerOf(images, 1, { batchSize: 32, threads: undefined, cores: 5, spareBytes }))
        .threads
    expect(await threadsIn(roomFor(4))).toBe(4)
    expect(await threadsIn(roomFor(3))).toBe(3)
    expect(await threadsIn(roomFor(2) - 1)).toBe(1)
  })

  test('as examples in a batch at most', () => {
    expect(threadsFor(images, 3, 16)).toBe(3)
  })
})
