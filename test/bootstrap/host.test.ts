import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { tcp } from '@libp2p/tcp'
import { webRTCDirect } from '@libp2p/webrtc'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Bootstrap, type Health, startBootstrap } from '../../bootstrap/host.ts'
import { pathOf } from '../../protocol/ports/libp2p.ts'
import { nodes } from '../support/libp2p.ts'

const all = nodes()
let home: string
let bootstrap: Bootstrap | undefined
const told: string[] = []

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'mlstore-bootstrap-'))
  told.length = 0
})
afterEach(async () => {
  await all.stop()
  await bootstrap?.close()
  await rm(home, { recursive: true, force: true })
})

async function start(): Promise<Bootstrap> {
  bootstrap = await startBootstrap({
    home,
    host: '127.0.0.1',
    ports: { ws: 0, tcp: 0, udp: 0, http: 0 },
    announce: ['/dns4/boot.example.org/tcp/443/wss'],
    tell: (line) => told.push(line),
  })
  return bootstrap
}

test('peers reach it over TCP and webrtc-direct, and it reserves them a place on its relay', async () => {
  const { addresses, health, libp2p } = await start()
  const direct = addresses.find((address) => address.includes('/webrtc-direct/'))!
  const rtcConfiguration = { iceServers: [] }
  const visitor = await all.start({ listen: [], transports: [webRTCDirect({ rtcConfiguration })] })
  expect(pathOf(await visitor.dial(multiaddr(direct)))).toBe('webrtc-direct')

  const overTcp = addresses.find((address) => /\/tcp\/\d+\/p2p\//.test(address))!
  const hidden = await all.start({
    listen: [`${overTcp}/p2p-circuit`],
    transports: [tcp(), circuitRelayTransport()],
  })
  expect(hidden.getMultiaddrs().map(String)).toContain(
    `${overTcp}/p2p-circuit/p2p/${hidden.peerId}`,
  )
  const health_ = (await (await fetch(health)).json()) as Health
  expect(health_).toMatchObject({ peers: libp2p.getPeers().length, reservations: 1 })
})

test('it announces what it was told to, answers nothing but health, and speaks no gossip', async () => {
  const { addresses, health, libp2p } = await start()
  expect(addresses.some((address) => address.startsWith('/dns4/boot.example.org/'))).toBe(true)
  expect((await fetch(health.replace('healthz', 'admin'))).status).toBe(404)
  expect((await fetch(health, { method: 'POST' })).status).toBe(404)
  expect(libp2p.getProtocols().filter((name) => /meshsub|swap|params|bitswap/.test(name))).toEqual(
    [],
  )
})

test('listings that cannot be read are put aside and said so', async () => {
  await (await start()).close()
  await writeFile(join(home, 'listings.cbor'), 'not cbor')
  const { book } = await start()
  expect(book.counts().listings).toBe(0)
  expect(await readdir(home)).toContain('listings.cbor.broken')
  expect(told.join()).toContain('could not be read')
})

test('a key that is none is a Fault, and the home is free again', async () => {
  await writeFile(join(home, 'peer.key'), 'garbage')
  await expect(start()).rejects.toMatchObject({
    detail: { type: 'broken-home', kind: 'verification' },
  })
  await rm(join(home, 'peer.key'))
  await start()
})
