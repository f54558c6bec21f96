import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Digits, firstParams, writeDigitsDraft } from '../../node/samples/digits.ts'
import type { World } from '../browser/world.ts'
import type { LayerSpec } from '../support/graph.ts'
import { branchingJson, topologyOf } from '../support/models.ts'
import { type Bench, type BenchOptions, columns, type Result, rounded } from './bench.ts'

/** A model of 60 MB in a tab: fetched over IPFS, trained, and swapped with a Node peer, 15 MB each way. */
export interface LargeResult extends Result {
  /** Its version, or why there is none. */
  chromium: string
  /** Of the model's float32 params, 10^6 bytes each. */
  megabytes: number
  /** From opening the link, sample data and start by one click each. */
  firstStepMs: number
  firstSwapMs: number
  /** Of the tab, after its first swap. */
  roundsPerMinute: number
  swapsPerMinute: number
  /** Most that the tab's process held, sampled once a second. */
  peakMB: number
}

const figures = [
  ...['megabytes', 'firstStepMs', 'firstSwapMs', 'roundsPerMinute', 'swapsPerMinute', 'peakMB'],
] as const

export const bench: Bench<LargeResult> = {
  name: 'large',
  reach:
    'a model of 60 MB in a tab: first step <= 60 s, first swap <= 90 s, then >= 1 swap a minute',
  run,
  table: (result) =>
    [
      `Chromium: ${result.chromium}`,
      columns([[...figures], figures.map((key) => result[key as keyof LargeResult])]),
    ].join('\n'),
}

const ABSENT = 'skipped, there is none (npm run browser:install)'
/** 784-3712-3264-10: 15.06 million params. */
const HIDDEN = [3712, 3264]
const QUICK_HIDDEN = [256, 256]
const MINUTES = 15
const QUICK_MINUTES = 0.1
const SHARD = 'group1-shard1of1.bin'
const WAIT_MS = 180_000

async function run({ quick, say }: BenchOptions): Promise<LargeResult> {
  const { executablePath } = await import('../browser/chromium.ts')
  if (!executablePath) return { ...empty, chromium: ABSENT }
  const { openWorld } = await import('../browser/world.ts')
  const units = [...(quick ? QUICK_HIDDEN : HIDDEN), 10]
  say('a bootstrap, a model and a Chromium ...')
  const world = await openWorld(2, (dir, test) => writeLargeDraft(dir, test, units))
  try {
    const trainer = world.train('a', 0)
    await trainer.says(({ ev, round }) => ev === 'round' && round! > 2)
    return {
      ...empty,
      chromium: world.browser.version(),
      megabytes: rounded((await sizeOf(world.home('draft'))) / 1e6),
      ...(await visit(world, quick ? QUICK_MINUTES : MINUTES, say)),
    }
  } finally {
    await world.end()
  }
}

const empty: LargeResult = {
  ...{ bench: 'large', chromium: ABSENT, megabytes: 0, firstStepMs: 0, firstSwapMs: 0 },
  ...{ roundsPerMinute: 0, swapsPerMinute: 0, peakMB: 0 },
}

async function visit(world: World, minutes: number, say: (text: string) => void) {
  say('a tab ...')
  const startedAt = performance.now()
  const tab = await world.tab({ openMs: WAIT_MS })
  await tab.train('sample')
  await tab.sees('a step', ({ round, step }) => round > 0 || step > 0, WAIT_MS)
  const firstStepMs = Math.round(performance.now() - startedAt)
  const first = await tab.sees('a swap', ({ swaps }) => swaps > 0, WAIT_MS)
  const firstSwapMs = Math.round(performance.now() - startedAt)
  say(`it trains for ${minutes} minutes ...`)
  const sinceAt = performance.now()
  let peakMB = 0
  while (performance.now() - sinceAt < minutes * 60_000) {
    await sleep(1_000)
    peakMB = Math.max(peakMB, await residentMB(world))
  }
  const last = await tab.figures()
  const passed = (performance.now() - sinceAt) / 60_000
  return {
    ...{ firstStepMs, firstSwapMs, peakMB: Math.round(peakMB) },
    roundsPerMinute: rounded((last.round - first.round) / passed),
    swapsPerMinute: rounded((last.swaps - first.swaps) / passed),
  }
}

async function sizeOf(draft: string): Promise<number> {
  return (await stat(join(draft, SHARD))).size
}

/** MB of 2^20 bytes of the largest of Chromium's renderers: the one tab that there is. */
async function residentMB({ browser }: World): Promise<number> {
  const session = await browser.newBrowserCDPSession()
  const { processInfo } = await session.send('SystemInfo.getProcessInfo')
  await session.detach()
  const renderers = processInfo.filter(({ type }) => type === 'renderer')
  const sizes = await Promise.all(renderers.map(({ id }) => residentOf(id)))
  return Math.max(0, ...sizes)
}

/** Zero for one that has just ended. */
async function residentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024
}

/** The sample model's draft with wider layers. */
async function writeLargeDraft(dir: string, test: Digits, units: number[]): Promise<void> {
  await writeDigitsDraft(dir, test, { optimizer: { name: 'sgd', learningRate: 0.05 } })
  const json = branchingJson([28, 28, 1], [{ layer: 'Flatten' }, ...units.map(dense)])
  await writeFile(join(dir, 'model.json'), json)
  await writeFile(join(dir, SHARD), firstParams(topologyOf(json).tensors, 1))
}

function dense(units: number, i: number, { length }: number[]): LayerSpec {
  return { layer: 'Dense', config: { units, activation: i === length - 1 ? 'softmax' : 'relu' } }
}
