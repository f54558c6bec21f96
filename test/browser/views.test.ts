import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import axe from 'axe-core'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { build } from 'vite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bytes } from '../../browser/format.ts'
import { text } from '../../browser/text.ts'
import { type ServedPage, servePage } from '../../node/start/page.ts'
import { phaseSentences } from '../../protocol/report.ts'
import { isFull } from '../faults/every.ts'
import { png } from '../support/png.ts'
import { executablePath, launchChromium, requireChromium } from './chromium.ts'

/**
 * Every view of the page in every state, over services that only pretend: no serious or critical finding of axe, no overflow,
 * no complaint of the browser. Screenshots land in test-screenshots/, which git ignores.
 */

const DIGITS = 'digits'
const FLOWERS = 'bafybeigenesis2flowers2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
/** Views by name: the address after `#`, the state of services.ts, and what to do before looking. */
type View = [name: string, state: string, hash: string, look: (page: Page) => Promise<void>]
const views: View[] = [
  ['models', '', '#/', (page) => page.locator('.cards .card').first().waitFor()],
  ['models-empty', 'empty', '#/', (page) => page.locator('.empty').waitFor()],
  ['models-loading', 'slow', '#/', (page) => page.locator('main').waitFor()],
  ['models-failing', 'failing', '#/', (page) => page.locator('.fault').first().waitFor()],
  ['models-offline', 'offline', '#/', (page) => page.locator('main').waitFor()],
  ['train', '', `#/m/${DIGITS}`, (page) => page.locator('button.sample').waitFor()],
  ['card', '', `#/m/${DIGITS}/card`, costKnown],
  ['try', '', `#/m/${DIGITS}/try`, opened],
  ['versions', '', `#/m/${DIGITS}/versions`, (page) => page.getByText('1.0.1').waitFor()],
  ['swarm', '', `#/m/${DIGITS}/swarm`, opened],
  ['training', '', `#/m/${DIGITS}`, training],
  ['alone', 'alone', `#/m/${DIGITS}`, training],
  ['ended', '', `#/m/${DIGITS}`, ended],
  ['mine', '', '#/mine', (page) => page.locator('h1').waitFor()],
  ['network', '', '#/network', (page) => page.locator('h1').waitFor()],
  ['settings', '', '#/settings', (page) => page.locator('h1').waitFor()],
  ['wrong-link', '', '#/m/nothing', (page) => page.locator('.fault').first().waitFor()],
  ['unknown', '', '#/nowhere', (page) => page.getByText(text.unknown.title).waitFor()],
]
/** States within them: looked at light and wide or dark and narrow, in turn; both with ML_STORE_FULL=1. */
const states: View[] = [
  ['fetching', 'slow', `#/m/${DIGITS}`, (page) => page.locator('.fetching').waitFor()],
  ['drawn', '', `#/m/${DIGITS}`, drawn],
  ['data', '', `#/m/${DIGITS}`, sampled],
  ['data-wrong-file', '', `#/m/${DIGITS}`, (page) => chosen(page, 'a,b\n1,2\n')],
  ['table', '', `#/m/${FLOWERS}`, sampled],
  ['table-try', '', `#/m/${FLOWERS}/try`, tried],
  ['paused', '', `#/m/${DIGITS}`, paused],
  ['training-long', 'long', `#/m/${DIGITS}`, longRound],
  ['try-many', '', `#/m/${DIGITS}`, measured],
  ['try-compared', 'newer', `#/m/${DIGITS}/try`, compared],
  ['mine-trained', '', `#/m/${DIGITS}`, keptHere],
  [
    'network-offline',
    'offline',
    '#/network',
    async (page) => {
      await page.getByText(text.network.alone).waitFor()
      await tested(page, text.selfTest.done(3, 6))
    },
  ],
  ['network-tested', '', '#/network', (page) => tested(page, text.selfTest.done(1, 7))],
  [
    'network-closed',
    'closed',
    '#/network',
    (page) => page.getByText(text.network.closed).waitFor(),
  ],
  [
    'network-failed',
    'unstarted',
    '#/network',
    (page) => page.locator('main .fault').first().waitFor(),
  ],
  ['card-measuring', 'long', `#/m/${DIGITS}/card`, measuring],
  ['card-fault', 'failing', `#/m/${DIGITS}/card`, notMeasured],
  ['mine-damaged', 'damaged', '#/mine', freed],
  ['mine-fault', 'failing', '#/mine', (page) => page.locator('main .fault').first().waitFor()],
]
/** Of parts that are seen elsewhere too: with ML_STORE_FULL=1. */
const others: View[] = [
  ['models-no-match', '', '#/?q=nothing', (page) => page.locator('.empty').waitFor()],
  ['models-wrong-link', '', '#/', wrongLink],
  ['table-mapper', '', `#/m/${FLOWERS}`, (page) => chosen(page, 'a,b,c,d,kind\n1,2,3,4,setosa\n')],
  ['card-trained', '', `#/m/${DIGITS}`, (page) => inTraining(page, text.model.tabs.card)],
  ['try-unlabelled', '', `#/m/${DIGITS}/try`, (page) => triedMany(page, 30)],
  ['versions-lost', 'newer', `#/m/${DIGITS}/versions`, (page) => page.locator('.fault').waitFor()],
  ['swarm-training', '', `#/m/${DIGITS}`, (page) => inTraining(page, text.model.tabs.swarm)],
  ['share', '', `#/m/${DIGITS}`, shared],
  ['network-wrong-address', '', '#/network', wrongAddress],
  ['keys', '', '#/', keys],
]
const looks = (['light', 'dark'] as const).flatMap((colorScheme) =>
  [1280, 360].map((width) => ({ colorScheme, width })),
)
const corners = looks.filter(({ colorScheme, width }) => (colorScheme === 'light') === width > 600)
const heightOf = (width: number) => (width > 600 ? 900 : 740)
const LIMIT_MS = 60_000
const WAIT_MS = 10_000
requireChromium('the views of the page')

/** Where a person goes and what goes wrong there, without a word of English: for a language that this file does not speak. */
const walks: [state: string, hash: string, steps: ((page: Page) => Promise<unknown>)[]][] = [
  [
    '',
    '#/',
    [
      (page) => page.locator('.cards .card').first().waitFor(),
      (page) => typed(page, 'form.link', 'hello', '#link-fault'),
      (page) => page.keyboard.press('?').then(() => page.locator('dialog[open]').waitFor()),
      (page) => page.keyboard.press('Escape').then(() => at(page, '#/?q=nothing', '.empty')),
      (page) => at(page, '#/nowhere', '.empty h1'),
      (page) => at(page, '#/mine', '.empty'),
      (page) => at(page, '#/network', '.abilities'),
      (page) => typed(page, 'main form.filters', 'hello', 'main .fault'),
      (page) => at(page, '#/settings', '.passphrase'),
      (page) => at(page, '#/m/nothing', '.fault'),
      (page) => at(page, `#/m/${FLOWERS}`, 'button.sample'),
      sampled,
      (page) => chosen(page, '7,8\n1,2\n'),
      (page) => at(page, `#/m/${FLOWERS}/try`, '.boxes button').then(() => noNumbers(page)),
      (page) => at(page, `#/m/${DIGITS}`, '.teach').then(() => drawn(page)),
      leftOut,
      (page) => page.locator('.model-title button:not(.icon)').first().click(),
      (page) => page.keyboard.press('Escape').then(() => watched(page)),
      (page) => at(page, `#/m/${DIGITS}/card`, '.card-tab'),
      (page) => at(page, `#/m/${DIGITS}/versions`, '.lineage li:nth-child(3)'),
      (page) => at(page, `#/m/${DIGITS}/swarm`, '.table'),
      (page) => at(page, `#/m/${DIGITS}/try`, '.choosers').then(() => triedMany(page, 2)),
      (page) => at(page, `#/m/${DIGITS}`, 'section.run').then(() => over(page)),
      (page) => at(page, '#/mine', '.cards'),
    ],
  ],
  ['offline', '#/', [(page) => page.locator('.kept').first().waitFor()]],
  ['unstarted', '#/network', [(page) => page.locator('main .fault').first().waitFor()]],
]

async function noNumbers(page: Page): Promise<void> {
  for (const box of await page.locator('.boxes input').all()) await box.fill('x')
  await page.locator('.boxes button').click()
  await page.locator('main .fault').waitFor()
}

/** One picture of two that can be read. */
async function leftOut(page: Page): Promise<void> {
  await page.locator('.data select').selectOption('3')
  const files = [picture(1), Buffer.from('no picture')].map((buffer, i) => ({
    ...{ name: `${i}.png`, mimeType: 'image/png', buffer: Buffer.from(buffer) },
  }))
  await page.locator('.data input[multiple]').setInputFiles(files)
  await page.locator('.data details.warning').waitFor()
}

async function watched(page: Page): Promise<void> {
  await page.locator('section.start button.primary').click()
  await page.locator('section.run .phase.running').waitFor()
  await page.locator('.detail > .scroll tbody tr').first().waitFor()
}

async function over(page: Page): Promise<void> {
  await page.locator('section.run button.danger').click()
  await page.locator('section.run .phase.ended').waitFor()
}

async function at(page: Page, hash: string, selector: string): Promise<void> {
  await page.evaluate((hash) => {
    location.hash = hash
  }, hash)
  await page.locator(`main ${selector}`).first().waitFor()
}

async function typed(page: Page, form: string, words: string, then: string): Promise<void> {
  await page.locator(`${form} input`).first().fill(words)
  await page.locator(`${form} button[type=submit]`).click()
  await page.locator(then).first().waitFor()
}

/** Data, which every language says the same: names of models and of what they know, and figures. */
const names =
  /Handwritten digits|Flowers by their measures|Reads one .*on dark\.|Tells three .*lengths\.|Apache-2\.0|digits|mnist|sample|flowers|table|setosa|versicolor|virginica|(sepal|petal) (length|width)|species|mine\.csv|\d\.png/g
const figures =
  /[\d.,]+ (B|kB|MB|ms|s)\b|\bnow\b|\byesterday\b|[\d.]+ ?(seconds?|minutes?|hours?|days?|s|min|h|d) ago/g

/** What a page shows, or says aloud, in no catalogue's words. */
async function unsaid(page: Page): Promise<string[]> {
  const found = await page.evaluate(() => {
    const all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    const seen = [document.title]
    const quoted = 'code, pre, kbd, .readme, script, style, noscript'
    for (let node = all.nextNode(); node; node = all.nextNode()) {
      const parent = node.parentElement!
      if (!parent.closest(quoted)) seen.push(node.textContent!)
    }
    const called = ['aria-label', 'title', 'placeholder', 'alt']
    for (const name of called)
      for (const one of document.body.querySelectorAll(`[${name}]`))
        if (!one.closest(quoted)) seen.push(one.getAttribute(name)!)
    return seen
  })
  return found.flatMap((one) => {
    let rest = one
    while (/⟦[^⟦⟧]*⟧/.test(rest)) rest = rest.replace(/⟦[^⟦⟧]*⟧/g, '')
    return /\p{L}/u.test(rest.replace(names, '').replace(figures, '')) ? [one.trim()] : []
  })
}

/** What axe's source leaves in the page. */
type AxeGlobal = { axe: typeof axe }

/** What is wrong with what a page shows, and a screenshot of it. Wants axe in the page. */
async function look(page: Page, name: string, isShot = true): Promise<string[]> {
  if (isShot) await page.screenshot({ path: `test-screenshots/${name}.png` })
  const { violations } = await page.evaluate(() =>
    (globalThis as unknown as AxeGlobal).axe.run({ resultTypes: ['violations'] }),
  )
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
  const findings = grave.map(
    ({ id, nodes }) =>
      `${name}: ${id} at ${nodes.map(({ target }) => target.join(' ')).join(', ')}`,
  )
  const over = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  )
  return over > 0 ? [...findings, `${name}: ${over} px wider than the window`] : findings
}

async function opened(page: Page): Promise<void> {
  await page.locator('[aria-current="page"]').first().waitFor()
  await page.locator('h1').waitFor()
}

async function training(page: Page): Promise<void> {
  await page.locator('button.sample').click()
  await page.getByRole('button', { name: text.train.start, exact: true }).click()
  await page.locator('section.run .phase.running').waitFor()
  await page.locator('.plot canvas').waitFor()
}

async function sampled(page: Page): Promise<void> {
  await page.locator('button.sample').click()
  await page.locator('.parts li').waitFor()
}

async function drawn(page: Page): Promise<void> {
  const pad = page.locator('.teach canvas').first()
  await pad.waitFor()
  await pad.click({ position: { x: 60, y: 60 } })
  await page.locator('.teach .label').nth(3).click()
  await page.locator('.parts li').waitFor()
}

async function chosen(page: Page, csv: string): Promise<void> {
  const file = { name: 'mine.csv', mimeType: 'text/csv', buffer: Buffer.from(csv) }
  await page.locator('input[accept*=csv]').first().setInputFiles([file])
  await page.locator('.data select').last().waitFor()
  await page.locator('.data .fault').waitFor()
}

async function tried(page: Page): Promise<void> {
  await page.locator('.boxes input').last().waitFor()
  for (const box of await page.locator('.boxes input').all()) await box.fill('3.1')
  await page.getByRole('button', { name: text.try.predict }).click()
  await page.locator('.bars').waitFor()
  const rows = 'petal width,petal length,sepal width,sepal length\n1,2,3,4\n5,6,7,8\n'
  const file = { name: 'rows.csv', mimeType: 'text/csv', buffer: Buffer.from(rows) }
  await page.locator('section[aria-labelledby=try-many] input[accept*=csv]').setInputFiles([file])
  await page.getByText(text.try.unlabelled(2)).waitFor()
  await page.locator('.predictions tbody tr', { hasText: text.try.row(2) }).waitFor()
}

async function costKnown(page: Page): Promise<void> {
  await page.getByRole('button', { name: text.card.measureAgain }).waitFor()
}

/** What another view measured of it is known here already. */
async function measuring(page: Page): Promise<void> {
  const { measure, measureAgain } = text.card
  await page.getByRole('button', { name: new RegExp(`${measure}|${measureAgain}`) }).click()
  await page.getByText(text.card.measuring).waitFor()
}

async function notMeasured(page: Page): Promise<void> {
  const { measure, measureAgain } = text.card
  await page.getByRole('button', { name: new RegExp(`${measure}|${measureAgain}`) }).click()
  await page.locator('.fault').waitFor()
}

async function inTraining(page: Page, tab: string): Promise<void> {
  await training(page)
  await page.getByRole('link', { name: tab, exact: true }).click()
  await page.locator('main .card').first().waitFor()
}

async function measured(page: Page): Promise<void> {
  await inTraining(page, text.model.tabs.try)
  await page.getByRole('button', { name: text.try.manyOwn }).click()
  await page.locator('.matrix').waitFor()
}

/** Pictures of which nobody says what they are. */
async function triedMany(page: Page, count: number): Promise<void> {
  const files = Array.from({ length: count }, (_, i) => ({
    ...{ name: `${i}.png`, mimeType: 'image/png', buffer: Buffer.from(picture(i)) },
  }))
  const many = page.locator('section[aria-labelledby=try-many]')
  await many.locator('input[multiple]').setInputFiles(files)
  await many.getByText(text.try.unlabelled(count)).waitFor()
  await many.locator('.predictions tbody tr').last().waitFor()
}

async function compared(page: Page): Promise<void> {
  await page.getByRole('button', { name: text.try.compare('1.3.0') }).click()
  const file = { name: 'one.png', mimeType: 'image/png', buffer: Buffer.from(picture(9)) }
  await page.locator('section[aria-labelledby=try-one] input').setInputFiles([file])
  await page.locator('.key.newest').first().waitFor()
}

async function paused(page: Page): Promise<void> {
  await training(page)
  await page.getByRole('button', { name: text.run.pauseHour }).click()
  await page.getByText(phaseSentences.paused).first().waitFor()
}

async function longRound(page: Page): Promise<void> {
  await training(page)
  await page.locator('.under-way li').nth(1).waitFor()
}

async function shared(page: Page): Promise<void> {
  await page.getByRole('button', { name: text.model.share }).click()
  await page.getByRole('img', { name: text.share.qr }).waitFor()
}

async function keptHere(page: Page): Promise<void> {
  await training(page)
  // Only what came of a round is kept.
  await page.locator('section.run dl.figures dd', { hasText: '%' }).first().waitFor()
  await stopped(page)
  await page.getByRole('link', { name: text.nav.mine }).click()
  await page.getByRole('link', { name: text.mine.trainOn }).waitFor()
}

async function tested(page: Page, verdict: string): Promise<void> {
  await page.getByRole('button', { name: text.selfTest.start }).click()
  await page.getByText(verdict).waitFor()
  await page.getByRole('button', { name: text.selfTest.again }).scrollIntoViewIfNeeded()
}

/** One of two versions, after it was asked about. */
async function freed(page: Page): Promise<void> {
  await page.getByText(text.mine.damaged('cut short in its facts')).waitFor()
  const versions = page.getByRole('region', { name: text.versionsHere.title })
  await versions.getByRole('button', { name: text.versionsHere.free }).last().click()
  expect(await versions.getByRole('listitem').count()).toBe(2)
  await versions.getByRole('button', { name: text.versionsHere.sure }).click()
  await versions.getByText(text.versionsHere.total(1, bytes(205_660))).waitFor()
  await versions.getByRole('button', { name: text.versionsHere.free }).click()
}

async function wrongLink(page: Page): Promise<void> {
  await page.locator('form.link input').fill('hello')
  await page.locator('form.link button').click()
  await page.locator('#link-fault').waitFor()
}

async function keys(page: Page): Promise<void> {
  await page.locator('.cards .card').first().waitFor()
  await page.keyboard.press('?')
  await page.getByRole('heading', { name: text.shortcuts.title }).waitFor()
}

async function wrongAddress(page: Page): Promise<void> {
  await page.getByLabel(text.network.address).fill('hello')
  await page.getByRole('button', { name: text.network.dial }).click()
  await page.locator('.fault').waitFor()
}

async function ended(page: Page): Promise<void> {
  await training(page)
  await stopped(page)
}

/** The lines of what a button gives to save. */
async function saved(page: Page, button: string): Promise<string[]> {
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: button, exact: true }).click(),
  ])
  return (await readFile(await download.path(), 'utf8')).trimEnd().split('\n')
}

function countsIn(page: Page): Promise<string[]> {
  return page.locator('.counts .count').allInnerTexts()
}

/** Pictures of 28 x 28 pixels, each of a shade of its own from 100 on. */
async function writePictures(root: string, names: string[]): Promise<string> {
  for (const [i, name] of names.entries()) {
    await mkdir(join(root, dirname(name)), { recursive: true })
    await writeFile(join(root, `${name}.png`), picture(i))
  }
  return root
}

function picture(i: number): Uint8Array {
  return png(
    ...([28, 28] as const),
    Array.from({ length: 4 * 784 }, (_, at) => (at % 4 === 3 ? 255 : 100 + i)),
  )
}

/** The middle of what a canvas shows. */
function shadeOf(canvas: ReturnType<Page['locator']>): Promise<number> {
  return canvas.evaluate(
    (canvas: HTMLCanvasElement) =>
      canvas.getContext('2d')!.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[0]!,
  )
}

/** As when a person drags a folder of theirs there and lets go. */
async function drop(page: Page, target: ReturnType<Page['locator']>, path: string): Promise<void> {
  await target.scrollIntoViewIfNeeded()
  const { x, y } = (await target.boundingBox())!
  const cdp = await page.context().newCDPSession(page)
  const data = { items: [], files: [path], dragOperationsMask: 1 }
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
    await cdp.send('Input.dispatchDragEvent', { type, x: x + 10, y: y + 10, data })
}

async function stopped(page: Page): Promise<void> {
  await page.getByRole('button', { name: text.run.stop }).first().click()
  await page.getByText(phaseSentences.stopped).first().waitFor()
}

describe.runIf(executablePath)('the page', { timeout: LIMIT_MS }, () => {
  let folder: string
  let site: ServedPage
  let browser: Browser
  /** One profile for all views: nothing of theirs is kept, and each window of its own takes its time. */
  let shared: BrowserContext
  let tour: Awaited<ReturnType<typeof tourOf>> | undefined

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ml-store-views-'))
    await build({
      configFile: fileURLToPath(new URL('./vite.config.ts', import.meta.url)),
      logLevel: 'error',
      build: { outDir: folder, emptyOutDir: true },
    })
    site = await servePage([], { folder, port: 0 })
    browser = await launchChromium(['--use-fake-device-for-media-stream'])
    shared = await contextOf(looks[0]!)
  }, LIMIT_MS)
  afterAll(async () => {
    await browser?.close()
    site?.close()
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  })

  async function contextOf(
    { colorScheme, width }: (typeof looks)[number],
    device: { hasTouch?: boolean; isMobile?: boolean } = {},
  ): Promise<BrowserContext> {
    const context = await browser.newContext({
      ...device,
      colorScheme,
      viewport: { width, height: heightOf(width) },
      reducedMotion: 'reduce',
    })
    await context.addInitScript(() =>
      addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
        console.error(`policy: ${violatedDirective} ${blockedURI}`),
      ),
    )
    return context
  }

  async function open(
    context: BrowserContext,
    state: string,
    hash: string,
    said: string[] = [],
  ): Promise<Page> {
    const page = await context.newPage()
    page.setDefaultTimeout(WAIT_MS)
    page.on('console', (message) => message.type() === 'error' && said.push(message.text()))
    page.on('pageerror', ({ message }) => said.push(message))
    await page.goto(`${site.address}${state && `?state=${state}`}${hash}`)
    return page
  }

  /** The same tab, loaded anew: a tab of its own takes longer than most looks. */
  async function reopen(state: string, hash: string, said: string[]): Promise<Page> {
    tour ??= await tourOf(shared)
    tour.said = said
    await tour.page.goto(`${site.address}?state=${state}&visit=${++tour.visits}${hash}`)
    return tour.page
  }

  async function tourOf(context: BrowserContext) {
    const page = await context.newPage()
    page.setDefaultTimeout(WAIT_MS)
    const tour = { page, visits: 0, said: [] as string[] }
    page.on('console', (message) => message.type() === 'error' && tour.said.push(message.text()))
    page.on('pageerror', ({ message }) => tour.said.push(message))
    page.on('dialog', (dialog) => void dialog.accept()) // leaves a training behind
    return tour
  }

  test.each([
    ...views.map((view) => ({ view, seen: looks })),
    ...[...states, ...(isFull ? others : [])].map((view, i) => ({
      view,
      seen: isFull ? corners : [corners[i % 2]!],
    })),
  ])('$view.0 is accessible and whole', async ({ view: [name, state, hash, until], seen }) => {
    const said: string[] = []
    const page = await reopen(state, hash, said)
    await until(page)
    // Once a page: its source takes longer than a look.
    await page.evaluate(axe.source)
    const findings: string[] = []
    for (const one of seen) {
      const { colorScheme, width } = one
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      await page.setViewportSize({ width, height: heightOf(width) })
      const isShot = isFull || corners.includes(one)
      findings.push(...(await look(page, `${name}-${colorScheme}-${width}`, isShot)))
    }
    expect(findings).toEqual([])
    expect(said).toEqual([])
  })

  test('has the session on every page while it trains, accessible and whole', async () => {
    const said: string[] = []
    const page = await open(shared, '', `#/m/${DIGITS}`, said)
    await training(page)
    await page.evaluate(axe.source)
    const findings: string[] = []
    for (const [i, name] of (['models', 'mine', 'network', 'settings'] as const).entries()) {
      const { colorScheme, width } = corners[i % 2]!
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      await page.setViewportSize({ width, height: heightOf(width) })
      await page.getByRole('link', { name: text.nav[name], exact: true }).click()
      await page.getByRole('complementary', { name: text.run.session }).waitFor()
      findings.push(...(await look(page, `${name}-session-${colorScheme}-${width}`)))
    }
    await page.close()
    expect(findings).toEqual([])
    expect(said).toEqual([])
  })

  test('gives the rounds as a table, as CSV and as JSONL, and predictions as CSV', async () => {
    const page = await open(shared, '', `#/m/${DIGITS}`)
    await training(page)
    await page.locator('section.run dl.figures dd', { hasText: '%' }).first().waitFor()
    await page.getByRole('button', { name: text.run.pause, exact: true }).first().click()
    await page.locator('section.run .phase.paused').waitFor()
    await page.getByText(text.chart.table).first().click()
    const table = page.locator('.chart details table')
    await table.waitFor()
    await page.evaluate(axe.source)
    expect(await look(page, 'chart-table-light-1280')).toEqual([])
    const [newest] = await table.locator('tbody th').allInnerTexts()
    const [head, ...rows] = await saved(page, text.chart.csv)
    expect(head).toBe('round,loss,trained accuracy,trained loss,averaged accuracy,averaged loss')
    const points = (await saved(page, text.chart.jsonl)).map((line) => JSON.parse(line))
    expect(rows.map((row) => Number(row.split(',')[0]))).toEqual(points.map(({ round }) => round))
    expect(points.at(-1)).toMatchObject({ round: Number(newest), loss: expect.any(Number) })
    await page.getByRole('link', { name: text.model.tabs.try, exact: true }).click()
    await page.getByRole('button', { name: text.try.manyOwn }).click()
    await page.locator('.matrix').waitFor()
    const [columns, ...own] = await saved(page, text.try.saveCsv)
    expect(columns).toBe('row,path,is,predicted,probability')
    expect(own).toHaveLength(500)
    expect(own[0]).toMatch(/^1,,0,0,0\.\d+$/)
    await triedMany(page, 2)
    const [, ...theirs] = await saved(page, text.try.saveCsv)
    expect(theirs.map((line) => line.split(',').slice(0, 4).join())).toEqual([
      ...['1,0.png,,0', '2,1.png,,1'],
    ])
    await page.close()
  })

  test('trains on a table whose columns have other names, once it is told which is which', async () => {
    const page = await open(shared, '', `#/m/${FLOWERS}`)
    await page.locator('button.sample').waitFor()
    await chosen(page, 'a,b,c,d,kind\n1,2,3,4,setosa\n5,6,7,8,virginica\n')
    const names = ['kind', 'a', 'b', 'c', 'd'] // the label's first
    for (const [i, box] of (await page.locator('.data .boxes select').all()).entries())
      await box.selectOption(names[i]!)
    await page.getByRole('button', { name: text.data.useColumns }).click()
    await page.locator('.parts li', { hasText: text.data.examples(2) }).waitFor()
    expect(await page.locator('.data .fault').count()).toBe(0)
    expect(await countsIn(page)).toEqual(['1', '0', '1'])
    await page.getByRole('button', { name: text.train.start, exact: true }).click()
    await page.locator('section.run .phase.running').waitFor()
    await page.close()
  })

  test('reads the pictures of a folder that is chosen, and of one that is dropped, however many', async () => {
    const pictures = await writePictures(join(folder, 'pictures'), ['3/a', '5/b'])
    await writeFile(join(pictures, '5', 'notes.txt'), 'no picture')
    const many = await writePictures(
      join(folder, 'many'),
      Array.from({ length: 101 }, (_, i) => `7/${i}`),
    )
    const page = await open(shared, '', `#/m/${DIGITS}`)
    await page.locator('.data input[webkitdirectory]').setInputFiles(pictures)
    await page.locator('.parts li', { hasText: text.data.examples(2) }).waitFor()
    await page.locator('.data summary', { hasText: text.data.skipped(1) }).waitFor()
    expect(await shadeOf(page.locator('.thumbs .thumb[title="3"] canvas'))).toBe(100)
    await drop(page, page.locator('.data .drop'), many)
    // A browser tells of a hundred entries at a time.
    await page.locator('.parts li', { hasText: text.data.examples(101) }).waitFor()
    expect(await countsIn(page)).toEqual(['0', '0', '0', '1', '0', '1', '0', '101', '0', '0'])
    await page.close()
  })

  test('can be used by keyboard alone, from the link to a running training', async () => {
    const context = await contextOf(looks[0]!)
    const page = await open(context, '', `#/m/${DIGITS}`)
    await page.locator('button.sample').waitFor()
    const press = async (name: string) => {
      for (let i = 0; i < 80; i++) {
        await page.keyboard.press('Tab')
        const focused = await page.evaluate(() => document.activeElement?.textContent?.trim() ?? '')
        if (focused === name) return page.keyboard.press('Enter')
      }
      throw new Error(`80 times Tab never reached ${name}`)
    }
    await press(text.data.sample)
    await page.locator('.parts li').waitFor()
    await press(text.train.start)
    await page.locator('section.run .phase.running').waitFor()
    await context.close()
  })

  test('trains on the sample after one press, on a phone', async () => {
    const context = await contextOf(looks[1]!)
    const page = await open(context, '', `#/m/${DIGITS}`)
    await page.getByRole('button', { name: text.train.startWithSample }).click()
    await page.locator('section.run .phase.running').waitFor()
    expect(await page.locator('.parts li').count()).toBe(1)
    await context.close()
  })

  test('acts on single keys, but not while somebody types, nor when they are switched off', async () => {
    const context = await contextOf(looks[0]!)
    const page = await open(context, '', `#/m/${DIGITS}`)
    await training(page)
    await page.keyboard.press('p')
    await page.locator('section.run .phase.paused').waitFor()
    const share = page.getByRole('button', { name: text.model.share })
    await share.focus()
    await page.keyboard.press('?')
    const list = page.getByRole('dialog', { name: text.shortcuts.title })
    await list.waitFor()
    await page.keyboard.press('p') // a dialog has the keys
    await page.keyboard.press('Escape')
    await list.waitFor({ state: 'hidden' })
    expect(await share.evaluate((button) => button === document.activeElement)).toBe(true)
    await page.keyboard.press('/')
    await page.keyboard.type('p?/')
    const search = page.getByRole('searchbox', { name: text.models.search })
    expect(await search.inputValue()).toBe('p?/')
    expect(new URL(page.url()).hash).toBe('#/?q=p%3F%2F')
    await page.goBack()
    await page.locator('section.run .phase.paused').waitFor()
    await page.keyboard.press('p')
    await page.locator('section.run .phase.training').waitFor()
    await page.getByRole('link', { name: text.nav.settings }).click()
    await page.getByLabel(text.shortcuts.use).uncheck()
    await page.keyboard.press('?')
    await page.keyboard.press('/')
    expect(await list.isVisible()).toBe(false)
    expect(new URL(page.url()).hash).toBe('#/settings')
    await context.close()
  })

  test('has pads that one finger draws on, where nothing scrolls and a cancelled stroke is gone', async () => {
    const context = await contextOf(looks[1]!, { hasTouch: true, isMobile: true })
    const page = await open(context, '', `#/m/${DIGITS}`)
    const pad = page.locator('.teach .pad-square canvas')
    const undo = page.locator('.teach').getByRole('button', { name: text.train.undoStroke })
    await pad.waitFor()
    const box = (await pad.boundingBox())!
    const cdp = await context.newCDPSession(page)
    const at = (x: number, y: number, id: number) => ({ x: box.x + x, y: box.y + y, id })
    const touch = (
      type: 'touchStart' | 'touchMove' | 'touchEnd' | 'touchCancel',
      ...touchPoints: ReturnType<typeof at>[]
    ) => cdp.send('Input.dispatchTouchEvent', { type, touchPoints })
    const drawn = () => pad.evaluate((canvas: HTMLCanvasElement) => canvas.toDataURL())
    const empty = await drawn()
    await touch('touchStart', at(20, 20, 1))
    await touch('touchMove', at(20, 90, 1))
    await touch('touchCancel')
    await page.getByText(text.train.teachHint).waitFor()
    expect(await drawn()).toBe(empty)
    await touch('touchStart', at(40, 20, 1))
    await touch('touchMove', at(40, 120, 1))
    await page.locator('.teach .label.ready').first().waitFor()
    const one = await drawn()
    await touch('touchStart', at(40, 120, 1), at(150, 150, 2))
    await touch('touchMove', at(40, 120, 1), at(90, 150, 2))
    await touch('touchEnd')
    expect(await drawn()).toBe(one)
    expect(await page.evaluate(() => scrollY)).toBe(0)
    await page.getByRole('link', { name: text.model.tabs.card, exact: true }).tap()
    await page.getByRole('link', { name: text.model.tabs.train, exact: true }).tap()
    expect(await drawn()).toBe(one) // another tab takes nothing away
    await undo.tap()
    await page.getByText(text.train.teachHint).waitFor()
    await context.close()
  })

  test('says nothing but what its catalogue says, so that a second language can say all of it', async () => {
    const found: string[] = []
    for (const [state, hash, steps] of walks) {
      const page = await open(shared, `${state}&pseudo`, hash)
      for (const [i, step] of steps.entries()) {
        await step(page)
        expect(await page.getByText('⟦').count()).toBeGreaterThan(10)
        const odd = await unsaid(page)
        found.push(...odd.map((one) => `${state || 'usual'} ${hash} step ${i}: ${one}`))
      }
      await page.close()
    }
    expect(found).toEqual([])
  })

  test('takes pictures with a camera that a person asked for and allowed, and its light goes off', async () => {
    const said: string[] = []
    const context = await contextOf(looks[3]!)
    await context.addInitScript(watchCamera)
    const page = await open(context, '', `#/m/${DIGITS}`, said)
    const camera = page.locator('.data .camera')
    const use = camera.getByRole('button', { name: text.camera.open })
    await use.waitFor()
    expect(await page.evaluate(camerasOf)).toEqual([])
    await context.clearPermissions()
    await use.click()
    await camera.getByText(text.camera.refused.hint).waitFor()
    await context.grantPermissions(['camera'])
    await use.click()
    await camera.getByLabel(text.camera.label).selectOption('3')
    const taking = camera.getByRole('button', { name: text.camera.take })
    // Before the first frame there is nothing to take.
    await expect.poll(() => camera.locator('video').evaluate(widthOf)).toBeGreaterThan(0)
    await taking.click()
    await camera.getByText(text.train.added('3', 1)).waitFor()
    await taking.hover()
    await page.mouse.down()
    await expect.poll(async () => Number((await countsIn(page))[3])).toBeGreaterThanOrEqual(4)
    await page.mouse.up()
    await taking.press('Enter')
    const count = Number((await countsIn(page))[3])
    expect(count).toBeGreaterThanOrEqual(5)
    await page.getByText(text.data.taken(count)).waitFor()
    await page.evaluate(axe.source)
    expect(await look(page, 'camera-dark-360')).toEqual([])
    expect(await page.evaluate(camerasOf)).toEqual(['live'])
    await camera.getByRole('button', { name: text.camera.close }).click()
    expect(await page.evaluate(camerasOf)).toEqual(['ended'])
    await use.click()
    await taking.waitFor()
    await page.getByRole('link', { name: text.model.tabs.try, exact: true }).click()
    const one = page.locator('section[aria-labelledby=try-one]')
    await one.getByRole('button', { name: text.camera.open }).click()
    await expect.poll(() => one.locator('video').evaluate(widthOf)).toBeGreaterThan(0)
    await one.getByRole('button', { name: text.camera.take }).click()
    await one.locator('.bars').waitFor()
    expect(await page.evaluate(camerasOf)).toEqual(['ended', 'ended', 'live'])
    await context.close()
    expect(said).toEqual([])
  })

  test('says what is missing where this browser has no WebRTC', async () => {
    const context = await contextOf(looks[0]!)
    await context.addInitScript(() => Reflect.deleteProperty(globalThis, 'RTCPeerConnection'))
    const page = await open(context, '', '#/network')
    await page.getByText(text.abilities.webrtc.without).waitFor()
    await context.close()
  })
})

/** In the page: keeps what it is given of cameras. */
function watchCamera(): void {
  const devices = navigator.mediaDevices
  const ask = devices.getUserMedia.bind(devices)
  const given: MediaStream[] = []
  Object.assign(globalThis, { cameras: given })
  devices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted)
    given.push(stream)
    return stream
  }
}

/** In the page: how each camera that it was given stands. */
function camerasOf(): string[] {
  const { cameras } = globalThis as unknown as { cameras: MediaStream[] }
  return cameras.map((stream) => stream.getTracks()[0]!.readyState)
}

function widthOf(video: SVGElement | HTMLElement): number {
  return (video as HTMLVideoElement).videoWidth
}
