import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { servePage } from '../../node/start/page.ts'
import { bundle, launchChromium } from '../browser/chromium.ts'
import type { Tab } from '../browser/transfer/page.ts'
import { anyPorts, bootstraps } from '../support/bootstrap.ts'
import { median } from './bench.ts'
import { genesisOf } from './link.ts'

/** Swaps between two pages over WebRTC, through the shipped network, introduced by a real bootstrap. */
export interface TabSwaps {
  /** Encoded bytes one way a second, MB of 10^6, at the median. */
  megabytesPerSecond: number
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
    const [a, b] = await Promise.all([
      open(await launched[0]!.newPage(), site.address),
      open(await launched.at(-1)!.newPage(), site.address),
    ])
    const addresses = await Promise.all([a.open(relay), b.open(relay)])
    const address = addresses[1].find((found) => /\/ws\/.*\/webrtc/.test(found))!
    const path = await a.link(address)
    if (path !== 'webrtc') throw new Error(`the tabs are linked by ${path}, expected webrtc`)
    const [idA, idB] = addresses.map((list) => list[0]!.split('/p2p/').at(-1)!) as [string, string]
    const genesis = await genesisOf(`${megabytes} MB`)
    const [bytes] = await Promise.all([
      a.prepare(megabytes, genesis),
      b.prepare(megabytes, genesis),
    ])
    const seconds: number[] = []
    for (let i = 0; i < times; i++) {
      const nonce = randomBytes(16).toString('hex')
      const [own, other] = await Promise.all([a.swap(idB, nonce, true), b.swap(idA, nonce, false)])
      seconds.push((Math.max(own.to, other.to) - own.from) / 1000)
    }
    const discarded = (await a.discarded()) + (await b.discarded())
    return { megabytesPerSecond: bytes / 1e6 / median(seconds), discarded }
  } finally {
    for (const browser of launched) await browser.close()
    site.close()
    await boots.end()
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** The tab's own functions, called from here. */
async function open(page: Page, address: string): Promise<Tab> {
  await page.goto(address)
  await page.waitForFunction(() => 'tab' in globalThis)
  const call =
    (name: keyof Tab) =>
    (...args: unknown[]) =>
      page.evaluate(
        ([name, args]) =>
          (globalThis as unknown as { tab: Record<string, (...args: unknown[]) => unknown> }).tab[
            name
          ]!(...args),
        [name, args] as const,
      )
  return {
    ...{ open: call('open'), link: call('link'), prepare: call('prepare') },
    ...{ swap: call('swap'), discarded: call('discarded') },
  } as unknown as Tab
}
