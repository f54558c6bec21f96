import { generateKeyPair } from '@libp2p/crypto/keys'
import { webSockets } from '@libp2p/websockets'
import type { Multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Home, HomeConfig } from '../../browser/home.ts'
import { type Host, startHost } from '../../browser/host.ts'
import type { NetworkView } from '../../browser/services.ts'
import type { Node } from '../../protocol/ports/libp2p.ts'
import { nodes } from '../support/libp2p.ts'

/** A page's host among real peers on this machine, over WebSocket; its window only pretends. */
const all = nodes()
const hosts: Host[] = []
const timers: ReturnType<typeof setInterval>[] = []

beforeEach(() => {
  const begin = globalThis.setInterval
  vi.stubGlobal('setInterval', (...given: Parameters<typeof begin>) => {
    const timer = begin(...given)
    timers.push(timer)
    return timer
  })
  vi.stubGlobal('addEventListener', () => {})
  vi.stubGlobal('removeEventListener', () => {})
  vi.stubGlobal('document', { hidden: false })
  vi.stubGlobal('navigator', { onLine: true })
  vi.stubGlobal('location', { protocol: 'http:', hostname: 'models.example.org' })
})
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.libp2p.stop()
  await all.stop()
  for (const timer of timers.splice(0)) clearInterval(timer)
  vi.unstubAllGlobals()
})

async function hostOf(config: Partial<HomeConfig> = {}, near: string[] = []): Promise<Host> {
  const home: Pick<Home, 'config' | 'changeConfig'> & Partial<Home> = {
    peerKey: await generateKeyPair('Ed25519'),
    blockstore: new MemoryBlockstore(),
    datastore: new MemoryDatastore(),
    config: { peers: [], joined: [], ...config },
    async changeConfig(change) {
      home.config = change(home.config)
    },
    readListings: async () => undefined,
    saveListings: async () => {},
  }
  const host = await startHost(home as Home, { link: [], near })
  hosts.push(host)
  return host
}

/** A peer that listens for pages, and its address as it prints it. */
async function peer(): Promise<{ node: Node; address: string }> {
  const node = await all.start({ transports: [webSockets()], listen: ['/ip4/127.0.0.1/tcp/0/ws'] })
  return { node, address: String(node.getMultiaddrs()[0]) }
}

/** Every view of the network from now on. */
function seenBy(host: Host): NetworkView[] {
  const seen: NetworkView[] = []
  const end = host.watch((view) => seen.push(view))
  hosts.push({ libp2p: { stop: end } } as unknown as Host)
  return seen
}

const reaches = (host: Host, address: Multiaddr | string) =>
  host.libp2p.dial(address as Multiaddr).then(
    () => true,
    () => false,
  )

test('an address that was dialled well is remembered once, the last first, and shown', async () => {
  const [one, two] = [await peer(), await peer()]
  const host = await hostOf()
  const seen = seenBy(host)
  for (const { address } of [one, two, one]) await host.dial(address)
  expect(host.home.config.joined).toEqual([one.address, two.address])
  await expect.poll(() => seen.at(-1)?.joined).toEqual([one.address, two.address])
  expect(seen.at(-1)?.phase).toBe('online')
  expect(seen.at(-1)?.peers.map(({ peer: id, path }) => [id, path])).toEqual(
    expect.arrayContaining([[one.node.peerId.toString(), 'ws']]),
  )
})

test('of those that are remembered there are 32 at most', async () => {
  const { address } = await peer()
  const host = await hostOf({
    joined: Array.from({ length: 32 }, (_, i) => `/dns4/${i}.example/tcp/1`),
  })
  await host.dial(address)
  expect(host.home.config.joined).toHaveLength(32)
  expect(host.home.config.joined[0]).toBe(address)
})

test('one that nobody answers at says why, is not remembered and opens no door', async () => {
  const { node, address } = await peer()
  const other = await peer()
  await node.stop()
  const host = await hostOf()
  await expect(host.dial(address)).rejects.toMatchObject({ detail: { type: 'refused', address } })
  await expect(host.dial('hello')).rejects.toMatchObject({ detail: { type: 'wrong-address' } })
  expect(host.home.config.joined).toEqual([])
  expect(await reaches(host, other.node.getMultiaddrs()[0]!)).toBe(false)
})

test('private addresses that others name are dialled while one is remembered, and no more once it is forgotten', async () => {
  const [one, two, three] = [await peer(), await peer(), await peer()]
  const host = await hostOf()
  expect(await reaches(host, two.node.getMultiaddrs()[0]!)).toBe(false)
  await host.dial(one.address)
  expect(await reaches(host, two.node.getMultiaddrs()[0]!)).toBe(true)
  host.forget(one.address)
  expect(await reaches(host, three.node.getMultiaddrs()[0]!)).toBe(false)
})

test('a forgotten address is shown and dialled no more, and the link that there is stays', async () => {
  const { node, address } = await peer()
  const host = await hostOf({ joined: [address, '/dns4/other.example/tcp/1'] })
  const seen = seenBy(host)
  await expect.poll(() => seen.at(-1)?.peers.length).toBe(1)
  host.forget(address)
  expect(host.home.config.joined).toEqual(['/dns4/other.example/tcp/1'])
  await expect.poll(() => seen.at(-1)?.joined).toEqual(['/dns4/other.example/tcp/1'])
  expect(seen.at(-1)?.peers.map(({ peer: id }) => id)).toEqual([node.peerId.toString()])
  host.forget('/dns4/never.example/tcp/1')
  expect(host.home.config.joined).toEqual(['/dns4/other.example/tcp/1'])
})
