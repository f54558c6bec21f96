import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { servePage } from '../../node/start/page.ts'
import { bundle, launchChromium } from '../browser/chromium.ts'
import type { Bare } from '../browser/transfer/bare.ts'
import type { Tab } from '../browser/transfer/page.ts'
import { anyPorts, bootstraps } from '../support/bootstrap.ts'
import { median } from './bench.ts'
import { genesisOf } from './link.ts'

/** Swaps between two pages over WebRTC, through the shipped network, introduced by a real bootstrap. */
export interface TabSwaps {
  /** Encoded bytes one way a second, MB of 10^6, at the median. */
  megabytesPerSecond: number
  /** A bare data channel's time for as many bytes, with the same window, in the same tabs and turn by turn / ours. */
  ofBare: number
  /** Packets that the senders' own browsers threw away, both together. */
  discarded: number
}

/** In two tabs of one browser, or in two browsers. */
export async function swapBetweenTabs(
  megabytes: number,
  times: number,
  { browsers }: { browsers: 1 | 2 },
): Promise<TabSwaps> {
  const folder = await mkdtemp(join(tmpdir(), 'ml-store-transfer-'))
  const boots = bootstraps()
  const launched = await Promise.all(Array.from({ length: browsers }, () => launchChromium()))
  await bundle(new URL('../browser/transfer', import.meta.url), folder)
  const site = await servePage([], { folder, port: 0 })
  try {
    const bootstrap = await boots.start([...anyPorts, '--home', await boots.home()])
    const relay = bootstrap.addresses.find((address) => address.includes('/ws/p2p/'))!
    const pages = await Promise.all([launched[0]!.newPage(), launched.at(-1)!.newPage()])
    for (const page of pages) await load(page, site.address)
    const [a, b] = pages.map(tabOf) as [Tab, Tab]
    const bare = pages.map(bareOf) as [Bare, Bare]
    await bare[0].accept(await bare[1].answer(await bare[0].offer()))
    const addresses = await Promise.all([a.open(relay), b.open(relay)])
    const address = addresses[1].find((found) => /\/ws\/.*\/webrtc/.test(found))!
    // About one dial in eight comes to nothing (research notes on libp2p, section 11); a peer tries again, too.
    const path = await a.link(address).catch(() => a.link(address))
    if (path !== 'webrtc') throw new Error(`the tabs are linked by ${path}, expected webrtc`)
    const [idA, idB] = addresses.map((list) => list[0]!.split('/p2p/').at(-1)!) as [string, string]
    const genesis = await genesisOf(`${megabytes} MB`)
    const [bytes] = await Promise.all([
      a.prepare(megabytes, genesis),
      b.prepare(megabytes, genesis),
    ])
    const seconds: number[] = []
    const bareSeconds: number[] = []
    for (let i = 0; i < times; i++) {
      const nonce = randomBytes(16).toString('hex')
      const [own, other] = await Promise.all([a.swap(idB, nonce, true), b.swap(idA, nonce, false)])
      seconds.push((Math.max(own.to, other.to) - own.from) / 1000)
      const [left, right] = await Promise.all(bare.map((tab) => tab.exchange(bytes)))
      bareSeconds.push((Math.max(left!.to, right!.to) - Math.min(left!.from, right!.from)) / 1000)
    }
    const discarded = (await a.discarded()) + (await b.discarded())
    return {
      megabytesPerSecond: bytes / 1e6 / median(seconds),
      ofBare: median(bareSeconds) / median(seconds),
      discarded,
    }
  } finally {
    for (const browser of launched) await browser.close()
    site.close()
    await boots.end()
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

async function load(page: Page, address: string): Promise<void> {
  await page.goto(address)
  await page.waitForFunction(() => 'tab' in globalThis)
}

function tabOf(page: Page): Tab {
  return within(page, 'tab', ['open', 'link', 'prepare', 'swap', 'discarded']) as unknown as Tab
}

function bareOf(page: Page): Bare {
  return within(page, 'bare', ['offer', 'answer', 'accept', 'exchange']) as unknown as Bare
}

/** An object of the page's own, its functions called from here. */
function within(page: Page, object: string, names: readonly string[]) {
  const call =
    (name: string) =>
    (...args: unknown[]) =>
      page.evaluate(
        ([object, name, args]) =>
          (
            globalThis as unknown as Record<string, Record<string, (...args: unknown[]) => unknown>>
          )[object]![name]!(...args),
        [object, name, args] as const,
      )
  return Object.fromEntries(names.map((name) => [name, call(name)]))
}
