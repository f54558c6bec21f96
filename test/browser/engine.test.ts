import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startHelper } from '../../node/threads.ts'
import { createTrainer } from '../../node/trainer.ts'
import { engineBinary } from '../../node/wasm.ts'
import { branchingJson, denseJson, kinds } from '../support/models.ts'
import { type EnginePages, executablePath, openEnginePages, requireChromium } from './chromium.ts'
import { choose } from './engine/choice.ts'
import { type Asked, models, type Trained, train } from './engine/train.ts'

/** The engine in a page's worker does what it does in Node. How fast it is there, `npm run bench -- browser` asks. */

const STEPS = 4
/** A GPU that the processor plays compiles its programs on the cores that all else has. */
const GPU_LIMIT_MS = 90_000
const names = models.map(({ name }) => name)
const small = {
  modelJson: branchingJson(
    [12, 12, 2],
    [
      { layer: 'Conv2D', config: { filters: 6, kernel_size: 3, activation: 'relu' } },
      { layer: 'BatchNormalization' },
      { layer: 'MaxPooling2D' },
      { layer: 'Flatten' },
      { layer: 'Dense', config: { units: 5, activation: 'softmax' } },
    ],
  ),
  batchSize: 16,
}
/** 1.4 billion multiply-adds a step. */
const large = { modelJson: denseJson([784, 2048, 1024, 10]), batchSize: 128 }
requireChromium('the engine in a page')

describe.runIf(executablePath)('in Chromium', () => {
  let pages: EnginePages
  beforeAll(async () => {
    pages = await openEnginePages()
  })
  afterAll(() => pages?.end())

  test.each(names)('%s trains to the same bits as in Node', async (model) => {
    const asked = { model, simd: 'plain', threads: 1 } as const
    const found = await pages.plain({ type: 'train', asked, steps: STEPS })
    const { losses, hash } = await inNode(asked)
    expect(found).toEqual({ type: 'trained', isolated: false, threads: 1, losses, hash })
    expect(losses.at(-1)).toBeLessThan(losses[0]!)
  })

  test('relaxed SIMD trains too', async () => {
    const asked = { model: names[0]!, simd: 'relaxed', threads: 1 } as const
    const found = await pages.plain({ type: 'train', asked, steps: STEPS })
    const { losses } = await inNode(asked)
    if (found.type !== 'trained') throw new Error(JSON.stringify(found))
    found.losses.forEach((loss, step) => expect(loss).toBeCloseTo(losses[step]!, 4))
  })

  test.each([
    ['handwriting CNN', 2],
    ['transfer', 3],
  ])(
    'an isolated page trains %s on %i threads, to the same bits as in Node',
    async (model, threads) => {
      const asked = { model, simd: 'plain', threads } as const
      const found = await pages.isolated({ type: 'train', asked, steps: STEPS })
      expect(found).toEqual({ type: 'trained', isolated: true, ...(await inNode(asked)) })
      expect(found).toMatchObject({ threads })
    },
  )

  test('a page that is not isolated says that it has no threads', async () => {
    const asked = { model: names[0]!, simd: 'plain', threads: 2 } as const
    const found = await pages.plain({ type: 'train', asked, steps: STEPS })
    expect(found).toMatchObject({ type: 'failed', fault: 'no-threads' })
  })

  test.each(kinds)(
    'a model of the kind $name trains on the engine by default, as in Node',
    async ({ name, json }) => {
      const settings = { batchSize: 16, steps: 20, vocabulary: 9, learningRate: 0.01 }
      const choosing = { ...settings, modelJson: json, backend: 'auto' } as const
      const found = await pages.plain({ type: 'choose', choosing })
      if (found.type !== 'chosen') throw new Error(JSON.stringify(found))
      const { losses, ...wanted } = await choose(choosing, createTrainer)
      expect(found).toMatchObject({ ...wanted, backend: 'engine', remarks: [] })
      expect(found.features).toBe(name === 'transfer' ? 64 : undefined)
      found.losses.forEach((loss, step) => expect(loss).toBeCloseTo(losses[step]!, 4))
      expect(losses.at(-1)).toBeLessThan(losses[0]!)
    },
  )

  test.each(['webgl', 'webgpu'] as const)(
    '%s, asked for, trains as the engine does',
    async (backend) => {
      const choosing = { ...small, steps: STEPS }
      const found = await pages.plain({ type: 'choose', choosing: { ...choosing, backend } })
      if (found.type !== 'chosen') throw new Error(JSON.stringify(found))
      expect(found).toMatchObject({ backend, remarks: [] })
      const { losses } = await choose({ ...choosing, backend: 'engine' }, createTrainer)
      found.losses.forEach((loss, step) => expect(loss).toBeCloseTo(losses[step]!, 4))
      expect(losses.at(-1)).toBeLessThan(losses[0]!)
    },
    GPU_LIMIT_MS,
  )

  test('a GPU that is none is not tried for a large model, and the page can say so', async () => {
    const choosing = { ...large, backend: 'auto', steps: 1 } as const
    const found = await pages.plain({ type: 'choose', choosing })
    expect(found).toMatchObject({ type: 'chosen', backend: 'engine' })
    expect(found).toHaveProperty('remarks', [
      expect.stringMatching(/^webgpu is not used: no real GPU is here, .*swiftshader.* computes/i),
      expect.stringMatching(/^webgl is not used: no real GPU is here, .*swiftshader.* computes/i),
    ])
  })

  test('for a small model no GPU is looked for', async () => {
    const choosing = { ...small, backend: 'auto', steps: 1 } as const
    const found = await pages.plain({ type: 'choose', choosing })
    expect(found).toMatchObject({ type: 'chosen', backend: 'engine', remarks: [] })
  })
})

async function inNode(asked: Asked): Promise<Trained> {
  const binaries = { [asked.simd]: await engineBinary(asked.simd) }
  return train(asked, { binaries, startHelper }, STEPS)
}
