import type { BrowserContext } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { text } from '../../browser/text.ts'
import { isFull } from '../faults/every.ts'
import { executablePath, launchChromium, requireChromium } from './chromium.ts'
import { INSECURE_HOST, openWorld, type Tab, type TabOptions, type World } from './world.ts'

/** What the page says of wrong input and of browsers that lack something, in Chromium: cause and next step, and nothing is lost. */

const LIMIT_MS = 120_000
const WAIT_MS = 20_000
requireChromium('the page and wrong input')

describe.runIf(executablePath)('the page', { timeout: LIMIT_MS }, () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld(1)
  }, LIMIT_MS)
  afterEach(() => expect(world.complaints()).toEqual([]))
  afterAll(() => world?.end())

  /** A tab of a context that was prepared; both are closed afterwards. */
  async function within(
    prepare: (context: BrowserContext) => Promise<unknown>,
    options: TabOptions,
    look: (tab: Tab) => Promise<void>,
  ): Promise<void> {
    const context = await world.browser.newContext({ acceptDownloads: true })
    try {
      await prepare(context)
      await look(await world.tab({ ...options, context }))
    } finally {
      await context.close()
    }
  }
  const asItIs = async () => {}

  /** A link is enough: where the page's host names no peers, and nothing is kept. */
  async function opensAlone(link: string): Promise<void> {
    const host = new URL(link)
    const namesNobody = (context: BrowserContext) =>
      context.route('**/peers.json', (route) => route.fulfill({ json: [] }))
    await within(namesNobody, { address: host.origin, hash: `/${host.hash}` }, async ({ page }) => {
      await page.getByRole('button', { name: text.data.sample }).waitFor({ timeout: WAIT_MS })
    })
  }

  test('whose browser is full says so, trains on, gives a zip, and goes on from memory', async () => {
    world.train('a', 0)
    await within(asItIs, { hash: '#/settings' }, async (tab) => {
      const { page } = tab
      const cdp = await tab.context.newCDPSession(page)
      const origin = new URL(world.page.address).origin
      await cdp.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 1000 })
      await page.goto(`${world.page.address}#/m/${world.cid}`)
      await tab.train('sample')
      const unsaved = page.getByText('no room left to keep what is trained here').first()
      await unsaved.waitFor({ timeout: 60_000 })
      const { round } = await tab.figures()
      await tab.sees('ten rounds more', (now) => now.round >= round + 10)
      world.stop('a')
      await page.getByRole('button', { name: text.run.stop }).first().click()
      await page.getByText(text.run.stoppedUnsaved).first().waitFor({ timeout: WAIT_MS })
      await unsaved.waitFor()
      const before = await tab.figures()
      await page.getByRole('link', { name: text.model.tabs.card, exact: true }).click()
      const [download] = await Promise.all([
        page.waitForEvent('download'),
        page.getByRole('button', { name: text.card.takeMine }).click(),
      ])
      expect(download.suggestedFilename()).toContain('-mine.zip')
      await page.getByRole('link', { name: text.model.tabs.train, exact: true }).click()
      await page.getByRole('button', { name: text.run.again }).click()
      const after = await tab.sees('its first figures', ({ own }) => own > 0)
      expect(before.own).toBeGreaterThan(0.7)
      expect(after.own).toBeGreaterThan(before.own - 0.1)
    })
  })

  test('whose browser opens no database trains for this visit, and says that nothing is kept', async () => {
    await within(
      (context) => context.addInitScript(openNothing),
      {},
      async (tab) => {
        await tab.train('sample')
        await tab.sees('rounds', ({ round }) => round >= 5)
        await tab.page.getByRole('link', { name: text.nav.mine }).click()
        await tab.page.getByText('this browser keeps nothing for this page').waitFor()
      },
    )
  })

  test('from an origin that is not secure says what to do, on every route', async () => {
    const address = world.page.address.replace('127.0.0.1', INSECURE_HOST)
    for (const hash of ['#/', `#/m/${world.cid}`, '#/network', '#/mine', '#/settings'])
      await within(asItIs, { address, hash }, async ({ page }) => {
        await page.getByText('open it over https, or from localhost').first().waitFor()
      })
    // What shares memory between threads is no use there either.
    expect(world.complaints(/^The Cross-Origin-Opener-Policy header has been ignored/)).toEqual([])
  })

  test.runIf(isFull)(
    'copies where there is no clipboard, and says so where nothing may be copied',
    async () => {
      const withoutClipboard = async (context: BrowserContext) => {
        await context.grantPermissions(['clipboard-read'])
        await context.addInitScript(() =>
          Object.assign(globalThis, {
            realClipboard: navigator.clipboard,
            hidden: Object.defineProperty(navigator, 'clipboard', { value: undefined }),
          }),
        )
      }
      await within(withoutClipboard, {}, async ({ page }) => {
        await page.getByRole('button', { name: text.model.share }).click()
        await page.getByRole('button', { name: text.share.copyLink }).click()
        await page.getByRole('button', { name: text.copy.copied }).waitFor()
        const copied = await page.evaluate(() =>
          (globalThis as unknown as { realClipboard: Clipboard }).realClipboard.readText(),
        )
        expect(copied).toContain(`#/m/${world.cid}?via=`)
        await opensAlone(copied)
        await page.evaluate(() => {
          document.execCommand = () => false
        })
        await page.getByRole('button', { name: text.copy.copy, exact: true }).last().click()
        await page.getByRole('button', { name: text.copy.refused }).waitFor()
      })
    },
  )

  test('in a browser without SIMD trains by plain JavaScript, and says so', async () => {
    const flags = ['ssse3', 'sse4-1', 'sse4-2', 'avx', 'avx2'].map((name) => `--no-enable-${name}`)
    const args = [`--js-flags=${flags.join(' ')}`]
    const browser = await launchChromium(args)
    try {
      const tab = await world.tab({ context: await browser.newContext() })
      await tab.train('sample')
      await tab.page.getByText(text.run.noSimd).waitFor()
      await tab.sees('a round', ({ round }) => round >= 1, 60_000)
    } finally {
      await browser.close()
    }
  })

  test('writes no text of others as markup, and runs no script but its own', async () => {
    await within(asItIs, { hash: '#/settings' }, async ({ page }) => {
      const [policy] = await page
        .locator('meta[http-equiv="Content-Security-Policy"]')
        .evaluateAll((all) => all.map((meta) => meta.getAttribute('content')))
      expect(policy).toContain("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")
      expect(policy).toContain("require-trusted-types-for 'script'; trusted-types vue mlstore")
      expect(await page.evaluate(breakPolicy)).toEqual([
        ...['innerHTML', 'inline script', 'foreign script', 'handler', 'policy'],
      ])
      const broken = ['require-trusted-types-for', 'trusted-types']
      await expect.poll(() => page.evaluate(() => [...globalThis.violated].sort())).toEqual(broken)
      expect(await page.evaluate(() => 'ran' in globalThis)).toBe(false)
      const said = world.complaints(/^policy: |The action has been blocked/)
      expect(said).toEqual([])
    })
  })

  const blocked: [
    what: string,
    prepare: (context: BrowserContext) => Promise<unknown>,
    says: string,
  ][] = [
    [
      'without workers',
      (c) => c.addInitScript(() => Reflect.deleteProperty(globalThis, 'Worker')),
      'this browser has no workers',
    ],
    [
      'whose worker is not served',
      (c) => c.route('**/worker*.js', (r) => r.abort()),
      'the training thread could not be loaded',
    ],
    [
      'whose engine is not served',
      (c) => c.route('**/*.wasm', (r) => r.fulfill({ status: 404 })),
      'the training engine could not be loaded',
    ],
  ]
  test.each(isFull ? blocked : blocked.slice(-1))(
    '%s says so where it was started, and keeps the data',
    async (_, prepare, says) => {
      await within(prepare, {}, async (tab) => {
        await tab.train('sample')
        await tab.page
          .locator('section.run .fault', { hasText: says })
          .waitFor({ timeout: WAIT_MS })
        expect(await tab.page.locator('.parts li').count()).toBe(1)
      })
    },
  )

  test('that came in part says so', async () => {
    const lose = (context: BrowserContext) => context.route('**/open-*.js', (r) => r.abort())
    await within(lose, { hash: '#/' }, async ({ page }) => {
      await page.getByText('only a part of this page came').first().waitFor()
    })
    expect(world.complaints(/net::ERR_FAILED/)).toEqual([])
  })

  const links: [what: string, hash: (cid: string) => string, says: string][] = [
    ['an address that is none', (cid) => `#/m/${cid}?via=/nonsense/x`, 'which is no multiaddr'],
    ['a name that nobody lists', () => '#/m/no-such-model', 'no model no-such-model is listed'],
    [
      'a broken escape',
      () => '#/m/%E0%A4%A',
      'expected a name such as digits, a CID, or a share link',
    ],
  ]
  test.each(links)('opened by a link with %s says so', async (_, hash, says) => {
    await within(asItIs, { hash: hash(world.cid) }, async ({ page }) => {
      await page.locator('.fault', { hasText: says }).waitFor({ timeout: WAIT_MS })
    })
  })

  test('names what is wrong with files, beside the data that is there and stays', async () => {
    await within(asItIs, {}, async ({ page }) => {
      await page.getByRole('button', { name: text.data.sample }).click()
      await page.locator('.parts li').waitFor()
      for (const [name, contents, says] of files) {
        const chooser = name.endsWith('.csv') ? 'input[accept*=csv]' : 'input[accept="image/*"]'
        const file = { name, mimeType: '', buffer: Buffer.from(contents) }
        await page.locator(chooser).first().setInputFiles([file])
        await page.locator('.data .fault', { hasText: says }).waitFor()
        expect(await page.locator('.parts li').count()).toBe(1)
      }
    })
  })

  test('wraps its keys by one that cannot be read, and opens the same home after a reload', async () => {
    await within(asItIs, { hash: '#/settings' }, async ({ page }) => {
      await exportKey(page)
      const owner = await page.locator('section code').first().innerText()
      const kept = await page.evaluate(readHome)
      expect(kept.extractable).toBe(false)
      expect(kept.exported).toBe('InvalidAccessError')
      expect(kept.names).toEqual(expect.arrayContaining(['owner.key', 'peer.key', 'wrapping']))
      await page.reload()
      await page.getByText(owner).first().waitFor()
    })
  })

  test('says that a kept key is damaged, and leaves what is stored as it is', async () => {
    await within(asItIs, { hash: '#/settings' }, async ({ page }) => {
      await exportKey(page)
      await page.evaluate(damageKeys)
      const before = await page.evaluate(readHome)
      await page.reload()
      await page.getByText('the owner key that this browser keeps cannot be opened').waitFor()
      await page.goto(`${world.page.address}#/m/${world.cid}`)
      await page.getByRole('button', { name: text.data.sample }).waitFor({ timeout: WAIT_MS })
      const after = await page.evaluate(readHome)
      expect(after.keys).toEqual(before.keys)
    })
  })

  test('knows after a restart the models that others listed, also when it reaches nobody', async () => {
    await within(asItIs, { hash: '#/' }, async ({ page, context }) => {
      const model = page.getByRole('link', { name: 'Handwritten digits' }).first()
      await model.waitFor({ timeout: WAIT_MS })
      await expect.poll(() => page.evaluate(hasListings), { timeout: WAIT_MS }).toBe(true)
      await context.addInitScript(reachNobody)
      await page.reload()
      await model.waitFor({ timeout: WAIT_MS })
      expect(await page.locator('.status').getAttribute('data-phase')).not.toBe('online')
    })
  })

  test('refuses a file that is no owner key, and keeps the key it has', async () => {
    await within(asItIs, { hash: '#/settings' }, async ({ page }) => {
      await exportKey(page)
      const { keys } = await page.evaluate(readHome)
      const file = { name: 'key.json', mimeType: '', buffer: Buffer.from('{"no": "key"}') }
      await page.locator('input[accept*=json]').setInputFiles([file])
      const replace = page.getByRole('button', { name: text.owner.replace })
      await replace.click()
      await page.locator('.fault').first().waitFor({ timeout: WAIT_MS })
      expect((await page.evaluate(readHome)).keys).toEqual(keys)
    })
  })
})

const files: [name: string, contents: string, says: string][] = [
  ['text.png', 'hello', 'is not in a folder named for its label'],
  ['things.zip', 'PK\u0003\u0004', 'is not in a folder named for its label'],
  ['other.csv', 'a,b\n1,2\n', 'has no column "label"'],
  ['empty.csv', '', 'holds nothing'],
]

async function exportKey(page: Tab['page']): Promise<void> {
  await page.locator('#passphrase').fill('correct horse battery')
  await page.getByRole('button', { name: text.owner.export }).click()
  await page.getByText(text.owner.exported).waitFor({ timeout: WAIT_MS })
}

declare global {
  /** Directives of the page's policy that were broken. */
  var violated: Set<string>
}

/** Runs in the page: what a stranger's text would try; gives what was thrown at. */
function breakPolicy(): string[] {
  const threw: string[] = []
  globalThis.violated = new Set()
  const { trustedTypes } = globalThis as unknown as {
    trustedTypes: { createPolicy(name: string, rules: object): unknown }
  }
  addEventListener('securitypolicyviolation', ({ effectiveDirective }) =>
    globalThis.violated.add(effectiveDirective),
  )
  const refused = (what: string, attempt: () => void) => {
    try {
      attempt()
    } catch {
      threw.push(what)
    }
  }
  const run = 'globalThis.ran = true'
  const scripted = (write: (script: HTMLScriptElement) => void) => {
    const script = document.createElement('script')
    write(script)
    document.body.append(script)
  }
  refused('innerHTML', () => {
    document.createElement('p').innerHTML = '<b>bold</b>'
  })
  refused('inline script', () =>
    scripted((script) => {
      script.text = run
    }),
  )
  refused('foreign script', () =>
    scripted((script) => {
      script.src = 'http://127.0.0.1:9/foreign.js'
    }),
  )
  refused('handler', () => document.createElement('button').setAttribute('onclick', run))
  refused('policy', () => trustedTypes.createPolicy('theirs', {}))
  return threw
}

/** Runs in the page: as a browser that allows no site data. */
function openNothing(): void {
  IDBFactory.prototype.open = () => {
    throw new DOMException('The user denied permission to access the database.', 'SecurityError')
  }
}

/** Runs in the page: what home keeps. */
async function readHome() {
  const database = await new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open('mlstore')
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
  const store = database.transaction('home').objectStore('home')
  const get = <T>(name: string) =>
    new Promise<T>((resolve) => {
      const request = store.get(name)
      request.onsuccess = () => resolve(request.result)
    })
  const names = await new Promise<string[]>((resolve) => {
    const request = store.getAllKeys()
    request.onsuccess = () => resolve(request.result.map(String))
  })
  const keys: number[][] = []
  for (const name of ['peer.key', 'owner.key'])
    keys.push([...new Uint8Array((await get<{ bytes: ArrayBuffer }>(name)).bytes)])
  const wrapping = await get<CryptoKey>('wrapping')
  database.close()
  const exported = await crypto.subtle.exportKey('raw', wrapping).then(
    () => 'exported',
    (error: Error) => error.name,
  )
  return { names, keys, extractable: wrapping.extractable, exported }
}

/** Runs in the page: whether a snapshot of the listings is kept. */
async function hasListings(): Promise<boolean> {
  const database = await new Promise<IDBDatabase>((resolve) => {
    const request = indexedDB.open('mlstore')
    request.onsuccess = () => resolve(request.result)
  })
  const request = database.transaction('home').objectStore('home').get('listings')
  await new Promise((resolve) => {
    request.onsuccess = resolve
  })
  database.close()
  return (request.result?.length ?? 0) > 0
}

/** Runs in the page: no way to reach anybody. */
function reachNobody(): void {
  for (const name of ['WebSocket', 'RTCPeerConnection']) Reflect.deleteProperty(globalThis, name)
}

/** Runs in the page: one bit of each key turns. */
async function damageKeys(): Promise<void> {
  const database = await new Promise<IDBDatabase>((resolve) => {
    const request = indexedDB.open('mlstore')
    request.onsuccess = () => resolve(request.result)
  })
  const transaction = database.transaction('home', 'readwrite')
  const store = transaction.objectStore('home')
  for (const name of ['peer.key', 'owner.key']) {
    const request = store.get(name)
    request.onsuccess = () => {
      const held = request.result
      new Uint8Array(held.bytes)[0]! ^= 1
      store.put(held, name)
    }
  }
  await new Promise((resolve) => {
    transaction.oncomplete = resolve
  })
  database.close()
}
