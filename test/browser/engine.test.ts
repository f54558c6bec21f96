import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startHelper } from '../../node/threads.ts'
import { engineBinaries } from '../../node/wasm.ts'
import { type EnginePages, executablePath, openEnginePages, requireChromium } from './chromium.ts'
import { type Asked, models, type Trained, train } from './engine/train.ts'

/** The engine in a page's worker does what it does in Node. How fast it is there, `npm run bench -- browser` asks. */

const STEPS = 4
const names = models.map(({ name }) => name)
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
})

async function inNode(asked: Asked): Promise<Trained> {
  return train(asked, { binaries: await engineBinaries(), startHelper }, STEPS)
}
