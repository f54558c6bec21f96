import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { CDPSession } from 'playwright-core'
import { pageFolder } from '../../node/start/page.ts'
import type { Tab, World } from '../browser/world.ts'
import { type Bench, type BenchOptions, columns, median, type Result, rounded } from './bench.ts'

/** The page as a stranger meets it, in Chromium on loopback, with one Node peer that trains already. */
export interface PageResult extends Result {
  /** Its version, or why there is none. */
  chromium: string
  /** What came before the first paint, and all until the first swap; gzip -9, KB of 1000 bytes. */
  firstPaintKB: number
  totalKB: number
  /** From opening the link: sample data by one click, start by another; medians of several visitors. */
  firstStepMs: number
  firstSwapMs: number
  /** How late a timer of 20 ms rings in the window while it trains and swaps, 99th percentile. */
  blockedMsP99: number
  /** Rounds a second of the page alone beside `mlstore train --no-swap` on the same data, turn by turn. */
  ofNode: number
  /** Of the window's heap, garbage collected before each look. */
  heapSlopeMBPerHour: number
  /** A swap of 10 MB each way between two tabs: MB of 10^6 one way a second, and packets that the browser threw away. */
  tabSwapMBps: number
  tabSwapDiscarded: number
  /** A bare data channel's time in the same tabs / ours. */
  tabSwapOfBare: number
  /** The same between two browsers on this machine, whose UDP buffers are small. */
  browsersSwapMBps: number
}

const figures = [
  ...['firstPaintKB', 'totalKB', 'firstStepMs', 'firstSwapMs'],
  ...['blockedMsP99', 'ofNode', 'heapSlopeMBPerHour'],
  ...['tabSwapMBps', 'tabSwapDiscarded', 'tabSwapOfBare', 'browsersSwapMBps'],
] as const

export const bench: Bench<PageResult> = {
  name: 'page',
  reach:
    'first paint <= 120 KB, all <= 750 KB gzip; first step <= 15 s, first swap <= 30 s; blocked p99 <= 100 ms; steps of Node >= 0.9; heap flat; 10 MB between tabs >= 5 MB/s, none discarded',
  run,
  table: (result) =>
    [
      `Chromium: ${result.chromium}`,
      columns([[...figures], figures.map((key) => result[key as keyof PageResult])]),
    ].join('\n'),
}

const ABSENT = 'skipped, there is none (npm run browser:install)'
const VISITORS = 5
/** The one donor serves the next newcomer after 4 s. */
const BETWEEN_MS = 6_000
const TURNS = 5
const TURN_MS = 8_000
/** A page that has just begun to train still compiles, links and draws its first chart: its first second has two thirds of the rounds. */
const WARM_MS = 2_000
const BLOCKED_MS = 30_000
const HEAP_MS = 15 * 60_000
const HEAP_EVERY_MS = 10_000
const QUICK = { turnMs: 1_500, blockedMs: 2_000, heapMs: 6_000, heapEveryMs: 2_000 }

async function run({ quick, say }: BenchOptions): Promise<PageResult> {
  const { executablePath } = await import('../browser/chromium.ts')
  if (!executablePath) return { ...empty, chromium: ABSENT }
  const [{ openWorld }, { swapBetweenTabs }] = await Promise.all([
    import('../browser/world.ts'),
    import('./tabs.ts'),
  ])
  say('swaps between two tabs, and between two browsers ...')
  const [megabytes, times] = quick ? [1, 2] : [10, 9]
  const tabs = await swapBetweenTabs(megabytes, times, { browsers: 1 })
  const apart = await swapBetweenTabs(megabytes, times, { browsers: 2 })
  say('a bootstrap, a model and a Chromium ...')
  const world = await openWorld(4)
  try {
    const turns = quick ? 1 : TURNS
    const ofNode = await compare(world, turns, quick ? QUICK.turnMs : TURN_MS, say)
    const trainer = world.train('a', 0)
    await trainer.says(({ ev, round }) => ev === 'round' && round! > 5)
    say('visitors ...')
    const visits = []
    for (let i = 0; i < (quick ? 1 : VISITORS); i++) {
      if (i > 0) await sleep(BETWEEN_MS)
      visits.push(await visit(world))
    }
    say('the window while it trains ...')
    const tab = await world.tab()
    await tab.train('sample')
    await tab.sees('swaps', ({ swaps }) => swaps > 0, 60_000)
    const blockedMsP99 = await blocked(tab, quick ? QUICK.blockedMs : BLOCKED_MS)
    say(`the heap, ${quick ? QUICK.heapMs / 1000 : HEAP_MS / 1000} s ...`)
    const heapSlope = await slope(tab, quick)
    return {
      bench: 'page',
      chromium: world.browser.version(),
      firstPaintKB: rounded(median(visits.map(({ firstPaintKB }) => firstPaintKB))),
      totalKB: rounded(median(visits.map(({ totalKB }) => totalKB))),
      firstStepMs: Math.round(median(visits.map(({ firstStepMs }) => firstStepMs))),
      firstSwapMs: Math.round(median(visits.map(({ firstSwapMs }) => firstSwapMs))),
      blockedMsP99: rounded(blockedMsP99),
      ofNode: rounded(ofNode),
      heapSlopeMBPerHour: rounded(heapSlope),
      tabSwapMBps: rounded(tabs.megabytesPerSecond),
      tabSwapDiscarded: tabs.discarded,
      tabSwapOfBare: rounded(tabs.ofBare),
      browsersSwapMBps: rounded(apart.megabytesPerSecond),
    }
  } finally {
    await world.end()
  }
}

const empty: PageResult = {
  ...{ bench: 'page', chromium: ABSENT, firstPaintKB: 0, totalKB: 0, firstStepMs: 0 },
  ...{ firstSwapMs: 0, blockedMsP99: 0, ofNode: 0, heapSlopeMBPerHour: 0 },
  ...{ tabSwapMBps: 0, tabSwapDiscarded: 0, tabSwapOfBare: 0, browsersSwapMBps: 0 },
}

/** One stranger: opens the link, takes the sample, starts. */
async function visit(world: World) {
  const startedAt = performance.now()
  const tab = await world.tab()
  try {
    await tab.train('sample')
    await tab.sees('a round', ({ round }) => round > 0, 120_000)
    const firstStepMs = performance.now() - startedAt
    await tab.sees('a swap', ({ swaps }) => swaps > 0, 120_000)
    const firstSwapMs = performance.now() - startedAt
    const { painted, fetched } = await tab.page.evaluate(() => ({
      painted: performance.getEntriesByName('first-contentful-paint')[0]!.startTime,
      fetched: performance
        .getEntriesByType('resource')
        .map(({ name, startTime }) => ({ name, startTime })),
    }))
    const own = fetched.filter(({ name }) => name.startsWith(world.page.address))
    const before = own.filter(({ startTime }) => startTime < painted).map(({ name }) => name)
    // What the worker fetches is not among the window's entries.
    const inWorker = await workerFiles(tab)
    const page = [`${world.page.address}index.html`]
    return {
      firstStepMs,
      firstSwapMs,
      firstPaintKB: await sizeOf(world, [...page, ...before]),
      totalKB: await sizeOf(world, [...page, ...own.map(({ name }) => name), ...inWorker]),
    }
  } finally {
    await tab.close()
  }
}

async function workerFiles({ page }: Tab): Promise<string[]> {
  const lists = await Promise.all(
    page
      .workers()
      .map(async (worker) => [
        worker.url(),
        ...(await worker.evaluate(() =>
          performance.getEntriesByType('resource').map(({ name }) => name),
        )),
      ]),
  )
  return lists.flat()
}

/** KB of 1000 bytes, each file once, as gzip -9 makes it. */
async function sizeOf({ page }: World, addresses: readonly string[]): Promise<number> {
  const names = new Set(
    addresses.map((address) => address.slice(page.address.length).split('?')[0]!),
  )
  names.delete('peers.json')
  let bytes = 0
  for (const name of names) {
    const contents = await readFile(join(pageFolder, name))
    bytes += (await promisify(gzip)(contents, { level: 9 })).length
  }
  return bytes / 1000
}

/** Page and Node take turns, each alone with the same digits. */
async function compare(
  world: World,
  turns: number,
  turnMs: number,
  say: (text: string) => void,
): Promise<number> {
  const ratios: number[] = []
  for (let turn = 0; turn < turns; turn++) {
    say(`page and Node, turn ${turn + 1} of ${turns} ...`)
    const tab = await world.tab()
    await tab.train(1)
    await tab.sees('rounds', ({ round }) => round > 20, 60_000)
    await sleep(WARM_MS)
    const first = await tab.figures()
    const startedAt = performance.now()
    await sleep(turnMs)
    const last = await tab.figures()
    const inPage = (last.round - first.round) / (performance.now() - startedAt)
    await tab.close()

    const peer = world.train('alone', 1, '--no-swap')
    await peer.says(({ ev, round }) => ev === 'round' && round! > 20)
    const warmAt = Date.now() + WARM_MS
    await sleep(WARM_MS + turnMs)
    world.stop('alone')
    const rounds = peer.lines
      .map((line) => JSON.parse(line) as { ev: string; t: string; round: number })
      .filter(({ ev, t }) => ev === 'round' && Date.parse(t) > warmAt)
    const [from, to] = [rounds[0]!, rounds.at(-1)!]
    const inNode = (to.round - from.round) / (Date.parse(to.t) - Date.parse(from.t))
    ratios.push(inPage / inNode)
  }
  return median(ratios)
}

/** Milliseconds that a timer of 20 ms is late, 99th percentile. */
async function blocked({ page }: Tab, ms: number): Promise<number> {
  return page.evaluate(
    (ms) =>
      new Promise<number>((resolve) => {
        const late: number[] = []
        let last = performance.now()
        const end = last + ms
        const timer = setInterval(() => {
          const now = performance.now()
          late.push(Math.max(0, now - last - 20))
          last = now
          if (now < end) return
          clearInterval(timer)
          late.sort((a, b) => a - b)
          resolve(late[Math.floor(0.99 * late.length)]!)
        }, 20)
      }),
    ms,
  )
}

/** MB of 2^20 bytes an hour, by least squares. */
async function slope(tab: Tab, quick: boolean): Promise<number> {
  const session: CDPSession = await tab.context.newCDPSession(tab.page)
  const startedAt = performance.now()
  const looks: { hours: number; mb: number }[] = []
  const [ms, every] = quick ? [QUICK.heapMs, QUICK.heapEveryMs] : [HEAP_MS, HEAP_EVERY_MS]
  while (performance.now() - startedAt < ms) {
    await sleep(every)
    await session.send('HeapProfiler.collectGarbage')
    const { usedSize } = await session.send('Runtime.getHeapUsage')
    looks.push({ hours: (performance.now() - startedAt) / 3_600_000, mb: usedSize / 2 ** 20 })
  }
  // The chart's points and the first swaps fill up first.
  const steady = looks.slice(Math.floor(looks.length / 3))
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length
  const [x, y] = [mean(steady.map(({ hours }) => hours)), mean(steady.map(({ mb }) => mb))]
  const over = steady.reduce((sum, { hours, mb }) => sum + (hours - x) * (mb - y), 0)
  return over / steady.reduce((sum, { hours }) => sum + (hours - x) ** 2, 0)
}
