import { createHash } from 'node:crypto'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import { CID } from 'multiformats/cid'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import { announceKept, freeVersion, type Keeping, versionsHere } from '../../browser/kept.ts'
import { type Card, readCard } from '../../protocol/message.ts'
import { libp2pDefaults } from '../../protocol/ports/libp2p.ts'
import { createListingBook } from '../../protocol/ports/registry.ts'
import { openStore } from '../../protocol/ports/store.ts'
import { newKey } from '../support/libp2p.ts'
import { tableVersion } from '../support/versions.ts'

afterEach(() => vi.unstubAllGlobals())

/** A store of two versions of one model, and what it says of itself. */
async function keeping() {
  const blockstore = new MemoryBlockstore()
  const { store, close } = await openStore({
    blockstore,
    datastore: new MemoryDatastore(),
    libp2p: libp2pDefaults({
      ...{
        privateKey: await newKey(),
        transports: [],
        listen: [],
        relay: false,
        gossip: false,
        dialLocal: true,
      },
      datastore: new MemoryDatastore(),
    }),
  })
  onTestFinished(close)
  const genesis = await store.addVersion(await tableVersion())
  const child = await store.addVersion(
    await tableVersion({ version: '1.1.0', genesis, parents: [genesis], title: 'Its child' }),
  )
  const said: string[] = []
  const host: Keeping = {
    store,
    book: createListingBook<Card>({ readCard }),
    announce: async ({ cid }) => void said.push(cid),
    yieldCard: (of) => void said.push(`no card of ${of}`),
  }
  return { host, blockstore, genesis, child, said }
}

test('what is kept is told with title, number, size, time and whether its model is listed', async () => {
  const { host, genesis, child } = await keeping()
  const found = await versionsHere(host)
  expect(found).toHaveLength(2)
  expect(found.find(({ cid }) => cid === child)).toMatchObject({
    ...{ genesis, title: 'Its child', number: '1.1.0', listed: false, isDamaged: false },
    ...{ at: expect.any(Number), bytes: expect.any(Number) },
  })
})

test('one whose manifest is gone is there too, says so, and can be freed', async () => {
  const { host, blockstore, genesis, child } = await keeping()
  const manifest = await host.store.readFile(child, 'mlstore.json')
  await blockstore.delete(rawCid(manifest))
  const damaged = (await versionsHere(host)).find(({ cid }) => cid === child)
  expect(damaged).toMatchObject({ title: 'tiny', number: '1.1.0', isDamaged: true })
  await freeVersion(host, child, undefined)
  expect((await versionsHere(host)).map(({ cid }) => cid)).toEqual([genesis])
})

test('a freed version is announced no more, and what is left of its model is, unless that trains', async () => {
  const { host, genesis, child, said } = await keeping()
  await freeVersion(host, child, undefined)
  expect(said).toEqual([`no card of ${genesis}`, genesis])
  await freeVersion(host, genesis, genesis)
  expect(said).toHaveLength(2)
  expect(await versionsHere(host)).toEqual([])
})

test('nothing is freed while another tab trains', async () => {
  const { host, child } = await keeping()
  const locks = { query: async () => ({ held: [{ name: 'mlstore-training' }] }) }
  vi.stubGlobal('navigator', { locks })
  await expect(freeVersion(host, child, undefined)).rejects.toMatchObject({
    detail: { type: 'trained-elsewhere' },
  })
  expect(await versionsHere(host)).toHaveLength(2)
  await freeVersion(host, child, 'a model that this page trains')
  expect(await versionsHere(host)).toHaveLength(1)
})

function rawCid(bytes: Uint8Array): CID {
  const digest = createHash('sha256').update(bytes).digest()
  return CID.decode(Uint8Array.of(1, 0x55, 0x12, 32, ...digest))
}

test('the card of a model names the version it is to name, another that is kept once that was freed, or none', async () => {
  const { host, genesis, child, said } = await keeping()
  await announceKept(host, genesis, child)
  expect(said).toEqual([child])
  await host.store.remove(child)
  await announceKept(host, genesis, child)
  expect(said).toEqual([child, genesis])
  await host.store.remove(genesis)
  await announceKept(host, genesis, child)
  expect(said).toEqual([child, genesis])
})
