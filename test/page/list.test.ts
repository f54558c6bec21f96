import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { afterEach, expect, test, vi } from 'vitest'
import { type Lister, listModels } from '../../browser/list.ts'
import { signListing } from '../../protocol/listing.ts'
import { type Card, readCard } from '../../protocol/message.ts'
import {
  createListingBook,
  type ListingBook,
  registryClient,
  serveRegistry,
} from '../../protocol/ports/registry.ts'
import { newKey, nodes } from '../support/libp2p.ts'

const all = nodes()
afterEach(all.stop)
const everything = { query: '', task: '' }

async function cidOf(text: string): Promise<string> {
  return CID.createV1(0x55, await sha256.digest(new TextEncoder().encode(text))).toString()
}

/** A registry with so many models, and a page's side of it whose own book is empty as yet. */
async function lister(models: number) {
  const [server, client] = [await all.start(), await all.start({ listen: [] })]
  const theirs: ListingBook<Card> = createListingBook({ readCard })
  const owner = await newKey()
  for (let i = 0; i < models; i++) {
    const genesis = await cidOf(`${i}`)
    const name = `model-${String(i).padStart(4, '0')}`
    const put = await theirs.put(
      await signListing(
        {
          ...{ name, title: `Model ${i}`, task: 'image-classification', tags: [], labels: [] },
          ...{ genesis, version: genesis, manifestVersion: '1.0.0', bytes: 1, sequence: 1 },
        },
        owner,
        Date.now(),
      ),
      Date.now(),
    )
    expect(put).toEqual({ type: 'stored' })
  }
  const registry = await serveRegistry(server, theirs, {
    quotaPerConnection: { burst: 1000, perSecond: 1000 },
  })
  const book: ListingBook<Card> = createListingBook({ readCard })
  let listedAt: number | undefined
  const host: Lister = {
    registry: await registryClient(client, { readCard, book }),
    book,
    online: async (timeoutMs) => host.registry.waitForRegistry(AbortSignal.timeout(timeoutMs)),
    store: { versions: async () => [], fetchManifest: () => Promise.reject(new Error('none')) },
    home: {
      readListedAt: async () => listedAt,
      async saveListedAt(at) {
        listedAt = at
      },
    },
  }
  await client.dial(server.getMultiaddrs())
  return { host, hangUp: () => registry.close().then(() => client.hangUp(server.peerId)) }
}

test('the fifty-first model is listed too, and offline with the time of its list', async () => {
  const { host, hangUp } = await lister(60)
  const list = await listModels(host, everything)
  expect(list).toMatchObject({ listed: 60, total: 60, answered: 1 })
  expect(new Set(list.models.map(({ title }) => title)).size).toBe(60)
  expect(list.models.filter(({ peers }) => peers === 0)).toHaveLength(60)
  await hangUp()
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 7_200_000 })
  try {
    host.online = () => Promise.reject(new Error('nobody'))
    const later = await listModels(host, everything)
    expect(later).toMatchObject({ listed: 60, total: 60, answered: 0, at: list.at })
    expect(later.models.every(({ peers }) => peers === undefined)).toBe(true)
  } finally {
    vi.useRealTimers()
  }
})

test('of more models than a page shows the rest is told, and found by a search', async () => {
  const { host } = await lister(230)
  const list = await listModels(host, everything)
  expect(list).toMatchObject({ listed: 200, total: 230 })
  expect(list.models.filter(({ peers }) => peers !== undefined)).toHaveLength(64)
  const found = await listModels(host, { query: 'model-0229', task: 'image-classification' })
  expect(found.models.map(({ title }) => title)).toEqual(['Model 229'])
  expect(found).toMatchObject({ total: 1 })
})

test('who never heard of a model says so, and no time', async () => {
  const { host, hangUp } = await lister(0)
  expect(await listModels(host, everything)).toMatchObject({ models: [], answered: 1 })
  await hangUp()
  host.online = () => Promise.reject(new Error('nobody'))
  await expect(listModels(host, everything)).rejects.toMatchObject({
    detail: { type: 'no-registry' },
  })
})
