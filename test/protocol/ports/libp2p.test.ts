import { createServer } from 'node:net'
import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, expect, test } from 'vitest'
import {
  directConnectionTo,
  isLocal,
  type Node,
  parseAddress,
  pathOf,
  requireListening,
} from '../../../protocol/ports/libp2p.ts'
import { anyPort, newKey, nodes, once } from '../../support/libp2p.ts'

const all = nodes()
afterEach(all.stop)

test('sixteen peers on one address still hear each other', async () => {
  const peers = await Promise.all(Array.from({ length: 16 }, () => all.start({ gossip: true })))
  const [hub, ...others] = peers as [Node, ...Node[]]
  const topic = '/mlstore/1/test'
  const subscribed = Promise.all(others.map((peer) => sees(peer, hub, topic)))
  const everyone = Promise.all(others.map((peer) => sees(hub, peer, topic)))
  for (const peer of peers) peer.services.pubsub.subscribe(topic)
  await Promise.all(others.map((peer) => peer.dial(hub.getMultiaddrs())))
  await Promise.all([subscribed, everyone])

  const heard = new Set<string>()
  const hubHeardAll = once(
    hub.services.pubsub,
    'message',
    (message: { from: { toString(): string } }) => {
      return heard.add(message.from.toString()).size === others.length
    },
  )
  await Promise.all(others.map((peer) => peer.services.pubsub.publish(topic, new Uint8Array(100))))
  await hubHeardAll
})

test('thirty dials at once from one address all connect', async () => {
  const server = await all.start()
  const dialers = await Promise.all(Array.from({ length: 30 }, () => all.start({ listen: [] })))
  await Promise.all(dialers.map((dialer) => dialer.dial(server.getMultiaddrs())))
  await Promise.all(dialers.map((dialer) => dialer.services.ping.ping(server.peerId)))
  expect(server.getPeers()).toHaveLength(30)
})

test('a configured relay that is dead does not keep a peer from starting', async () => {
  const deadRelay = `/ip4/127.0.0.1/tcp/1/ws/p2p/${(await newKey()).publicKey}/p2p-circuit`
  const peer = await all.start({ listen: [anyPort, deadRelay] })
  expect(peer.getMultiaddrs()).toHaveLength(1)
  requireListening(peer, [anyPort, deadRelay])
})

test('a port that another program has is a Fault that names it', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => other.once('listening', resolve))
  const taken = `/ip4/127.0.0.1/tcp/${(other.address() as { port: number }).port}`
  try {
    const peer = await all.start({ listen: [taken, anyPort], announce: [taken] })
    expect(() => requireListening(peer, [taken], [taken])).toThrow(`cannot listen on ${taken}`)
    requireListening(peer, [anyPort])
  } finally {
    other.close()
  }
})

test('a relayed connection carries what agrees to it and refuses the rest', async () => {
  const relay = await all.start({ relay: true })
  const [relayAddress] = relay.getMultiaddrs()
  const hidden = await all.start({ listen: [`${relayAddress}/p2p-circuit`] })
  const reachable = hidden
    .getMultiaddrs()
    .find((address) => address.toString().includes('p2p-circuit'))
  const peer = await all.start({ listen: [] })
  await hidden.handle('/test/params/1', () => {})
  await hidden.handle('/test/listing/1', (stream) => stream.close(), {
    runOnLimitedConnection: true,
  })

  const connection = await peer.dial(reachable!)
  expect(pathOf(connection)).toBe('relay')
  expect(directConnectionTo(peer, hidden.peerId)).toBeUndefined()
  await expect(connection.newStream('/test/params/1')).rejects.toThrow('limited connection')
  await connection.newStream('/test/listing/1', { runOnLimitedConnection: true })
  expect(relay.services.relay.reservations.size).toBe(1)
})

test('a direct connection is preferred and named by its transport', async () => {
  const server = await all.start({ listen: [anyPort, `${anyPort}/ws`] })
  const peer = await all.start({ listen: [] })
  const [tcp, ws] = ['tcp', 'ws'].map((kind) =>
    server
      .getMultiaddrs()
      .find((address) => address.toString().includes('/ws') === (kind === 'ws')),
  )
  const overWebSocket = await peer.dial(ws!, { force: true })
  expect(pathOf(overWebSocket)).toBe('ws')
  const overTcp = await peer.dial(tcp!, { force: true })
  expect(pathOf(overTcp)).toBe('tcp')
  expect(directConnectionTo(peer, server.peerId)).toBe(overTcp)
})

test('a stranger cannot make us dial into our own network', async () => {
  const server = await all.start()
  const careful = await all.start({ dialLocal: false })
  await expect(careful.dial(server.getMultiaddrs())).rejects.toThrow('denied all addresses')
  await server.dial(careful.getMultiaddrs())
  await careful.peerStore.merge(server.peerId, { multiaddrs: server.getMultiaddrs() })
  expect((await careful.peerStore.get(server.peerId)).addresses).toEqual([])
})

test('what the platform does not let us dial is not tried', async () => {
  const server = await all.start({ listen: [anyPort, `${anyPort}/ws`] })
  const peer = await all.start({ mayDial: (address) => !address.toString().includes('/ws') })
  const addresses = server.getMultiaddrs()
  const ws = addresses.find((address) => address.toString().includes('/ws'))
  const tcp = addresses.find((address) => address !== ws)
  await expect(peer.dial(ws!)).rejects.toThrow('denied all addresses')
  expect(pathOf(await peer.dial(tcp!))).toBe('tcp')
})

test('a reader that pauses loses nothing and is not reset', async () => {
  const server = await all.start()
  const peer = await all.start({ listen: [] })
  const sizeBytes = 32 * 1024 * 1024
  const received = new Promise<number>((resolve, reject) => {
    void server.handle('/test/slow/1', (stream: Stream) => {
      let count = 0
      let hasPaused = false
      stream.addEventListener('message', ({ data }) => {
        count += data.byteLength
        if (count === sizeBytes) resolve(count)
        // The window has had time to grow; it may not outgrow the read buffer.
        if (hasPaused || count < sizeBytes / 2) return
        hasPaused = true
        stream.pause()
        // A round trip behind everything that may still be under way.
        server.services.ping.ping(peer.peerId).then(() => stream.resume(), reject)
      })
      stream.addEventListener('close', ({ error }) => error && reject(error))
    })
  })
  const stream = await peer.dialProtocol(server.getMultiaddrs(), '/test/slow/1')
  for (let sent = 0; sent < sizeBytes; sent += 65_536) stream.send(new Uint8Array(65_536))
  expect(await received).toBe(sizeBytes)
})

test('a wrong address is told what is wrong with it', () => {
  expect(parseAddress(' /ip4/127.0.0.1/tcp/4001 ').toString()).toBe('/ip4/127.0.0.1/tcp/4001')
  for (const [typed, reason] of [
    ['localhost:4001', 'starts with /'],
    ['/ip4/127.0.0.1/tcp', 'no multiaddr'],
    ['/ip4/300.0.0.1/tcp/1', 'no multiaddr'],
    ['/ip4/127.0.0.1', 'no way to connect'],
    ['/ip4/127.0.0.1/udp/4001', 'no way to connect'],
    ['', 'starts with /'],
  ] as const) {
    expect(() => parseAddress(typed), typed).toThrow(reason)
  }
})

test('private, loopback and link-local addresses are local', () => {
  for (const local of [
    '/ip4/127.0.0.1/tcp/1',
    '/ip4/10.1.2.3/tcp/1',
    '/ip6/::1/tcp/1',
    '/dns4/localhost/tcp/1/ws',
  ]) {
    expect(isLocal(local), local).toBe(true)
  }
  expect(isLocal(multiaddr('/ip4/8.8.8.8/tcp/1'))).toBe(false)
  expect(isLocal('/dns4/example.org/tcp/443/wss')).toBe(false)
})

/** Resolves when `node` knows that `other` subscribed to the topic. */
async function sees(node: Node, other: Node, topic: string): Promise<void> {
  const knows = () =>
    node.services.pubsub.getSubscribers(topic).some((peer) => peer.equals(other.peerId))
  if (knows()) return
  await once(node.services.pubsub, 'subscription-change', knows)
}
