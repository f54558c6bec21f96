import { setTimeout as sleep } from 'node:timers/promises'
import { text } from '../../browser/text.ts'
import type { Tab, World } from '../browser/world.ts'
import { type Bench, type BenchOptions, columns, type Result, rounded } from './bench.ts'

/** Tabs and Node peers in one swarm: how well they learn together, and whether a tab stays at ease among many. */
export interface CrowdResult extends Result {
  /** Its version, or why there is none. */
  chromium: string
  /** Mean accuracy after half a minute: of three tabs beside a Node peer, and of four Node peers, on the same shares. */
  mixed: number
  nodes: number
  /** Then `tabs` tabs and `peers` Node peers, until the end: names that stand twice in a tab's list of peers. */
  tabs: number
  peers: number
  doubles: number
  /** Most at once in any tab, WebRTC and WebSocket, those not yet open or not yet closed included. */
  connections: number
  /** Of these open ones: not those still dialled, nor those the other end has left. */
  openAtOnce: number
  /** Swaps of the tab that had fewest, in its worst minute. */
  swapsPerMinute: number
}

const figures = [
  ...['mixed', 'nodes', 'tabs', 'peers', 'doubles', 'connections', 'openAtOnce', 'swapsPerMinute'],
] as const

export const bench: Bench<CrowdResult> = {
  name: 'crowd',
  reach:
    'three tabs and a Node peer within 0.02 of four Node peers; 6 tabs among 14 Node peers: no double rows, <= 12 connections a tab, each swaps >= 1 a minute',
  run,
  table: (result) =>
    [
      `Chromium: ${result.chromium}`,
      columns([[...figures], figures.map((key) => result[key as keyof CrowdResult])]),
    ].join('\n'),
}

const ABSENT = 'skipped, there is none (npm run browser:install)'
const SHARES = 4
const FULL = { tabs: 6, peers: 14, learnMs: 30_000, minutes: 3, minuteMs: 60_000 }
const QUICK = { tabs: 2, peers: 2, learnMs: 4_000, minutes: 1, minuteMs: 10_000 }
/** Of the time; a tab's and a Node peer's. They share two cores here. */
const TAB_PERCENT = 25
const PEER_PERCENT = 5
const LOOK_EVERY_MS = 1_000
const START_MS = 120_000

async function run({ quick, say }: BenchOptions): Promise<CrowdResult> {
  const { executablePath } = await import('../browser/chromium.ts')
  const size = quick ? QUICK : FULL
  const { tabs, peers } = size
  if (!executablePath)
    return {
      ...{ bench: 'crowd', chromium: ABSENT, mixed: 0, nodes: 0, tabs, peers },
      ...{ doubles: 0, connections: 0, openAtOnce: 0, swapsPerMinute: 0 },
    }
  const { openWorld } = await import('../browser/world.ts')
  say('a bootstrap, a model and a Chromium ...')
  const together = await openWorld(SHARES)
  try {
    const chromium = together.browser.version()
    say('three tabs and a Node peer ...')
    const mixed = await learnMixed(together, size.learnMs)
    say('four Node peers ...')
    const nodes = await learnInNode(together, size.learnMs)
    say(`accuracy: ${rounded(mixed)} with tabs, ${rounded(nodes)} in Node`)
    say(`${tabs} tabs and ${peers} Node peers ...`)
    const found = await crowd(together, size, say)
    return {
      ...{ bench: 'crowd', chromium, tabs, peers },
      ...{ mixed: rounded(mixed), nodes: rounded(nodes), ...found },
    }
  } finally {
    await together.end()
  }
}

async function learnMixed(world: World, ms: number): Promise<number> {
  world.train('a', 0)
  const tabs = await Promise.all([1, 2, 3].map(() => world.tab()))
  await Promise.all(tabs.map((tab, i) => tab.train(i + 1)))
  for (const tab of tabs) await tab.sees('a swap', ({ swaps }) => swaps > 0, START_MS)
  await sleep(ms)
  const found = await Promise.all(tabs.map((tab) => tab.figures()))
  await Promise.all(tabs.map((tab) => tab.close()))
  world.stop('a')
  return mean(found.map(({ averaged }) => averaged))
}

async function learnInNode(world: World, ms: number): Promise<number> {
  const names = ['e', 'f', 'g', 'h']
  const running = names.map((name, i) => world.train(name, i))
  for (const peer of running) await peer.says(({ ev }) => ev === 'swap')
  await sleep(ms)
  for (const name of names) world.stop(name)
  return mean(running.map(({ lines }) => lastAccuracy(lines)))
}

function lastAccuracy(lines: readonly string[]): number {
  const said = lines.map((line) => JSON.parse(line) as Said)
  return said.findLast(({ ev, at }) => ev === 'eval' && at === 'averaged')!.metrics.accuracy
}

/** Of the reports that `mlstore train --json` writes. */
interface Said {
  ev: string
  at?: string
  metrics: { accuracy: number }
}

async function crowd(
  world: World,
  { tabs, peers, minutes, minuteMs }: typeof FULL,
  say: (text: string) => void,
): Promise<Pick<CrowdResult, 'doubles' | 'connections' | 'openAtOnce' | 'swapsPerMinute'>> {
  for (let i = 0; i < peers; i++) {
    const peer = world.train(`p${i}`, i % SHARES, '--intensity', String(PEER_PERCENT))
    await peer.says(({ ev }) => ev === 'round')
  }
  const open: Tab[] = []
  for (let i = 0; i < tabs; i++) {
    const context = await world.browser.newContext()
    await context.addInitScript(countConnections)
    const tab = await world.tab({ context, intensity: TAB_PERCENT / 100, openMs: START_MS })
    await tab.train(i % SHARES)
    open.push(tab)
  }
  for (const tab of open) await tab.sees('a swap', ({ swaps }) => swaps > 0, START_MS)
  let [connections, openAtOnce, doubles, swapsPerMinute] = [0, 0, 0, Number.POSITIVE_INFINITY]
  for (let minute = 1; minute <= minutes; minute++) {
    const before = await Promise.all(open.map((tab) => tab.figures()))
    const until = performance.now() + minuteMs
    while (performance.now() < until) {
      await sleep(LOOK_EVERY_MS)
      for (const tab of open) {
        const [all, now] = await tab.page.evaluate(countOpen)
        connections = Math.max(connections, all)
        openAtOnce = Math.max(openAtOnce, now)
        const names = await namesOf(tab)
        doubles = Math.max(doubles, names.length - new Set(names).size)
      }
    }
    const after = await Promise.all(open.map((tab) => tab.figures()))
    const swaps = after.map(({ swaps }, i) => swaps - before[i]!.swaps)
    say(
      `minute ${minute}: swaps ${swaps.join(', ')}; at most ${connections} connections, ${openAtOnce} open`,
    )
    swapsPerMinute = Math.min(swapsPerMinute, ...swaps)
  }
  return { doubles, connections, openAtOnce, swapsPerMinute }
}

function namesOf({ page }: Tab): Promise<string[]> {
  const table = page.locator('table', { hasText: text.peers.path })
  return table.locator('tbody tr th').allInnerTexts()
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b) / values.length
}

/** Runs in the page before its scripts: remembers what is made. */
function countConnections(): void {
  const made: (RTCPeerConnection | WebSocket)[] = []
  const Peer = RTCPeerConnection
  const Socket = WebSocket
  Object.assign(globalThis, {
    connectionsMade: made,
    RTCPeerConnection: class extends Peer {
      constructor(configuration?: RTCConfiguration) {
        super(configuration)
        made.push(this)
      }
    },
    WebSocket: class extends Socket {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols)
        made.push(this)
      }
    },
  })
}

/**
 * Runs in the page: all that are not closed, dials under way and what the other end has left among them; and of these the ones
 * that are open.
 */
function countOpen(): [connections: number, open: number] {
  const { connectionsMade } = globalThis as unknown as {
    connectionsMade: (RTCPeerConnection | WebSocket)[]
  }
  const alive = connectionsMade.filter((made) =>
    made instanceof WebSocket
      ? made.readyState !== WebSocket.CLOSED
      : !['closed', 'failed'].includes(made.connectionState),
  )
  const open = alive.filter((made) =>
    made instanceof WebSocket
      ? made.readyState === WebSocket.OPEN
      : made.connectionState === 'connected' && made.sctp?.state === 'connected',
  )
  return [alive.length, open.length]
}
