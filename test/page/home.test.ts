import { generateKeyPair } from '@libp2p/crypto/keys'
import { beforeEach, expect, test, vi } from 'vitest'
import { openHome } from '../../browser/home.ts'
import { forgetDatabases, keptIn } from '../support/idb.ts'

/** What tabs of one profile share: each home here is a tab's. */
vi.mock('idb-keyval', () => import('../support/idb.ts'))
vi.mock('blockstore-idb', async () => {
  const { MemoryBlockstore } = await import('blockstore-core')
  return {
    IDBBlockstore: class extends MemoryBlockstore {
      async open() {}
    },
  }
})
vi.mock('datastore-idb', async () => {
  const { MemoryDatastore } = await import('datastore-core')
  return {
    IDBDatastore: class extends MemoryDatastore {
      async open() {}
    },
  }
})

beforeEach(() => {
  forgetDatabases()
  vi.stubGlobal('indexedDB', {})
  vi.stubGlobal('navigator', { locks: newLocks() })
  return () => vi.unstubAllGlobals()
})

const kept = () => keptIn('mlstore').get('config')

test('two tabs change what is kept each by itself, and neither takes away what the other added', async () => {
  const [one, two] = [await openHome(), await openHome()]
  await one.changeConfig((config) => ({ ...config, joined: ['/a', ...config.joined] }))
  await two.changeConfig((config) => ({ ...config, joined: ['/b', ...config.joined] }))
  await two.changeConfig((config) => ({ ...config, peers: ['/met'] }))
  expect(kept()).toEqual({ joined: ['/b', '/a'], peers: ['/met'] })
  expect([one.config.joined, two.config.joined]).toEqual([['/a'], ['/b']])
  expect((await openHome()).config).toEqual({ joined: ['/b', '/a'], peers: ['/met'] })
})

test('what one tab forgets, another does not bring back by its next change', async () => {
  const one = await openHome()
  await one.changeConfig((config) => ({ ...config, joined: ['/a', '/b'] }))
  const two = await openHome()
  await one.changeConfig(({ joined, ...config }) => ({
    ...config,
    joined: joined.filter((address) => address !== '/a'),
  }))
  expect(two.config.joined).toEqual(['/a', '/b'])
  await two.changeConfig((config) => ({ ...config, peers: ['/met'] }))
  expect(kept()).toEqual({ joined: ['/b'], peers: ['/met'] })
})

test('a change holds at once in its own tab, and also where it cannot be kept', async () => {
  const home = await openHome()
  keptIn('mlstore').set = () => {
    throw new DOMException('no room', 'QuotaExceededError')
  }
  const changing = home.changeConfig((config) => ({ ...config, joined: ['/a'] }))
  expect(home.config.joined).toEqual(['/a'])
  await expect(changing).rejects.toThrow('no room')
  expect(home.config.joined).toEqual(['/a'])
})

test('what is kept in another shape is read as far as it is addresses', async () => {
  keptIn('mlstore').set('config', { peers: 'none', joined: ['/a', 7, null], old: true })
  const home = await openHome()
  expect(home.config).toEqual({ peers: [], joined: ['/a'] })
})

test('the first tab is the peer whose key is kept, another is one of its own; the owner is one', async () => {
  const [one, two] = [await openHome(), await openHome()]
  expect(two.peerKey.equals(one.peerKey)).toBe(false)
  const owner = await one.ownerKey()
  expect((await two.ownerKey()).equals(owner)).toBe(true)
  vi.stubGlobal('navigator', { locks: newLocks() }) // both tabs are closed
  const later = await openHome()
  expect(later.peerKey.equals(one.peerKey)).toBe(true)
  expect(await later.owner()).toBe(owner.publicKey.toString())
  const imported = await generateKeyPair('Ed25519')
  await later.setOwnerKey(imported)
  expect((await two.ownerKey()).equals(imported)).toBe(true)
})

/** One holder a name; a lock that is asked for with a wait is free here. */
function newLocks() {
  const held = new Set<string>()
  return {
    async request(name: string, ...rest: unknown[]) {
      const work = rest.at(-1) as (lock: object | null) => unknown
      if (rest.length === 1) return work({})
      if (held.has(name)) return work(null)
      held.add(name)
      return work({})
    },
  }
}
