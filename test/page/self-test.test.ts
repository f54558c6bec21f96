import { readFile } from 'node:fs/promises'
import { MemoryDatastore } from 'datastore-core'
import { RTCPeerConnection } from 'node-datachannel/polyfill'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { selfTest, type Tested } from '../../browser/self-test.ts'
import type { Check } from '../../browser/services.ts'
import { text } from '../../browser/text.ts'
import { type Card, readCard } from '../../protocol/message.ts'
import {
  createListingBook,
  LISTING_PROTOCOL,
  registryClient,
  serveRegistry,
} from '../../protocol/ports/registry.ts'
import { nodes } from '../support/libp2p.ts'

/** The page's self-test among real peers in this process; what it does in a browser is in test/browser/. */
const all = nodes()
const LIMIT_MS = 500
/** For what is to go well, on a machine that is busy. */
const PATIENCE_MS = 10_000
beforeEach(() => {
  // The engine's binary comes from where the page came from: here, a file.
  vi.stubGlobal('fetch', async (address: URL) => new Response(await readFile(address)))
})
afterEach(async () => {
  await all.stop()
  vi.unstubAllGlobals()
})

async function testedOf(isKept = true) {
  const libp2p = await all.start()
  const registry = await registryClient(libp2p, { readCard })
  const home = { datastore: new MemoryDatastore(), isKept }
  const host: Tested = { libp2p, registry, home, addresses: () => [], hasRoom: () => true }
  return { host, libp2p }
}

/** All that was told, and the last of each check. */
async function resultsOf(host: Tested, limitMs = LIMIT_MS) {
  const told: (readonly Check[])[] = []
  await selfTest(host, (checks) => told.push(checks), limitMs)
  const of = (check: Check['check']) => told.at(-1)!.filter((one) => one.check === check)
  return { told, of }
}

test('every peer that lists is asked for a list and every linked one answers, each with its time', async () => {
  const { host, libp2p } = await testedOf()
  const [lists, only] = [await all.start(), await all.start()]
  await serveRegistry(lists, createListingBook<Card>({ readCard }))
  for (const node of [lists, only]) await libp2p.dial(node.getMultiaddrs())
  await expect.poll(() => host.registry.registries().length).toBe(1)
  const { told, of } = await resultsOf(host)
  expect(of('listing')).toMatchObject([
    { peer: lists.peerId.toString(), state: 'ok', count: 0, ms: expect.any(Number) },
  ])
  expect(new Set(of('ping').map(({ peer }) => peer))).toEqual(
    new Set([lists, only].map(({ peerId }) => peerId.toString())),
  )
  expect(of('ping').every(({ state }) => state === 'ok')).toBe(true)
  expect(told[0]!.every(({ state }) => state === 'running')).toBe(true)
  expect(told).toHaveLength(1 + told[0]!.length)
})

test('one that says nothing is waited for no longer than the limit, and named with a next step', async () => {
  const { host, libp2p } = await testedOf()
  const silent = await all.start()
  await silent.handle(LISTING_PROTOCOL, () => {})
  await libp2p.dial(silent.getMultiaddrs())
  await expect.poll(() => host.registry.registries().length).toBe(1)
  const { of } = await resultsOf(host)
  const { listing } = text.selfTest.failed
  expect(of('listing')).toMatchObject([
    { state: 'failed', fault: listing(text.selfTest.late(LIMIT_MS / 1_000)) },
  ])
  expect(of('listing')[0]!.ms).toBeGreaterThanOrEqual(LIMIT_MS - 5)
})

test('with nobody linked, no WebRTC and nothing kept, each says so and what to do', async () => {
  const { of } = await resultsOf((await testedOf(false)).host)
  const { nobody, noPlace, noWebRTC, nothingKept } = text.selfTest
  for (const [check, fault] of [
    ['listing', nobody.listing],
    ['ping', nobody.ping],
    ['relay', noPlace],
    ['webrtc', noWebRTC],
    ['home', nothingKept],
  ] as const)
    expect(of(check)).toMatchObject([{ state: 'failed', fault }])
  expect(of('backend')).toMatchObject([{ state: 'ok' }])
})

test('a page with no room for a visitor asks none in, and says so', async () => {
  const { host } = await testedOf()
  host.addresses = () => ['/ip4/127.0.0.1/tcp/1/ws/p2p-circuit/webrtc']
  host.hasRoom = () => false
  const { of } = await resultsOf(host)
  expect(of('relay')).toMatchObject([{ state: 'failed', fault: text.selfTest.full }])
})

test('what is written is read and deleted, and a store that gives other bytes is found out', async () => {
  const { host } = await testedOf()
  const { datastore } = host.home
  expect((await resultsOf(host)).of('home')).toMatchObject([{ state: 'ok' }])
  expect(await Array.fromAsync(datastore.query({}))).toEqual([])
  datastore.get = () => new Uint8Array(16)
  expect((await resultsOf(host)).of('home')).toMatchObject([
    { state: 'failed', fault: { type: 'home-failed' } },
  ])
})

test('two connections of this page hear each other, and one that never opens is given up', async () => {
  const { host } = await testedOf()
  vi.stubGlobal('RTCPeerConnection', RTCPeerConnection)
  const { of } = await resultsOf(host, PATIENCE_MS)
  expect(of('webrtc')).toMatchObject([{ state: 'ok' }])
  vi.stubGlobal(
    'RTCPeerConnection',
    class extends RTCPeerConnection {
      override async addIceCandidate() {}
      override async setRemoteDescription() {}
    },
  )
  expect((await resultsOf(host)).of('webrtc')).toMatchObject([
    { state: 'failed', fault: { type: 'webrtc-failed' } },
  ])
})
