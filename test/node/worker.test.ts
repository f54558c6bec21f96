import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startLearner } from '../../node/learner.ts'
import {
  digitsCsv,
  digitsDraft,
  digitsModelJson,
  digitsParams,
  readDigits,
  splitDigits,
  take,
} from '../../node/samples/digits.ts'
import { codecs } from '../../protocol/codec/table.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import type { WorkerInit } from '../../protocol/ports/trainer/commands.ts'
import { tensorsOf } from '../../protocol/ports/trainer/topology.ts'
import { integerBelow, randomFrom } from '../../protocol/random.ts'
import { mailbox, swapOnce, tools } from '../support/learners.ts'
import { kinds, paramsOf, tableManifest, topologyOf } from '../support/models.ts'

let dir = ''
let evaluation: Uint8Array
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-worker-'))
  const { train, test } = splitDigits(await readDigits())
  const rows = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
  await writeFile(join(dir, 'one.csv'), digitsCsv(take(train, rows(0, 640))))
  await writeFile(join(dir, 'two.csv'), digitsCsv(take(train, rows(640, 1280))))
  await writeFile(join(dir, 'kinds.csv'), kindsCsv())
  evaluation = new TextEncoder().encode(digitsCsv(take(test, rows(0, 300))))
})
afterAll(() => rm(dir, { recursive: true }))

const manifest = {
  ...digitsDraft,
  owner: '12D3KooWJDwWc1wTDhBqvcbuJ8kkFmaaoDVW6bbGkSxVyUfEsARx',
  tensors: tensorsOf(digitsModelJson),
  files: [],
} as unknown as Manifest

function init(name: string, changes: Partial<WorkerInit> = {}): WorkerInit {
  return {
    manifest,
    genesis: 'genesis',
    version: 'genesis',
    modelJson: digitsModelJson,
    params: digitsParams(),
    data: { path: join(dir, `${name}.csv`) },
    evalFiles: [{ path: 'eval/digits.csv', bytes: evaluation }],
    seed: 1,
    checkpointPath: join(dir, `${name}.checkpoint`),
    resume: false,
    backend: 'auto',
    ...changes,
  }
}

function start(name: string, changes?: Partial<WorkerInit>) {
  const mail = mailbox()
  const handle = startLearner(init(name, changes), mail.push)
  return { ...handle, ...mail, ...tools(mail, handle.send) }
}

test('two workers train on real digits, swap, and resume from what they saved', async () => {
  const [one, two] = [start('one'), start('two')]
  const ready = await one.take('ready')
  expect(ready.backend).toBe('engine')
  expect(ready.data).toMatchObject({ format: 'csv', read: 640, train: 576, validation: 64 })
  await two.take('ready')
  for (let round = 0; round < 3; round++) {
    await Promise.all(
      [one, two].map((learner) => learner.ask({ type: 'train', steps: 10 }, 'trained')),
    )
    await swapOnce(one, two, `swap ${round}`)
  }
  const measured = await one.ask({ type: 'evaluate', at: 'averaged' }, 'evaluated')
  expect(measured.examples).toBe(300)
  expect(measured.metrics.accuracy).toBeGreaterThan(0.6)
  for (const learner of [one, two]) learner.send({ type: 'stop' })
  await Promise.all([one.ended, two.ended])
  expect(await readdir(dir)).toContain('one.checkpoint')

  const again = start('one', { resume: true })
  expect(await again.take('ready')).toMatchObject({
    resumed: true,
    steps: 30,
    rounds: 3,
    swaps: 3,
    outcomes: ['swap 0', 'swap 1', 'swap 2'],
  })
  expect((await again.ask({ type: 'evaluate', at: 'averaged' }, 'evaluated')).metrics).toEqual(
    measured.metrics,
  )
  await again.close()
})

test.each(kinds)(
  'a model of the kind $name trains on the engine by default',
  async ({ json, name }) => {
    const { tensors, frozen } = topologyOf(json)
    const kind = tableManifest(json, { inputs: 36, classes: 3 })
    Object.assign(kind.train, { optimizer: { name: 'adam', learningRate: 0.02 }, momentum: 0 })
    const worker = start('kinds', {
      ...{ manifest: kind, modelJson: json, evalFiles: [], checkpointPath: join(dir, name) },
      params: codecs.float32.encode(paramsOf({ tensors }, 1, 0.2), tensors),
      frozen: codecs.float32.encode(paramsOf({ tensors: frozen }, 2, 0.2), frozen),
    })
    expect(await worker.take('ready')).toMatchObject({ backend: 'engine', remarks: [] })
    const lossOf = async () => (await worker.ask({ type: 'train', steps: 20 }, 'trained')).loss
    const first = await lossOf()
    await lossOf()
    expect(await lossOf()).toBeLessThan(0.7 * first)
    worker.send({ type: 'stop' })
    await worker.ended
  },
)

/** Rows of 36 whole numbers below 9: every third of them is large, and the label says which. */
function kindsCsv(): string {
  const random = randomFrom(1)
  const columns = Array.from({ length: 36 }, (_, i) => `x${i}`)
  const rows = Array.from({ length: 120 }, (_, row) => [
    'abc'[row % 3]!,
    ...columns.map((_, i) => (i % 3 === row % 3 ? 6 : 1) + integerBelow(random, 3)),
  ])
  return `${[['label', ...columns], ...rows].map((row) => row.join()).join('\n')}\n`
}

test('a fault in the worker arrives as failed, and the thread ends', async () => {
  const worker = start('nothing')
  const { detail } = await worker.take('failed')
  expect(detail).toMatchObject({ kind: 'data', type: 'no-such-data' })
  await worker.ended
})

test('the limit that a worker is given is the one that it keeps to', async () => {
  const worker = start('one', { memoryBytes: 10_000 })
  const { detail } = await worker.take('failed')
  expect(detail).toMatchObject({ type: 'too-much-memory', limitBytes: 10_000 })
  await worker.ended
})

test('two threads train, to the same bits each time, and end with their worker', async () => {
  const paramsOf = async () => {
    const worker = start('one', { threads: 2 })
    expect(await worker.take('ready')).toMatchObject({ backend: 'engine', threads: 2 })
    const { loss } = await worker.ask({ type: 'train', steps: 10 }, 'trained')
    const params = await worker.params()
    worker.send({ type: 'stop' })
    await worker.ended
    return { loss, params }
  }
  expect(await paramsOf()).toEqual(await paramsOf())
})

test('a fault before the first step ends the threads too', async () => {
  const worker = start('nothing', { threads: 2 })
  await worker.take('failed')
  await worker.ended
})

test('a buffer given to a worker is handed over, and a part of a larger one copied', async () => {
  const whole = digitsParams()
  const { length } = whole
  const shared = new Uint8Array(length + 8)
  shared.set(whole, 4)
  const workers = [
    start('one', { params: whole }),
    start('one', { params: shared.subarray(4, 4 + length) }),
  ]
  const [a, b] = await Promise.all(
    workers.map((worker) => worker.ask({ type: 'version' }, 'version-params')),
  )
  expect(whole.length).toBe(0)
  expect(shared.length).toBe(length + 8)
  expect(a!.bytes).toEqual(b!.bytes)
  await Promise.all(workers.map((worker) => worker.close()))
})
