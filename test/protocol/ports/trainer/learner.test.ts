import { sha256 } from 'multiformats/hashes/sha2'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createTrainer } from '../../../../node/trainer.ts'
import { codecs } from '../../../../protocol/codec/table.ts'
import { sizeOf } from '../../../../protocol/params.ts'
import type { WorkerEvent, WorkerInit } from '../../../../protocol/ports/trainer/commands.ts'
import { measureDevice } from '../../../../protocol/ports/trainer/learner.ts'
import type { Trainer } from '../../../../protocol/ports/trainer/trainer.ts'
import {
  memoryCheckpoints,
  swapOnce,
  type TestLearner,
  testInit,
  testLearner,
  tinyManifest,
  tinyTensors,
} from '../../../support/learners.ts'
import {
  branchingJson,
  mixerJson,
  paramsOf,
  tableManifest,
  topologyOf,
  transformerJson,
} from '../../../support/models.ts'
import { decodeAll } from '../../../support/params.ts'

const finish = async (...learners: TestLearner[]) => {
  for (const learner of learners) learner.send({ type: 'stop' })
  await Promise.all(learners.map(({ ended }) => ended))
}

describe('a round', () => {
  test('lowers the loss and says what it did', async () => {
    const learner = testLearner()
    const ready = await learner.take('ready')
    expect(ready).toMatchObject({
      backend: 'engine',
      steps: 0,
      rounds: 0,
      swaps: 0,
      resumed: false,
      outcomes: [],
    })
    expect(ready.msPerStep).toBeGreaterThan(0)
    const first = await learner.ask({ type: 'train', steps: 5 }, 'trained')
    expect(first).toMatchObject({ steps: 5, totalSteps: 5, samples: 80 })
    for (let round = 0; round < 8; round++)
      await learner.ask({ type: 'train', steps: 5 }, 'trained')
    const last = await learner.ask({ type: 'train', steps: 5 }, 'trained')
    expect(last.totalSteps).toBe(50)
    expect(last.loss).toBeLessThan(first.loss / 2)
    await finish(learner)
  })

  /** A learner of a model that begins with frozen layers, on a clock of our own: a step of the rest takes a millisecond. */
  const withFrozenStart = (size: number, ms: { pass?: number; wholeStep?: number }) => {
    let now = 0
    const taking = <T>(some: number, found: T) => {
      now += some
      return found
    }
    return testLearner({
      rows: 1000,
      now: () => now,
      wrapped: (trainer) => {
        const gradientInto: Trainer['gradientInto'] = (...given) =>
          taking(1, trainer.gradientInto(...given))
        return {
          ...trainer,
          gradientInto: (...given) => taking(ms.wholeStep ?? 0, trainer.gradientInto(...given)),
          features: {
            ...{ size, spareBytes: Number.POSITIVE_INFINITY },
            rest: { ...trainer, gradientInto },
            of: (values, count) => taking(ms.pass ?? 0, values.subarray(0, 6 * count)),
          },
        }
      },
    })
  }

  test('is preceded by how far the features of frozen layers are, once a second', async () => {
    const slow = withFrozenStart(6, { pass: 600 })
    await slow.take('ready')
    expect(slow.events.filter(({ type }) => type === 'progress')).toEqual([
      { type: 'progress', of: 'device', done: 2, total: 3 },
      { type: 'progress', of: 'data', done: 500, total: 1000 },
      { type: 'progress', of: 'data', done: 1000, total: 1000 },
    ])
    const quick = withFrozenStart(6, { pass: 10 })
    await quick.take('ready')
    expect(quick.events.map(({ type }) => type)).toEqual(['device'])
    await finish(slow, quick)
  })

  test('is timed as it will be: on features that are kept, else through the frozen layers', async () => {
    const kept = withFrozenStart(6, { pass: 32, wholeStep: 700 })
    const { remarks } = await kept.take('ready')
    expect(await kept.take('device')).toMatchObject({ msPerStep: 1, remarks })
    // 32 ms for a batch of 16.
    expect(remarks).toEqual([
      'the features of 1,000 examples are computed before the first round, in about 2 s',
    ])
    const large = withFrozenStart(2 ** 20, { pass: 32, wholeStep: 700 })
    expect(await large.take('device')).toMatchObject({
      msPerStep: 700,
      remarks: [
        'the features of 1,000 examples have no room here: each step computes the frozen layers anew',
      ],
    })
    expect(await large.take('ready')).toMatchObject({ msPerStep: 700 })
    await finish(kept, large)
  })

  test('is what somebody measures who trains nothing yet, and says how far that is', async () => {
    let now = 0
    const said: WorkerEvent[] = []
    const init = testInit()
    const { manifest, modelJson, backend } = init
    const trainer = await createTrainer(modelJson, {
      ...{ backend, batchSize: manifest.train.batchSize },
    })
    const slow: Trainer = {
      ...trainer,
      gradientInto(...given) {
        now += 700
        return trainer.gradientInto(...given)
      },
    }
    const ports = { now: () => now, send: (event: WorkerEvent) => void said.push(event) }
    expect(measureDevice(slow, init, ports, 0)).toEqual({
      ...{ type: 'device', backend: 'engine', threads: 1, msPerStep: 700, remarks: [] },
    })
    expect(said).toEqual([{ type: 'progress', of: 'device', done: 2, total: 3 }])
    trainer.close()
  })

  test('is preceded by what the device does, said before any data is read', async () => {
    const said: string[] = []
    const learner = testLearner({
      onLoad: () => said.push(...learner.events.map(({ type }) => type)),
    })
    const { msPerStep } = await learner.take('ready')
    expect(said).toEqual(['device'])
    expect(await learner.take('device')).toEqual({
      ...{ type: 'device', backend: 'engine', threads: 1, msPerStep, remarks: [] },
    })
    await finish(learner)
  })

  test('says how far it is where it takes longer than half a second, and so does an evaluation', async () => {
    let now = 0
    const taking = <T>(found: T) => {
      now += 100
      return found
    }
    const learner = testLearner({
      ...{ rows: 4000, now: () => now },
      wrapped: (trainer) => ({
        ...trainer,
        gradientInto: (...given) => taking(trainer.gradientInto(...given)),
        predict: (...given) => taking(taking(trainer.predict(...given))),
      }),
    })
    await learner.take('ready')
    const told = () => learner.events.splice(0).filter(({ type }) => type === 'progress')
    const round = (done: number) => ({ type: 'progress', of: 'round', done, total: 12 })
    await learner.ask({ type: 'train', steps: 4 }, 'trained')
    expect(told()).toEqual([])
    await learner.ask({ type: 'train', steps: 12 }, 'trained')
    expect(told()).toEqual([5, 8, 11].map(round))
    const { examples } = await learner.ask({ type: 'evaluate', at: 'trained' }, 'evaluated')
    expect(told()[0]).toEqual({ type: 'progress', of: 'evaluation', done: 750, total: examples })
    await finish(learner)
  })

  test('never begins without its data, and then the trainer is closed', async () => {
    let closed = 0
    const learner = testLearner({
      onLoad: () => {
        throw new Error('the disk is on fire')
      },
      onClose: () => closed++,
    })
    expect((await learner.take('failed')).detail.message).toBe('the disk is on fire')
    await learner.ended
    expect(closed).toBe(1)
  })

  test('learns nothing while it measures how long a step takes', async () => {
    const learner = testLearner()
    await learner.take('ready')
    const bytes = codecs.float32.encode(await learner.params(), tinyTensors)
    expect(bytes).toEqual(testInit().params)
    await finish(learner)
  })

  test('with a loss that is no number fails with exit code 6 and writes nothing', async () => {
    const checkpoints = memoryCheckpoints()
    const manifest = {
      ...tinyManifest,
      train: { ...tinyManifest.train, optimizer: { name: 'sgd' as const, learningRate: 1e38 } },
    }
    const learner = testLearner({ manifest, checkpoints })
    await learner.take('ready')
    const failed = learner.take('failed')
    learner.send({ type: 'train', steps: 50 })
    expect((await failed).detail).toMatchObject({ kind: 'diverged', type: 'diverged' })
    await learner.ended
    expect(checkpoints.generations).toEqual([])
  })

  test('without data is refused, while giving still works', async () => {
    const learner = testLearner({ rows: 0, init: { data: undefined } })
    expect((await learner.take('ready')).msPerStep).toBe(0)
    expect(
      (await learner.ask({ type: 'give', nonce: 'n', codec: 'int8' }, 'gave')).bytes.length,
    ).toBeGreaterThan(0)
    const failed = learner.take('failed')
    learner.send({ type: 'train', steps: 1 })
    expect((await failed).detail).toMatchObject({ kind: 'data', type: 'no-data' })
  })
})

describe('a model whose layers branch', () => {
  test.each([
    ['a transformer', transformerJson(6, 12, 3), (value: number) => Math.round(2 * value) + 5],
    ['a mixer', mixerJson(2, 3, 3), (value: number) => value],
  ])('trains on the engine by default, and swaps: %s', async (_, modelJson, mapped) => {
    const manifest = tableManifest(modelJson, { inputs: 6, classes: 3 })
    Object.assign(manifest.train, { optimizer: { name: 'adam', learningRate: 0.02 }, momentum: 0 })
    const params = codecs.float32.encode(paramsOf(topologyOf(modelJson), 1, 0.3), manifest.tensors)
    const init = { modelJson, params, backend: 'auto' as const }
    const [one, other] = [1, 2].map((seed) => testLearner({ seed, manifest, init, mapped })) as [
      TestLearner,
      TestLearner,
    ]
    const lossOf = async (learner: TestLearner) =>
      (await learner.ask({ type: 'train', steps: 20 }, 'trained')).loss
    for (const learner of [one, other]) expect((await learner.take('ready')).backend).toBe('engine')
    const first = await lossOf(one)
    await lossOf(other)
    await swapOnce(one, other, 'n1')
    for (let round = 0; round < 5; round++) await lossOf(one)
    expect(await lossOf(one)).toBeLessThan(first / 2)
    await finish(one, other)
  })
})

test('frozen layers feed those that learn, and nobody trains, swaps or saves them', async () => {
  const modelJson = branchingJson(
    [6],
    [
      { layer: 'Dense', config: { units: 10, activation: 'tanh' }, frozen: true },
      { layer: 'BatchNormalization', frozen: true },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ],
  )
  const { tensors, frozen } = topologyOf(modelJson)
  expect([sizeOf(tensors), sizeOf(frozen)]).toEqual([33, 110])
  const manifest = tableManifest(modelJson, { inputs: 6, classes: 3 })
  const held = paramsOf({ tensors: frozen }, 5)
  const init = {
    ...{ modelJson, params: codecs.float32.encode(paramsOf({ tensors }), tensors) },
    frozen: codecs.float32.encode(held, frozen),
  }
  const checkpoints = memoryCheckpoints()
  const [one, other] = [
    testLearner({ seed: 1, manifest, init: { ...init }, checkpoints }),
    testLearner({ seed: 2, manifest, init: { ...init } }),
  ]
  const train = async (learner: TestLearner) =>
    (await learner.ask({ type: 'train', steps: 20 }, 'trained')).loss
  for (const learner of [one, other]) await learner.take('ready')
  const first = await train(one)
  await train(other)
  const { bytes } = await one.ask({ type: 'give', nonce: 'n0', codec: 'float32' }, 'gave')
  expect(bytes.length).toBe(4 * 33)
  await swapOnce(one, other, 'n1')
  for (let round = 0; round < 8; round++) await train(one)
  expect(await train(one)).toBeLessThan(first / 1.5)
  expect((await one.params()).length).toBe(33)

  // Other frozen weights are another model: the same head on them is worse.
  const loss = async (weights: Float32Array) => {
    const again = testLearner({
      ...{ seed: 1, manifest, checkpoints },
      init: { ...init, frozen: codecs.float32.encode(weights, frozen), resume: true },
    })
    await again.take('ready')
    const { metrics } = await again.ask({ type: 'evaluate', at: 'trained' }, 'evaluated')
    await finish(again)
    return metrics.loss
  }
  await finish(one, other)
  expect(await loss(held)).toBeLessThan(first / 1.5)
  expect(await loss(held.map((value, i) => (i < 60 ? -value : value)))).toBeGreaterThan(first)
})

test('features of frozen layers are computed once for each example, and training goes on from them', async () => {
  const modelJson = branchingJson(
    [6],
    [
      { layer: 'Dense', config: { units: 10, activation: 'tanh' }, frozen: true },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ],
  )
  const { tensors, frozen } = topologyOf(modelJson)
  const manifest = tableManifest(modelJson, { inputs: 6, classes: 3 })
  const init = {
    ...{ modelJson, params: codecs.float32.encode(paramsOf({ tensors }), tensors) },
    frozen: codecs.float32.encode(paramsOf({ tensors: frozen }, 5), frozen),
  }
  const run = async (kept: boolean) => {
    let computed = 0
    const wrapped = ({ features, ...trainer }: Trainer): Trainer => {
      if (!features || !kept) return trainer
      const of: typeof features.of = (inputs, count) => {
        computed += count
        return features.of(inputs, count)
      }
      return { ...trainer, features: { ...features, of } }
    }
    const learner = testLearner({ manifest, init: { ...init }, wrapped })
    await learner.take('ready')
    const { loss } = await learner.ask({ type: 'train', steps: 40 }, 'trained')
    const { metrics } = await learner.ask({ type: 'evaluate', at: 'trained' }, 'evaluated')
    const params = await learner.params()
    await finish(learner)
    return { computed, found: { loss, metrics, params } }
  }
  const [once, always] = [await run(true), await run(false)]
  // And for three batches of 16 that were timed.
  expect(once.computed).toBe(200 + 3 * 16)
  expect(once.found).toEqual(always.found)
})

test('frozen weights that are missing are said', async () => {
  const modelJson = branchingJson(
    [6],
    [
      { layer: 'Dense', config: { units: 4 }, frozen: true },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ],
  )
  const manifest = tableManifest(modelJson, { inputs: 6, classes: 3 })
  const { tensors } = topologyOf(modelJson)
  const params = codecs.float32.encode(paramsOf({ tensors }), tensors)
  for (const backend of ['auto', 'cpu'] as const) {
    const learner = testLearner({ manifest, init: { modelJson, params, backend } })
    const { message } = (await learner.take('failed')).detail
    expect(message).toMatch(/28 float32 values take 112 bytes, got 0/)
  }
})

describe('commands', () => {
  test('are served between two steps of a round that goes on', async () => {
    let sent = false
    const learner = testLearner({
      onStep: ({ send, events }) => {
        if (sent || !events.some(({ type }) => type === 'ready')) return
        sent = true
        send({ type: 'give', nonce: 'midst', codec: 'float32' })
      },
    })
    learner.send({ type: 'train', steps: 30 })
    await learner.take('trained')
    const order = learner.events.map(({ type }) => type)
    expect(order).toContain('gave') // it was not taken, so it came before 'trained' was
    await finish(learner)
  })

  test.each([
    [1, 6], // after the first step, then after each four
    [5, 20],
  ])(
    'are let in every 4 ms: steps of %i ms are made in %i turns of the event loop',
    async (stepMs, expected) => {
      let now = 0
      let isReady = false
      let turn = 0
      const turns = new Set<number>()
      const learner = testLearner({
        now: () => now,
        onStep: () => {
          if (!isReady) return // steps are timed before
          now += stepMs
          turns.add(turn)
        },
      })
      await learner.take('ready')
      isReady = true
      let timer = setImmediate(function count() {
        turn++
        timer = setImmediate(count)
      })
      await learner.ask({ type: 'train', steps: 20 }, 'trained')
      clearImmediate(timer)
      expect(turns.size).toBe(expected)
      await finish(learner)
    },
  )

  test('give encodes the live params and their SHA-256', async () => {
    const learner = testLearner()
    const params = await learner.params()
    for (const codec of ['int8', 'float32'] as const) {
      const gave = await learner.ask({ type: 'give', nonce: 'n', codec }, 'gave')
      expect(gave.bytes).toEqual(codecs[codec].encode(params, tinyTensors))
      expect(gave.digest).toEqual(
        (await sha256.digest(gave.bytes as Uint8Array<ArrayBuffer>)).digest,
      )
    }
    await finish(learner)
  })

  test('settle moves both to their middle, and the sum stays while both train on', async () => {
    const [a, b] = [testLearner({ seed: 1 }), testLearner({ seed: 2 })]
    for (const learner of [a, b]) await learner.ask({ type: 'train', steps: 20 }, 'trained')
    const before = [await a.params(), await b.params()]
    await swapOnce(a, b, 'one')
    const after = [await a.params(), await b.params()]
    before[0]!.forEach((value, i) => {
      expect(after[0]![i]! + after[1]![i]!).toBeCloseTo(value + before[1]![i]!, 5)
      expect(after[0]![i]!).toBeCloseTo((value + before[1]![i]!) / 2, 1)
    })
    await finish(a, b)
  })

  test('settle adds the same whether training went on meanwhile or not', async () => {
    // Without momentum a settled swap is one addition, so late it gives the same sum as at once.
    const options = { seed: 1, init: { noMomentum: true } }
    const [a, b] = [testLearner(options), testLearner({ ...options, seed: 2 })]
    for (const learner of [a, b]) await learner.ask({ type: 'train', steps: 10 }, 'trained')
    const give = { type: 'give', nonce: 'n', codec: 'int8' } as const
    const [ours, theirs] = [await a.ask(give, 'gave'), await b.ask(give, 'gave')]
    a.send({ type: 'train', steps: 10 })
    await a.take('trained')
    const before = await a.params()
    const settled = await a.ask(
      {
        type: 'settle',
        nonce: 'n',
        role: 'offerer',
        codec: 'int8',
        sent: ours.bytes,
        received: [theirs.bytes],
      },
      'settled',
    )
    const after = await a.params()
    expect(settled.distance).toBeGreaterThan(0)
    const moved = after.reduce((sum, value, i) => sum + (value - before[i]!) ** 2, 0)
    expect(moved).toBeCloseTo(settled.distance / 2, 3) // ½(r − s) squared is a quarter; distance is a half
    await finish(a, b)
  })

  test('give-state and adopt make a newcomer of the donor: params, direction and steps', async () => {
    const [donor, newcomer] = [testLearner({ seed: 1 }), testLearner({ seed: 2 })]
    for (let i = 0; i < 3; i++) {
      for (const learner of [donor, newcomer])
        await learner.ask({ type: 'train', steps: 5 }, 'trained')
      if (i < 2) await swapOnce(donor, newcomer, `swap ${i}`)
    }
    const state = await donor.ask({ type: 'give-state', nonce: 'n' }, 'gave-state')
    expect(state.steps).toBe(15)
    const late = testLearner({ seed: 3 })
    await late.ask(
      { type: 'adopt', nonce: 'n', bytes: state.bytes.slice(), steps: state.steps },
      'adopted',
    )
    const again = await late.ask({ type: 'give-state', nonce: 'm' }, 'gave-state')
    const size = codecs.float32.sizeBytes(tinyTensors)
    expect(again.bytes.subarray(0, size)).toEqual(state.bytes.subarray(0, size))
    const [first, second] = [state, again].map(({ bytes }) =>
      decodeAll(codecs.int8, bytes.slice(size), tinyTensors),
    )
    first!.forEach((value, i) => {
      expect(second![i]).toBeCloseTo(value, 6)
    })
    expect(first!.some((value) => value !== 0)).toBe(true)
    expect((await late.ask({ type: 'train', steps: 1 }, 'trained')).totalSteps).toBe(16)
    await finish(donor, newcomer, late)
  })

  test('evaluate measures the validation rows, and better after training', async () => {
    const learner = testLearner()
    const before = await learner.ask({ type: 'evaluate', at: 'trained' }, 'evaluated')
    expect(before.examples).toBe(40)
    await learner.ask({ type: 'train', steps: 60 }, 'trained')
    const after = await learner.ask({ type: 'evaluate', at: 'averaged' }, 'evaluated')
    expect(after.at).toBe('averaged')
    expect(after.metrics.loss).toBeLessThan(before.metrics.loss)
    expect(after.metrics.accuracy).toBeGreaterThan(0.7)
    await finish(learner)
  })

  test('stop finishes the step, serves what came before it, and saves', async () => {
    const checkpoints = memoryCheckpoints()
    const learner = testLearner({ checkpoints })
    await learner.take('ready')
    learner.send({ type: 'train', steps: 1_000_000 })
    learner.send({ type: 'give', nonce: 'n', codec: 'int8' })
    learner.send({ type: 'stop' })
    await learner.ended
    expect(learner.events.map(({ type }) => type)).toEqual([
      'device',
      'gave',
      'trained',
      'checkpointed',
      'stopped',
    ])
    expect(checkpoints.generations.length).toBe(1)
  })
})

describe('a pace', () => {
  /** A learner whose steps take 10 ms of a clock that moves in steps and in rests alone. */
  async function steady() {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const learner = testLearner({ onStep: () => vi.advanceTimersByTime(10) })
    await learner.take('ready')
    /** Resolves with the event and how long it took; `onRest` is called at each rest. */
    const run = async (steps: number, onRest = () => {}) => {
      const startedAt = performance.now()
      const trained = learner.ask({ type: 'train', steps }, 'trained')
      let isOver = false
      void trained.then(() => {
        isOver = true
      })
      for (await turn(); !isOver; await turn()) {
        if (vi.getTimerCount() === 0) continue
        onRest()
        await turn()
        vi.advanceTimersToNextTimer()
      }
      return { ...(await trained), tookMs: performance.now() - startedAt }
    }
    return { learner, run }
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve))

  test.each([1, 0.75, 0.5, 0.25])('of %s gives steps that share of the time', async (share) => {
    const { learner, run } = await steady()
    learner.send({ type: 'pace', share })
    const { ms, tookMs } = await run(120)
    expect(ms).toBe(1200)
    expect(Math.abs(tookMs - ms / share)).toBeLessThanOrEqual(20) // the longest rest that may still be owed
    await finish(learner)
  })

  test('holds from the next step on, also in the middle of a rest', async () => {
    const { learner, run } = await steady()
    learner.send({ type: 'pace', share: 0.01 })
    let rests = 0
    const { tookMs } = await run(100, () => {
      rests++
      learner.send({ type: 'pace', share: 1 })
    })
    expect(rests).toBe(1)
    expect(tookMs).toBe(1000)
    await finish(learner)
  })

  test('lets messages be served while it rests', async () => {
    const { learner, run } = await steady()
    learner.send({ type: 'pace', share: 0.25 })
    let servedAfterMs: number | undefined
    const { tookMs } = await run(8, () => {
      const askedAt = performance.now()
      if (servedAfterMs !== undefined) return
      servedAfterMs = Number.POSITIVE_INFINITY
      void learner.ask({ type: 'give', nonce: 'rest', codec: 'int8' }, 'gave').then(() => {
        servedAfterMs = performance.now() - askedAt
      })
    })
    expect(servedAfterMs).toBe(0)
    expect(tookMs).toBe(8 * 40)
    await finish(learner)
  })
})

describe('the same seed', () => {
  test.each(['engine', 'engine-plain', 'wasm'] as const)(
    'and the same settles give the same bits: %s',
    async (backend) => {
      const run = async () => {
        const init = { backend }
        const [a, b] = [testLearner({ seed: 5, init }), testLearner({ seed: 6, init })]
        for (let i = 0; i < 4; i++) {
          await Promise.all(
            [a, b].map((learner) => learner.ask({ type: 'train', steps: 7 }, 'trained')),
          )
          await swapOnce(a, b, `swap ${i}`)
        }
        const params = [await a.params(), await b.params()]
        await finish(a, b)
        return params
      }
      expect(await run()).toEqual(await run())
    },
  )
})

describe('a checkpoint', () => {
  test.each(['sgd', 'adam'] as const)('resumes %s where it was, to the last bit', async (name) => {
    const train = {
      ...tinyManifest.train,
      optimizer: { name, learningRate: 0.01 },
      momentum: name === 'sgd' ? 0.9 : 0,
    }
    const manifest = { ...tinyManifest, train }
    const run = async (interrupted: boolean) => {
      const checkpoints = memoryCheckpoints()
      const options = { seed: 9, manifest, checkpoints }
      const other = testLearner({ seed: 8, manifest })
      let learner = testLearner(options)
      await learner.ask({ type: 'train', steps: 25 }, 'trained')
      await swapOnce(learner, other, 'a nonce')
      await learner.ask({ type: 'train', steps: 4 }, 'trained')
      if (interrupted) {
        await finish(learner)
        // Another seed is given; the checkpoint's own wins.
        learner = testLearner({ ...options, seed: 1234, dataSeed: 9, init: { resume: true } })
        const ready = await learner.take('ready')
        expect(ready).toMatchObject({
          resumed: true,
          steps: 29,
          rounds: 2,
          swaps: 1,
          outcomes: ['a nonce'],
        })
      }
      await learner.ask({ type: 'train', steps: 10 }, 'trained')
      await swapOnce(learner, other, 'another')
      await learner.ask({ type: 'train', steps: 3 }, 'trained')
      const params = await learner.params()
      await finish(learner, other)
      return params
    }
    expect(await run(true)).toEqual(await run(false))
  })

  test('is written every 20 settled swaps', async () => {
    const checkpoints = memoryCheckpoints()
    const [a, b] = [testLearner({ seed: 1, checkpoints }), testLearner({ seed: 2 })]
    for (let i = 0; i < 20; i++) {
      expect(checkpoints.generations.length).toBe(0)
      await swapOnce(a, b, `swap ${i}`)
    }
    await a.take('checkpointed')
    expect(checkpoints.generations.length).toBe(1)
    await finish(a, b)
  })

  test('is written after 10 s and then every 60 s, while a round goes on', async () => {
    let now = 0
    const checkpoints = memoryCheckpoints()
    const times: number[] = []
    const write = (parts: Uint8Array[]) => {
      times.push(now)
      return checkpoints.write(parts)
    }
    const learner = testLearner({
      ...{ now: () => now, onStep: () => (now += 5_000) },
      checkpoints: { ...checkpoints, write },
    })
    await learner.take('ready')
    const startedAt = now
    await learner.ask({ type: 'train', steps: 30 }, 'trained')
    expect(times.map((time) => time - startedAt)).toEqual([10_000, 70_000, 130_000])
    await finish(learner)
  })

  test('keeps the nonces of the last 64 swaps we offered', async () => {
    const checkpoints = memoryCheckpoints()
    const [a, b] = [testLearner({ seed: 1, checkpoints }), testLearner({ seed: 2 })]
    for (let i = 0; i < 66; i++) await swapOnce(a, b, `swap ${i}`)
    await finish(a, b)
    const again = testLearner({ checkpoints, init: { resume: true } })
    const { outcomes, swaps } = await again.take('ready')
    expect(outcomes).toEqual(Array.from({ length: 64 }, (_, i) => `swap ${i + 2}`))
    expect(swaps).toBe(66)
    await finish(again)
  })

  test('that is broken gives way to the older one, and both broken to the version', async () => {
    const checkpoints = memoryCheckpoints()
    const first = testLearner({ checkpoints })
    await first.ask({ type: 'train', steps: 3 }, 'trained')
    await first.ask({ type: 'checkpoint' }, 'checkpointed')
    await first.ask({ type: 'train', steps: 4 }, 'trained')
    await finish(first)
    const whole = checkpoints.generations[0]!
    const resume = async () => {
      const learner = testLearner({ checkpoints, init: { resume: true } })
      const { steps, resumed } = await learner.take('ready')
      learner.send({ type: 'version' }) // leave without overwriting: nothing is stopped, nothing saved
      await learner.take('version-params')
      return { steps, resumed }
    }
    expect(await resume()).toEqual({ steps: 7, resumed: true })
    for (const broken of [
      whole.slice(0, 30),
      whole.slice(0, 200),
      whole.slice(0, -1),
      flipped(whole, 60),
      flipped(whole, whole.length - 9),
      new Uint8Array(0),
      new Uint8Array([...whole, 0]),
    ]) {
      checkpoints.generations[0] = broken
      expect(await resume()).toEqual({ steps: 3, resumed: true })
    }
    checkpoints.generations[1] = new Uint8Array(9)
    expect(await resume()).toEqual({ steps: 0, resumed: false })
  })

  test('of another model is refused', async () => {
    const checkpoints = memoryCheckpoints()
    await finish(testLearner({ checkpoints }))
    const init: Partial<WorkerInit> = { resume: true, genesis: 'another' }
    const { detail } = await testLearner({ checkpoints, init }).take('failed')
    expect(detail).toMatchObject({ kind: 'verification', type: 'wrong-checkpoint' })
    expect(detail.message).toContain('genesis')
    expect(detail.message).toContain('another')
  })
})

function flipped(bytes: Uint8Array<ArrayBuffer>, at: number): Uint8Array<ArrayBuffer> {
  const changed = bytes.slice()
  changed[at]! ^= 1
  return changed
}
