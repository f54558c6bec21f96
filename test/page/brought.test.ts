import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createPage, type Page } from '../../browser/page.ts'
import type { OpenVersion, Services } from '../../browser/services.ts'
import { workOf } from '../../browser/state.ts'
import { collectExamples } from '../../protocol/ports/examples.ts'
import { digits } from './manifests.ts'

/** What a browser keeps of drawings and files, shared by its tabs; each test has its own. */
const database = vi.hoisted(() => ({
  kept: new Map<string, unknown>(),
  isFull: false,
  /** Reads wait for this. */
  opened: Promise.resolve(),
}))

/** idb-keyval over a Map: copies go in and out, and an update is one transaction. */
vi.mock('idb-keyval', () => ({
  async get(key: string) {
    await database.opened
    return structuredClone(database.kept.get(key))
  },
  async update(key: string, change: (old: unknown) => unknown) {
    if (database.isFull) throw new DOMException('no room', 'QuotaExceededError')
    database.kept.set(key, structuredClone(change(structuredClone(database.kept.get(key)))))
  },
  async del(key: string) {
    database.kept.delete(key)
  },
  createStore: () => undefined,
}))

/** Tabs tell each other at once. */
class Channel {
  static all = new Set<Channel>()
  onmessage: (event: { data: unknown }) => void = () => {}
  constructor() {
    Channel.all.add(this)
  }
  postMessage(data: unknown) {
    for (const other of Channel.all) if (other !== this) other.onmessage({ data })
  }
}

beforeEach(() => {
  vi.stubGlobal('indexedDB', {})
  vi.stubGlobal('BroadcastChannel', Channel)
  Object.assign(database, { kept: new Map(), isFull: false, opened: Promise.resolve() })
  Channel.all.clear()
})
afterEach(() => void vi.unstubAllGlobals())

const version = { cid: 'bafyversion', genesis: 'bafygenesis', manifest: digits } as OpenVersion
const settings = { theme: 'auto', rounds: 0, intensity: 1, megabytes: 0, shortcuts: true } as const
const drawing = (shade: number) => ({ label: 1, pixels: new Uint8Array(784).fill(shade) })

/** A tab that has opened the model, with what is kept back on it. */
async function tab(): Promise<Page> {
  const page = newTab()
  await page.restore(version)
  return page
}

function newTab(): Page {
  const services = { onNetwork: () => () => {}, runs: async () => [], sampleOf } as unknown
  return createPage(Promise.resolve(services as Services), '#/', settings)
}

async function sampleOf() {
  const collector = collectExamples(784, 'pixels')
  collector.add(new Uint8Array(784).fill(99), 2)
  return collector.finish()
}

const shades = (page: Page) =>
  workOf(page.state.value, version.genesis).drawings.map(({ pixels }) => pixels[0])
const files = (page: Page) => workOf(page.state.value, version.genesis).parts.length
const isKeeping = (page: Page) => workOf(page.state.value, version.genesis).keep

test('a tab that keeps nothing takes nothing from one that does', async () => {
  const [keeping, other] = [await tab(), await tab()]
  await keeping.draw(version, drawing(1))
  await keeping.useSample(version)
  await keeping.keep(version, true)
  await other.draw(version, drawing(2))
  await other.undo(version)
  await other.draw(version, drawing(3))
  await other.useSample(version)
  await other.empty(version)
  const later = await tab()
  expect([shades(later), files(later), isKeeping(later)]).toEqual([[1], 1, true])
})

test('two tabs that both keep lose nothing to each other', async () => {
  const one = await tab()
  await one.draw(version, drawing(1))
  await one.keep(version, true)
  const two = await tab()
  await two.draw(version, drawing(2))
  await one.draw(version, drawing(3))
  await one.useSample(version)
  await two.undo(version)
  await two.draw(version, drawing(4))
  const later = await tab()
  expect([shades(later), files(later)]).toEqual([[1, 3, 4], 1])
})

test('a box ticked in a second tab adds to what the first keeps, and nothing twice', async () => {
  const [one, two] = [await tab(), await tab()]
  for (const [page, shade] of [
    [one, 1],
    [two, 2],
  ] as const) {
    await page.draw(version, drawing(shade))
    await page.useSample(version)
    await page.keep(version, true)
  }
  expect([shades(two), files(two)]).toEqual([[1, 2], 1])
  const later = await tab()
  expect([shades(later), files(later)]).toEqual([[1, 2], 1])
})

test('what is drawn or fetched before kept data is back neither forgets it nor is forgotten', async () => {
  const before = await tab()
  await before.draw(version, drawing(1))
  await before.keep(version, true)
  const { promise, resolve } = Promise.withResolvers<void>()
  database.opened = promise
  const page = newTab()
  const restored = page.restore(version)
  await page.draw(version, drawing(2))
  await page.useSample(version)
  expect([shades(page), isKeeping(page)]).toEqual([[2], false])
  resolve()
  await restored
  expect([shades(page), files(page), isKeeping(page)]).toEqual([[1, 2], 1, true])
  const later = await tab()
  expect([shades(later), files(later)]).toEqual([[1, 2], 1])
})

test('an unticked box, or all removed, forgets, and other tabs know that theirs is kept no more', async () => {
  const one = await tab()
  await one.draw(version, drawing(1))
  await one.keep(version, true)
  const two = await tab()
  expect(isKeeping(two)).toBe(true)
  await one.keep(version, false)
  expect([shades(two), isKeeping(two), isKeeping(one)]).toEqual([[1], false, false])
  expect(shades(await tab())).toEqual([])
  await two.keep(version, true)
  const three = await tab()
  await two.empty(version)
  expect([shades(three), isKeeping(three)]).toEqual([[1], false])
  expect(shades(await tab())).toEqual([])
})

test('what found no room is kept with the next that does', async () => {
  const page = await tab()
  await page.draw(version, drawing(1))
  await page.keep(version, true)
  database.isFull = true
  await page.draw(version, drawing(2))
  expect(workOf(page.state.value, version.genesis).unkept?.type).toBe('disk-full')
  database.isFull = false
  await page.draw(version, drawing(3))
  expect(workOf(page.state.value, version.genesis).unkept).toBeUndefined()
  expect(shades(await tab())).toEqual([1, 2, 3])
})
