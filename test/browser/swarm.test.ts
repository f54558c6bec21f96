import { readFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { text } from '../../browser/text.ts'
import { servePage } from '../../node/start/page.ts'
import { phaseSentences } from '../../protocol/report.ts'
import { isFull } from '../faults/every.ts'
import { unzip } from '../support/zip.ts'
import { certificate } from './certificate.ts'
import { executablePath, requireChromium } from './chromium.ts'
import { openPlainChromium } from './plain.ts'
import { figuresFrom, openWorld, readFigures, type Tab, type World } from './world.ts'

/** The page as a peer: Chromium, a bootstrap and Node peers, each real; a tab of its own profile is a peer. */

const SHARES = 4
/** What a peer reaches by itself with 2 of 8 label-sorted pieces: it has never seen the other digits. */
const ALONE = 0.45
/** Of the digits' model: 784 inputs, 64 hidden units, 10 labels. */
const PARAMS_BYTES = 4 * (785 * 64 + 65 * 10)
const LIMIT_MS = 120_000
requireChromium('the page in a swarm')

describe.runIf(executablePath)('the page', { timeout: LIMIT_MS }, () => {
  let world: World
  const open: Tab[] = []
  const tabOf = async (...options: Parameters<World['tab']>) => {
    const tab = await world.tab(...options)
    open.push(tab)
    return tab
  }
  beforeAll(async () => {
    world = await openWorld(SHARES)
  }, LIMIT_MS)
  afterEach(async () => {
    for (const tab of open.splice(0)) await tab.close()
    for (const peer of ['a', 'b', 'c']) world.stop(peer)
    expect(world.complaints()).toEqual([])
  })
  afterAll(() => world?.end())

  test('three tabs and a Node peer, each with some of the digits, end far above what each reaches alone', async () => {
    world.train('a', 0)
    const tabs = await Promise.all([1, 2, 3].map(() => tabOf()))
    await Promise.all(tabs.map((tab, i) => tab.train(i + 1)))
    const found = await Promise.all(
      tabs.map((tab) => tab.sees('accuracy of 0.75', ({ averaged }) => averaged >= 0.75, 60_000)),
    )
    for (const { averaged, swaps } of found) {
      expect(averaged).toBeGreaterThan(ALONE + 0.25)
      expect(swaps).toBeGreaterThan(0)
    }
  })

  test('a tab that comes late starts from what the others know', async () => {
    world.train('a', 0)
    const first = await tabOf()
    await first.train('sample')
    // Sample and skewed share together settle at 0.77 to 0.8: it is enough to know the others' digits.
    await first.sees('accuracy of 0.7', ({ averaged }) => averaged >= ALONE + 0.25, 60_000)
    const late = await tabOf()
    await late.train(1)
    const { own } = await late.sees('a first round', ({ round, own }) => round >= 1 && own > 0)
    expect(own).toBeGreaterThan(ALONE)
  })

  test('a tab that is closed in the middle of a swap stops nobody', async () => {
    const [stays, other, goes] = await Promise.all([tabOf(), tabOf(), tabOf()])
    await Promise.all([stays.train(1), other.train(2), goes.train(3)])
    for (const tab of [stays, goes]) await tab.sees('swaps', ({ swaps }) => swaps >= 3)
    await goes.page.evaluate(stopInSwap)
    await goes.close()
    open.splice(open.indexOf(goes), 1)
    const { swaps } = await stays.figures()
    await stays.sees('five swaps more', (now) => now.swaps >= swaps + 5)
  })

  test.runIf(isFull)(
    'a tab that is closed is gone from the list of another within 8 s, which WebRTC alone needs 15 for',
    async () => {
      const [stays, goes] = await Promise.all([tabOf(), tabOf()])
      await Promise.all([stays.train(1), goes.train(2)])
      for (const tab of [stays, goes]) await tab.sees('swaps', ({ swaps }) => swaps >= 3)
      await goes.page.getByRole('link', { name: text.nav.network }).click()
      const name = (
        await goes.page.locator('section[aria-labelledby=me] code').first().innerText()
      ).slice(-8)
      await stays.page.getByRole('link', { name: text.nav.network }).click()
      const row = stays.page.locator('section[aria-labelledby=linked] tr', { hasText: name })
      await row.getByText(text.peers.paths.webrtc).waitFor()
      await goes.page.close({ runBeforeUnload: true })
      await row.waitFor({ state: 'detached', timeout: 8_000 })
    },
  )

  test('a tab of one profile trains, and another says that it does, and frees nothing until it is done', async () => {
    const first = await tabOf()
    await first.train('sample')
    await first.sees('a round', ({ round }) => round >= 1)
    const second = await tabOf({ context: first.context })
    await second.train('sample')
    await second.page.getByText('another tab of this browser is training').first().waitFor()
    await second.page.getByRole('link', { name: text.nav.mine }).click()
    const version = second.page.getByRole('region', { name: text.versionsHere.title })
    const free = async () => {
      await version.getByRole('button', { name: text.versionsHere.free }).click()
      await version.getByRole('button', { name: text.versionsHere.sure }).click()
    }
    await free()
    await version.getByText('another tab of this browser is training').waitFor()
    const { round } = await first.figures()
    await first.sees('five rounds more', (now) => now.round >= round + 5)
    await first.page.getByRole('button', { name: text.run.stop }).first().click()
    await first.page.getByText(phaseSentences.stopped).first().waitFor()
    expect(await second.page.evaluate(keptBlocks)).toBeGreaterThan(3)
    await free()
    await version.getByText(text.versionsHere.none).waitFor()
    expect(await second.page.evaluate(keptBlocks)).toBe(0)
    await second.page.goBack()
    await second.page.getByRole('button', { name: text.run.again }).click()
    await second.sees('rounds of its own', (now) => now.round >= 1)
  })

  test('after a reload, while it trains and when it has stopped, it goes on from its checkpoint', async () => {
    const tab = await tabOf()
    const { page } = tab
    await tab.train('sample')
    await tab.sees('five rounds', ({ round }) => round >= 5)
    await page.evaluate(hide)
    await expect.poll(() => page.evaluate(keptCheckpoints), { timeout: 5_000 }).toBe(1)
    const reload = async () => {
      await page.reload()
      await page.getByRole('button', { name: text.data.sample }).waitFor()
      const kept = page.getByLabel(/Go on from round/)
      await kept.waitFor()
      return Number(/round (\d+)/.exec(await kept.locator('..').innerText())![1])
    }
    const goOn = async () => {
      await tab.train('sample')
      await tab.sees('a round', ({ own }) => own > 0)
      expect(await page.getByText(text.run.notResumed).count()).toBe(0)
      return firstRound(tab)
    }
    const kept = await reload()
    expect(kept).toBeGreaterThanOrEqual(5)
    expect(await goOn()).toBeGreaterThanOrEqual(kept)
    await page.getByRole('button', { name: text.run.stop }).first().click()
    await page.getByText(phaseSentences.stopped).first().waitFor()
    const { round } = await tab.figures()
    const ended = await reload()
    expect(ended).toBeGreaterThanOrEqual(round)
    await page.getByRole('link', { name: text.model.tabs.card, exact: true }).click()
    const mine = await saved(tab, text.card.takeMine)
    expect(mine.name).toContain('-mine.zip')
    // The run told what it takes here; a worker that only measures finds it, too.
    const cost = page.getByText(
      /^A step takes .* here and a round of training .*, on the engine backend/,
    )
    await cost.waitFor()
    await page.getByRole('button', { name: text.card.measureAgain }).click()
    await page.getByText(text.card.measuring).waitFor({ state: 'detached' })
    await cost.filter({ hasText: text.card.measuredAt('now') }).waitFor()
    expect(await page.locator('.card-tab .fault').count()).toBe(0)
    const zipped = unzip(await readFile(mine.path))
    expect(zipped.get('group1-shard1of1.bin')).toHaveLength(PARAMS_BYTES)
    expect([...zipped.keys()]).toEqual(
      expect.arrayContaining(['model.json', 'model.safetensors', 'labels.txt', 'README.md']),
    )
    await page.getByRole('link', { name: text.model.tabs.train, exact: true }).click()
    expect(await goOn()).toBeGreaterThanOrEqual(ended)
  })

  test.runIf(isFull)('a tab that is ended while it is hidden goes on from there', async () => {
    const first = await tabOf()
    await first.train('sample')
    await first.sees('a round', ({ round }) => round >= 1)
    expect(await first.page.evaluate(keptCheckpoints)).toBe(0)
    await first.page.evaluate(hide)
    await expect.poll(() => first.page.evaluate(keptCheckpoints), { timeout: 5_000 }).toBe(1)
    const crashed = first.page.waitForEvent('crash')
    const cdp = await first.context.newCDPSession(first.page)
    void cdp.send('Page.crash').catch(() => undefined)
    await crashed
    const second = await tabOf({ context: first.context })
    await second.page.locator('input[accept*=csv]').waitFor({ state: 'attached' })
    await second.page.getByLabel(/Go on from round/).waitFor()
  })

  test.runIf(isFull)(
    'files that a person wants kept are there after a reload, and no others',
    async () => {
      const { page } = await tabOf()
      const chooser = page.locator('input[accept*=csv]')
      const bring = () => chooser.setInputFiles(world.shares[0]!)
      const brought = page.locator('ul.parts li')
      const again = async () => {
        await page.reload()
        await chooser.waitFor({ state: 'attached' })
      }
      await bring()
      await brought.waitFor()
      await again()
      expect(await brought.count()).toBe(0)
      await bring()
      await page.getByLabel(text.data.keep).check()
      await expect.poll(() => page.evaluate(keptParts, world.cid)).toBe(1)
      await again()
      await brought.waitFor()
      expect(await brought.innerText()).toContain(text.data.examples(500))
      await brought.getByRole('button').click()
      await expect.poll(() => page.evaluate(keptParts, world.cid)).toBe(0)
    },
  )

  test('with WebRTC blocked, tabs mix through a Node peer', async () => {
    world.train('a', 0)
    const tabs = await Promise.all([tabOf({ webrtc: false }), tabOf({ webrtc: false })])
    await Promise.all(tabs.map((tab, i) => tab.train(i + 1)))
    for (const tab of tabs) {
      await tab.sees('eight swaps', ({ swaps }) => swaps >= 8)
      const rows = await peerRows(tab)
      expect(rows.filter((row) => row.includes(text.peers.paths.ws))).toHaveLength(rows.length)
    }
  })

  test('with WebRTC blocked and no Node peer each trains alone, and says so within 15 s', async () => {
    const tabs = await Promise.all([tabOf({ webrtc: false }), tabOf({ webrtc: false })])
    await Promise.all(tabs.map((tab, i) => tab.train(i + 1)))
    const started = performance.now()
    const left = () => Math.max(1, started + 15_000 - performance.now())
    for (const tab of tabs)
      await tab.page.getByText(text.run.why.noWebRTC).waitFor({ timeout: left() })
    for (const tab of tabs) {
      const { phase, swaps } = await tab.sees('a round', ({ round }) => round >= 1)
      expect(phase).toContain('Training alone')
      expect(swaps).toBe(0)
    }
  })

  test.runIf(isFull)(
    'a tab whose megabytes of the day are spent trains on alone, until it is given more',
    async () => {
      world.train('a', 0)
      const tab = await tabOf({ megabytes: 1 })
      await tab.train(1)
      const spent = await tab.sees('the limit', ({ phase }) => phase === text.run.limited)
      const done = await tab.sees('the last swap end', ({ round }) => round >= spent.round + 5)
      expect(done.swaps).toBeLessThanOrEqual(spent.swaps + 1) // one may have been under way
      const alone = await tab.sees('ten more rounds', ({ round }) => round >= done.round + 10)
      expect(alone.swaps).toBe(done.swaps)
      await tab.page.getByRole('link', { name: text.run.limits }).click()
      await tab.page.getByRole('spinbutton', { name: text.settings.megabytes }).fill('0')
      await tab.page.goBack()
      await tab.sees('five more swaps', ({ swaps }) => swaps >= alone.swaps + 5)
    },
  )

  test.runIf(isFull)('two tabs and nobody else swap over WebRTC', async () => {
    const tabs = await Promise.all([tabOf(), tabOf()])
    await Promise.all(tabs.map((tab, i) => tab.train(i + 1)))
    for (const tab of tabs) await tab.sees('five swaps', ({ swaps }) => swaps >= 5)
    const rows = await peerRows(tabs[0]!)
    expect(rows.join('\n')).toContain(text.peers.paths.webrtc)
  })

  test('two tabs that swap go on when every bootstrap and Node peer is gone', async () => {
    const apart = await openWorld(SHARES)
    try {
      const tabs = await Promise.all([apart.tab(), apart.tab()])
      await Promise.all(tabs.map((tab, i) => tab.train(i + 1)))
      for (const tab of tabs) await tab.sees('five swaps', ({ swaps }) => swaps >= 5)
      await apart.bootstrap.stop('SIGKILL')
      apart.stop('publisher')
      const before = await Promise.all(tabs.map((tab) => tab.figures()))
      for (const [i, tab] of tabs.entries())
        await tab.sees('five more', ({ swaps }) => swaps >= before[i]!.swaps + 5)
      await tabs[0]!.page.getByRole('link', { name: text.nav.network }).click()
      await tabs[0]!.page.getByText(text.network.closed).waitFor()
    } finally {
      await apart.end()
    }
  })

  test('a page that was offline trains on meanwhile, and swaps again when it is back', async () => {
    world.train('a', 0)
    const context = await world.browser.newContext()
    await context.addInitScript(cutWhileOffline)
    const tab = await tabOf({ context, webrtc: false })
    await tab.train(1)
    await tab.sees('five swaps', ({ swaps }) => swaps >= 5)
    await context.setOffline(true)
    await tab.page.getByText(text.run.why.offline).waitFor()
    const gone = await tab.figures()
    const alone = await tab.sees('ten rounds more', ({ round }) => round >= gone.round + 10)
    expect(alone.swaps).toBe(gone.swaps)
    await context.setOffline(false)
    await tab.sees('five swaps more', ({ swaps }) => swaps >= alone.swaps + 5, 60_000)
    expect(await tab.page.getByText(text.run.why.offline).count()).toBe(0)
    await context.close()
  })

  test('a hidden tab goes on training', async () => {
    const chromium = await openPlainChromium()
    try {
      const tab = await chromium.open(`${world.page.address}#/m/${world.cid}`)
      const is = (expression: string) => tab.evaluate<boolean>(expression)
      const until = (expression: string) =>
        expect.poll(() => is(expression), { timeout: 30_000 }).toBe(true)
      const round = async () => figuresFrom(await tab.evaluate(`(${readFigures})()`)).round
      await until(`document.querySelector('button.sample:enabled') !== null`)
      await is(`document.querySelector('button.sample').click(), true`)
      await until(`document.querySelector('.start .primary:enabled') !== null`)
      await is(`document.querySelector('.start .primary').click(), true`)
      await expect.poll(round, { timeout: 30_000 }).toBeGreaterThan(5)
      await chromium.open('about:blank')
      await until(`document.visibilityState === 'hidden'`)
      const before = await round()
      await expect.poll(round, { timeout: 30_000 }).toBeGreaterThan(before + 30)
      expect(await is('document.hidden')).toBe(true)
    } finally {
      await chromium.end()
    }
  })

  test('an https page, which may not dial ws, reaches a Node peer through webrtc-direct', async () => {
    world.train('a', 0)
    const address = world.bootstrap.addresses.find((address) => address.includes('/webrtc-direct/'))
    const page = await servePage([address!], { port: 0, tls: await certificate() })
    try {
      // Browsers let even an https page dial ws on loopback: elsewhere they do not.
      const tab = await tabOf({ address: page.address, websocket: false })
      await tab.train(1)
      await tab.sees('three swaps', ({ swaps }) => swaps >= 3)
      await tab.page.getByRole('link', { name: text.nav.network }).click()
      await tab.page.getByText(text.peers.paths['webrtc-direct']).first().waitFor()
      await tab.page.getByText(text.network.roles.introduces).first().waitFor()
      await tab.page.getByText(text.network.roles.trains, { exact: true }).first().waitFor()
      await tab.page.getByRole('button', { name: text.selfTest.start }).click()
      await tab.page.getByRole('button', { name: text.selfTest.again, disabled: false }).waitFor()
      const failed = await tab.page.locator('.self-test li:not(.has)').allInnerTexts()
      expect(failed).toEqual([])
      expect(await tab.page.locator('.self-test li').count()).toBeGreaterThanOrEqual(6)
    } finally {
      page.close()
    }
  })

  test('what the command line publishes appears in the list', async () => {
    const tab = await tabOf({ hash: '#/' })
    await tab.page.getByRole('link', { name: 'Handwritten digits' }).first().waitFor()
    await world.mlstore(
      'publish',
      await world.draft('letters', 'Handwritten letters'),
      '--home',
      world.home('other'),
    )
    await tab.page.reload()
    await tab.page.getByRole('link', { name: 'Handwritten letters' }).first().waitFor()
  })

  test('ten drawings of a shape change what the model says of it', async () => {
    const { page } = await tabOf()
    const teach = page.getByLabel(text.train.drawPad, { exact: true })
    const probe = page.getByLabel(text.train.testPad)
    const best = page.locator('.test .guess-best strong')
    await draw(probe)
    const before = await best.innerText()
    const wanted = before === '7' ? '4' : '7'
    for (let i = 0; i < 10; i++) {
      await draw(teach, 0.01 * i)
      await page.locator('.teach .labels button', { hasText: wanted }).click()
    }
    await page.getByRole('button', { name: text.train.start, exact: true }).click()
    await expect.poll(() => best.innerText(), { timeout: 30_000 }).toBe(wanted)
    expect(before).not.toBe(wanted)
  })
})

/** The rows of the table of peers. */
function peerRows({ page }: Tab): Promise<string[]> {
  const peers = page.locator('table', { hasText: text.peers.path })
  return peers.locator('tbody tr').allInnerTexts()
}

/** What a button gives to save. */
async function saved({ page }: Tab, button: string): Promise<{ name: string; path: string }> {
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: button }).click(),
  ])
  return { name: download.suggestedFilename(), path: await download.path() }
}

/** The first round that the chart of a run has, as its JSONL says. */
async function firstRound(tab: Tab): Promise<number> {
  await tab.page.getByText(text.chart.table).first().click()
  const { path } = await saved(tab, text.chart.jsonl)
  return JSON.parse((await readFile(path, 'utf8')).split('\n')[0]!).round
}

type Locator = ReturnType<Tab['page']['locator']>

/** A crooked Z with its middle crossed, `shift` of the pad's width to the right. */
async function draw(pad: Locator, shift = 0): Promise<void> {
  await pad.scrollIntoViewIfNeeded()
  const box = (await pad.boundingBox())!
  const mouse = pad.page().mouse
  const at = (x: number, y: number) =>
    [box.x + (x + shift) * box.width, box.y + y * box.height] as const
  for (const stroke of strokes) {
    const [[x, y], ...rest] = stroke as [[number, number], ...[number, number][]]
    await mouse.move(...at(x, y))
    await mouse.down()
    for (const [x, y] of rest) await mouse.move(...at(x, y), { steps: 5 })
    await mouse.up()
  }
}

const strokes = [
  [
    [0.25, 0.25],
    [0.7, 0.25],
    [0.3, 0.75],
    [0.72, 0.75],
  ],
  [
    [0.35, 0.5],
    [0.65, 0.5],
  ],
]

/** Runs in the page: as when another tab is looked at. */
function hide(): void {
  Object.defineProperty(document, 'hidden', { value: true })
  document.dispatchEvent(new Event('visibilitychange'))
}

/** Runs in the page: a Chromium that only pretends to be offline leaves WebSockets as they are; one that is ends them. */
function cutWhileOffline(): void {
  const nowhere = 'ws://127.0.0.1:9/'
  globalThis.WebSocket = class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(navigator.onLine ? url : nowhere, protocols)
      addEventListener('offline', () => {
        this.close()
        // The other end, which is not there, is not waited for.
        this.dispatchEvent(new CloseEvent('close', { code: 1006 }))
      })
    }
    override send(data: Parameters<WebSocket['send']>[0]) {
      if (this.readyState === WebSocket.OPEN) super.send(data)
    }
  }
}

/** Runs in the page: it falls silent when it has sent a piece of a copy, which nothing else here is as large as, and no more. */
function stopInSwap(): Promise<void> {
  return new Promise((resolve) => {
    let isSilent = false
    for (const { prototype } of [RTCDataChannel, WebSocket]) {
      const send = prototype.send as (data: ArrayBuffer | ArrayBufferView) => void
      prototype.send = function (this: RTCDataChannel & WebSocket, data: ArrayBufferView) {
        if (isSilent) return
        send.call(this, data)
        if (data.byteLength < 8_192) return
        isSilent = true
        resolve()
      } as typeof prototype.send
    }
  })
}

/** In the page: how many files it keeps for a model, by idb-keyval's names. */
function keptParts(genesis: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('keyval-store')
    opening.onerror = () => reject(opening.error)
    opening.onsuccess = () => {
      const database = opening.result
      const getting = database.transaction('keyval').objectStore('keyval').get(`parts/${genesis}`)
      getting.onerror = () => reject(getting.error)
      getting.onsuccess = () => {
        database.close()
        resolve(getting.result?.length ?? 0)
      }
    }
  })
}

/** In the page: how many models it keeps a checkpoint of. */
function keptCheckpoints(): Promise<number> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('mlstore-checkpoints')
    opening.onerror = () => reject(opening.error)
    opening.onsuccess = () => {
      const database = opening.result
      const counting = database.transaction('checkpoints').objectStore('checkpoints').count()
      counting.onerror = () => reject(counting.error)
      counting.onsuccess = () => {
        database.close()
        resolve(counting.result)
      }
    }
  })
}

/** In the page: how many blocks of versions it keeps. */
function keptBlocks(): Promise<number> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('mlstore-blocks')
    opening.onerror = () => reject(opening.error)
    opening.onsuccess = () => {
      const database = opening.result
      const [store] = database.objectStoreNames
      const counting = database.transaction(store!).objectStore(store!).count()
      counting.onerror = () => reject(counting.error)
      counting.onsuccess = () => {
        database.close()
        resolve(counting.result)
      }
    }
  })
}
