import { startHelper } from '../../node/threads.ts'
import { engineBinary } from '../../node/wasm.ts'
import type { Simd } from '../../protocol/engine/engine.ts'
import type { Ask } from '../browser/chromium.ts'
import { type Asked, speed } from '../browser/engine/train.ts'
import { type Bench, type BenchOptions, columns, median, type Result, rounded } from './bench.ts'
import { trainModels } from './train-models.ts'

/**
 * Training steps per second in a module Worker of a page in Chromium, beside Node on the same machine, in the same minutes: the
 * two take turns, by the clock, and each figure is the median of its turns.
 */
export interface BrowserResult extends Result {
  /** Its version, or why there is none. */
  chromium: string
  runs: Run[]
}

interface Run {
  model: string
  threads: number
  simd: Simd
  /** In the page. */
  stepsPerSecond: number
  ofNode: number
}

export const bench: Bench<BrowserResult> = {
  name: 'browser',
  reach: "steps per second in Chromium's Worker >= 0.95 of Node's",
  run,
  table: ({ chromium, runs }) =>
    [
      `Chromium: ${chromium}`,
      columns([
        ['model', 'simd', 'threads', 'steps/s', 'of Node'],
        ...runs.map((run) => [run.model, run.simd, run.threads, run.stepsPerSecond, run.ofNode]),
      ]),
    ].join('\n'),
}

const ABSENT = 'skipped, there is none (Debian: chromium)'
const TURNS = 9
const TURN_SECONDS = 0.6
const QUICK_SECONDS = 0.05
/** Beside one, in a page that is cross-origin isolated. */
const SEVERAL = 2

async function run({ quick, say }: BenchOptions): Promise<BrowserResult> {
  const { executablePath, openEnginePages } = await import('../browser/chromium.ts')
  if (!executablePath) return { bench: 'browser', chromium: ABSENT, runs: [] }
  const pages = await openEnginePages()
  const seconds = quick ? QUICK_SECONDS : TURN_SECONDS
  try {
    const runs: Run[] = []
    for (const { name: model } of trainModels) {
      say(`${model} ...`)
      for (const simd of ['plain', 'relaxed'] as const)
        runs.push(await compare({ model, simd, threads: 1 }, pages.plain, seconds, quick))
    }
    const asked = { model: 'handwriting CNN', simd: 'relaxed', threads: SEVERAL } as const
    runs.push(await compare(asked, pages.isolated, seconds, quick))
    return { bench: 'browser', chromium: pages.version, runs }
  } finally {
    await pages.end()
  }
}

async function compare(asked: Asked, ask: Ask, seconds: number, quick: boolean): Promise<Run> {
  const binaries = { [asked.simd]: await engineBinary(asked.simd) }
  const host = { binaries, startHelper }
  const inPage = async () => {
    const answer = await ask({ type: 'speed', asked, seconds })
    if (answer.type === 'speed') return answer.stepsPerSecond
    throw new Error(`the page answered ${JSON.stringify(answer)}`)
  }
  const found = { page: [] as number[], node: [] as number[] }
  await inPage()
  await speed(asked, host, seconds)
  for (let turn = 0; turn < (quick ? 1 : TURNS); turn++) {
    found.page.push(await inPage())
    found.node.push(await speed(asked, host, seconds))
  }
  const stepsPerSecond = rounded(median(found.page))
  return { ...asked, stepsPerSecond, ofNode: rounded(median(found.page) / median(found.node)) }
}
