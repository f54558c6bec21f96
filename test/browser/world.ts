import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { text } from '../../browser/text.ts'
import {
  type Digits,
  dealDigits,
  digitsCsv,
  readDigits,
  splitDigits,
  take,
  writeDigitsDraft,
} from '../../node/samples/digits.ts'
import { buildPage, type ServedPage, servePage } from '../../node/start/page.ts'
import { anyPorts, type BootstrapProcess, bootstraps } from '../support/bootstrap.ts'
import { type Program, start } from '../support/program.ts'
import { program } from '../support/programs.ts'
import { launchChromium } from './chromium.ts'

/** A bootstrap, Node peers and the built page in one Chromium: what a person's browser meets, all of it real and on loopback. */
export interface World {
  browser: Browser
  bootstrap: BootstrapProcess
  /** Of the model that was published. */
  cid: string
  /** WebSocket address of the bootstrap. */
  join: string
  page: ServedPage
  /** Digits as CSV, each share with only some of the labels. */
  shares: string[]
  home(name: string): string
  /** A Node peer that trains; `share` is an index of `shares`. */
  train(name: string, share: number, ...args: string[]): Program
  /** Ends a Node peer that trains, if there is one of that name. */
  stop(name: string): void
  /** A draft of a model with another name. */
  draft(name: string, title: string): Promise<string>
  /** The command line, to its end. */
  mlstore(...args: string[]): Promise<string>
  /** A page of its own profile, unless a context is given. */
  tab(options?: TabOptions): Promise<Tab>
  /**
   * What pages complained of since the last call: console errors, uncaught exceptions and broken policies; without what a
   * browser notes of peers that are gone, and what is allowed.
   */
  complaints(allowed?: RegExp): string[]
  end(): Promise<void>
}

export interface TabOptions {
  context?: BrowserContext
  /** What the page's settings say. */
  rounds?: number
  megabytes?: number
  intensity?: number
  /** Without RTCPeerConnection, as some networks and people have it. */
  webrtc?: boolean
  /** Without WebSocket, as an https page is towards peers that have no certificate. */
  websocket?: boolean
  /** Where it goes; the published model unless given. */
  hash?: string
  /** How long its model may take to come; 30 s unless given. */
  openMs?: number
  /** Another page than the world's. */
  address?: string
}

export interface Tab {
  page: Page
  context: BrowserContext
  /** Brings a share of the digits and starts. */
  train(share: number | 'sample'): Promise<void>
  figures(): Promise<Figures>
  /** Waits until the figures are so. */
  sees(what: string, wanted: (figures: Figures) => boolean, limitMs?: number): Promise<Figures>
  close(): Promise<void>
}

export interface Figures {
  phase: string
  /** Share 0 to 1; NaN before it was measured. */
  averaged: number
  own: number
  round: number
  /** Steps of the round under way; 0 where it is too short to be told. */
  step: number
  swaps: number
}

/** This machine by a name that browsers do not trust without https. */
export const INSECURE_HOST = 'page.test'
const DIGITS = 2000
/** A page cannot keep its browser from noting that nobody answered. */
const PEER_GONE = /^WebSocket connection to '\S+' failed: /
const OPEN_MS = 30_000
const LOOK_EVERY_MS = 100

/** Starts everything but peers. `parts` is into how many skewed shares the digits are dealt; `draft` writes the model that is published. */
export async function openWorld(parts: number, draft = writeDigitsDraft): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'ml-store-world-'))
  const programs: Program[] = []
  const training = new Map<string, Program>()
  const boots = bootstraps()
  const said: string[] = []
  const [bootstrap, { train, test }] = await Promise.all([
    boots.start([...anyPorts, '--home', await boots.home()]),
    readDigits().then((digits) => splitDigits(digits)),
    buildPage(),
  ])
  const dealt = dealDigits(take(train, rows(DIGITS)), parts)
  const shares = await Promise.all(dealt.map((digits, i) => writeShare(folder, i, digits)))
  const join_ = bootstrap.addresses.find(
    (address) => address.includes('/tcp/') && !address.includes('/ws'),
  )!
  const ws = bootstrap.addresses.find((address) => address.includes('/ws/p2p/'))!
  const home = (name: string) => join(folder, name)
  const mlstore = (...args: string[]) => {
    const running = start(process.execPath, [program('cli'), ...args], folder)
    programs.push(running)
    return running
  }
  await draft(home('draft'), test)
  const network = [
    '--join',
    join_,
    '--listen',
    '/ip4/127.0.0.1/tcp/0',
    '--listen',
    '/ip4/127.0.0.1/tcp/0/ws',
    '--listen',
    '/ip4/127.0.0.1/udp/0/webrtc-direct',
  ]
  const publisher = mlstore(
    ...['publish', home('draft'), '--serve', '--json', '--home', home('publisher'), ...network],
  )
  const { cid } = await publisher.says(({ cid }) => cid !== undefined)
  training.set('publisher', publisher)
  const [browser, page] = await Promise.all([
    launchChromium([`--host-resolver-rules=MAP ${INSECURE_HOST} 127.0.0.1`]),
    servePage([ws], { port: 0 }),
  ])

  return {
    ...{ browser, bootstrap, page, shares, home },
    cid: cid!,
    join: ws,
    train(name, share, ...args) {
      const running = mlstore(
        ...['train', cid!, '--json', '--fresh', '--data', shares[share]!, '--threads', '1'],
        ...['--home', home(`${name}-${programs.length}`), ...network, ...args],
      )
      training.set(name, running)
      return running
    },
    stop(name) {
      training.get(name)?.signal('SIGKILL')
    },
    async draft(name, title) {
      await writeDigitsDraft(home(name), test)
      const path = join(home(name), 'mlstore.json')
      const manifest = JSON.parse(await readFile(path, 'utf8'))
      await writeFile(path, JSON.stringify({ ...manifest, name, title }))
      return home(name)
    },
    mlstore: (...args) => mlstore(...args, ...network).ended(),
    tab: (options = {}) =>
      openTab({ browser, address: page.address, cid: cid!, shares, said }, options),
    complaints: (allowed) =>
      said.splice(0).filter((line) => !PEER_GONE.test(line) && !allowed?.test(line)),
    async end() {
      await browser.close()
      page.close()
      for (const running of programs) running.signal('SIGKILL')
      await boots.end()
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

function rows(size: number): number[] {
  return Array.from({ length: size }, (_, row) => row)
}

async function writeShare(folder: string, index: number, digits: Digits): Promise<string> {
  const path = join(folder, `digits-${index}.csv`)
  await writeFile(path, digitsCsv(digits))
  return path
}

interface Ground {
  browser: Browser
  address: string
  cid: string
  shares: string[]
  said: string[]
}

async function openTab(ground: Ground, options: TabOptions): Promise<Tab> {
  const { browser, cid, shares, said } = ground
  const context = options.context ?? (await browser.newContext({ ignoreHTTPSErrors: true }))
  const page = await context.newPage()
  page.on('console', (message) => message.type() === 'error' && said.push(message.text()))
  page.on('pageerror', ({ message }) => said.push(message))
  await page.addInitScript(prepare, {
    settings: JSON.stringify({
      ...{ rounds: options.rounds, megabytes: options.megabytes },
      intensity: options.intensity,
    }),
    without: [
      ...(options.webrtc === false ? ['RTCPeerConnection'] : []),
      ...(options.websocket === false ? ['WebSocket'] : []),
    ],
  })
  await page.goto(`${options.address ?? ground.address}${options.hash ?? `#/m/${cid}`}`)
  const figures = () => page.evaluate(readFigures).then(figuresFrom)
  const tab: Tab = {
    ...{ page, context, figures },
    async train(share) {
      if (share === 'sample') await page.getByRole('button', { name: text.data.sample }).click()
      else await page.locator('input[accept*=csv]').setInputFiles(shares[share]!)
      const begin = page.getByRole('button', { name: text.train.start, exact: true })
      await begin.click({ timeout: OPEN_MS })
    },
    async sees(what, wanted, limitMs = OPEN_MS) {
      const until = performance.now() + limitMs
      for (;;) {
        const found = await figures()
        if (wanted(found)) return found
        if (performance.now() > until)
          throw new Error(`expected ${what} within ${limitMs} ms, got ${JSON.stringify(found)}`)
        await sleep(LOOK_EVERY_MS)
      }
    },
    close: () => (options.context ? page.close() : context.close()),
  }
  if (options.hash === undefined)
    await page
      .locator('input[accept*=csv]')
      .waitFor({ state: 'attached', timeout: options.openMs ?? OPEN_MS })
      .catch(async (error) => {
        await tab.close() // or it takes the time of the scenarios that follow
        throw error
      })
  return tab
}

/** Runs in the page, before any of its scripts. */
function prepare({ settings, without }: { settings: string; without: string[] }): void {
  localStorage.setItem('mlstore.settings', settings)
  for (const name of without) Reflect.deleteProperty(globalThis, name)
  addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
    console.error(`policy: ${violatedDirective} ${blockedURI}`),
  )
}

/** Runs in the page: the phase, and what the run's panel says, each by its name. */
export function readFigures(): { phase: string; underWay: string; rows: [string, string][] } {
  const textOf = (element: Element | null) =>
    element?.textContent?.replace(/\s+/g, ' ').trim() ?? ''
  return {
    phase: textOf(document.querySelector('section.run .phase')),
    underWay: textOf(document.querySelector('section.run .under-way')),
    rows: [...document.querySelectorAll('section.run dl.figures > div')].map((row) => [
      textOf(row.querySelector('dt')),
      textOf(row.querySelector('dd')),
    ]),
  }
}

export function figuresFrom({ phase, underWay, rows }: ReturnType<typeof readFigures>): Figures {
  const said = new Map(rows)
  const value = (name: string) => said.get(name) ?? ''
  const count = (name: string) => Number(value(name).replaceAll(',', '') || 0)
  const share = (name: string) =>
    value(name).endsWith('%') ? Number.parseFloat(value(name)) / 100 : Number.NaN
  const { accuracy, accuracyOf, alone } = text.run
  return {
    phase,
    averaged: share(`${accuracy} ${accuracyOf}`),
    own: share(`${accuracy} ${alone}`),
    round: count(text.run.rounds),
    step: Number(/: step (\d+) of/.exec(underWay)?.[1] ?? 0),
    swaps: count(text.run.swaps),
  }
}
