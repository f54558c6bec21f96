import { createServer } from 'node:net'
import { webSockets } from '@libp2p/websockets'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, test } from 'vitest'
import { isOneOf, mayDial, mayDialLocal, whyNot } from '../../browser/dialling.ts'
import { nodes } from '../support/libp2p.ts'

const PEER = '12D3KooWBtp1AcgQVLSHzkQZ3MGmCDrtvCZ7pE9sQyZsGZzxWzTV'
const OTHER = '12D3KooWHFrmLWTTDD4NodngtRMEVYgxrsDMp4F9iSwYntZ9WjHa'
const abroad = { hostname: 'models.example.org' }

describe('private addresses that peers name', () => {
  test('are not dialled by a page from elsewhere', () => {
    expect(mayDialLocal(abroad, [])).toBe(false)
    expect(mayDialLocal(abroad, ['/ip4/8.8.4.4/tcp/443/wss'])).toBe(false)
  })

  test.each([
    '/ip4/192.168.1.7/tcp/4001/ws',
    '/ip4/127.0.0.1/tcp/4001/ws',
    '/ip6/fd00::1/tcp/1/ws',
  ])('are where the person gave %s', (given) => {
    expect(mayDialLocal(abroad, ['/ip4/8.8.4.4/tcp/443/wss', given])).toBe(true)
  })

  test.each(['localhost', 'page.localhost', '127.0.0.1', '192.168.1.7', '10.0.0.1', '[::1]'])(
    'are where the page comes from %s',
    (hostname) => {
      expect(mayDialLocal({ hostname }, [])).toBe(true)
    },
  )

  test.each(['8.8.8.8', '[2606:4700::1]', 'localhost.example.org', '10.0.0.1.example.org'])(
    'are not where it comes from %s',
    (hostname) => {
      expect(mayDialLocal({ hostname }, [])).toBe(false)
    },
  )
})

describe('a page over https', () => {
  const secure = { protocol: 'https:' }

  test.each([
    `/ip4/8.8.4.4/tcp/4001/ws/p2p/${PEER}`,
    `/dns4/peer.example.org/tcp/80/ws/p2p/${PEER}`,
  ])('opens no socket without a certificate: %s', (address) => {
    expect(mayDial(secure, multiaddr(address))).toBe(false)
    expect(mayDial({ protocol: 'http:' }, multiaddr(address))).toBe(true)
  })

  test.each([
    ['a certificate', `/dns4/peer.example.org/tcp/443/tls/ws/p2p/${PEER}`],
    ['a certificate, said shortly', `/dns4/peer.example.org/tcp/443/wss/p2p/${PEER}`],
    ['WebRTC without a relay', `/ip4/8.8.4.4/udp/4001/webrtc-direct/p2p/${PEER}`],
    ['this machine', `/ip4/127.0.0.1/tcp/4001/ws/p2p/${PEER}`],
    [
      'who is introduced by a peer that has none',
      `/ip4/8.8.4.4/tcp/4001/ws/p2p/${PEER}/p2p-circuit/webrtc/p2p/${OTHER}`,
    ],
  ])('dials %s', (_, address) => {
    expect(mayDial(secure, multiaddr(address))).toBe(true)
  })
})

const all = nodes()
afterEach(all.stop)
const ws = '/ip4/127.0.0.1/tcp/0/ws'

describe('an address that a link names', () => {
  test('is dialled wherever it leads, and opens no door to others', async () => {
    const [linked, other] = [await all.start({ listen: [ws] }), await all.start({ listen: [ws] })]
    const link = linked.getMultiaddrs()
    const page = await all.start({
      listen: [],
      dialLocal: (address) => mayDialLocal(abroad, []) || isOneOf(address, link),
    })
    await page.dial(link)
    expect(page.getPeers().map(String)).toEqual([linked.peerId.toString()])
    await expect(page.dial(other.getMultiaddrs())).rejects.toThrow(/gater/)
  })

  test('may be met through the relay that it names, which is dialled first', () => {
    const relay = `/ip4/192.168.1.7/tcp/4001/ws/p2p/${PEER}`
    const link = [multiaddr(`${relay}/p2p-circuit/webrtc/p2p/${OTHER}`)]
    expect(isOneOf(multiaddr(relay), link)).toBe(true)
    expect(isOneOf(multiaddr('/ip4/192.168.1.7/tcp/4001/ws'), link)).toBe(true)
    expect(isOneOf(link[0]!, link)).toBe(true)
    expect(isOneOf(multiaddr(`/ip4/192.168.1.8/tcp/4001/ws/p2p/${PEER}`), link)).toBe(false)
    expect(isOneOf(multiaddr('/ip4/192.168.1.7/tcp/22/ws'), link)).toBe(false)
  })
})

describe('an address that does not answer says why', () => {
  const page = { protocol: 'http:' }

  /** What a browser's transports say of a dial. */
  async function faultOf(address: string | Multiaddr, limitMs = 5_000, dialLocal = true) {
    const node = await all.start({ listen: [], transports: [webSockets()], dialLocal })
    const dialled = multiaddr(address)
    const dial = node.dial(dialled, { signal: AbortSignal.timeout(limitMs) })
    const error = await dial.then(
      () => undefined,
      (error: unknown) => error,
    )
    return whyNot(dialled, error, { page, limitMs }).detail
  }

  test('another peer is there', async () => {
    const server = await all.start({ listen: [ws] })
    const [address] = server.getMultiaddrs()
    const fault = await faultOf(address!.toString().replace(/[^/]+$/, PEER))
    expect(fault).toMatchObject({ kind: 'network', type: 'wrong-peer' })
    expect(fault.message).toContain(`another peer, ${server.peerId}`)
  })

  test('the door is closed, which is known at once', async () => {
    const fault = await faultOf(`/ip4/127.0.0.1/tcp/1/ws/p2p/${PEER}`)
    expect(fault.type).toBe('refused')
    expect(fault.message).not.toContain(' s')
  })

  test('it says nothing for as long as we wait', async () => {
    const silent = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => silent.once('listening', resolve))
    const { port } = silent.address() as { port: number }
    const fault = await faultOf(`/ip4/127.0.0.1/tcp/${port}/ws/p2p/${PEER}`, 200)
    silent.close()
    expect(fault.type).toBe('unreachable')
  })

  test.each([
    ['no browser dials TCP', 'no-transport', `/ip4/127.0.0.1/tcp/1/p2p/${PEER}`, true],
    ['its peer was refused', 'refused-peer', `/ip4/127.0.0.1/tcp/1/ws/p2p/${PEER}`, false],
  ])('%s', async (_, type, address, dialLocal) => {
    expect(await faultOf(address, 5_000, dialLocal)).toMatchObject({ type })
  })

  test('a page over https opens no plain socket', () => {
    const address = multiaddr(`/ip4/8.8.4.4/tcp/4001/ws/p2p/${PEER}`)
    const over = { page: { protocol: 'https:' }, limitMs: 15_000 }
    expect(whyNot(address, new Error('denied'), over).detail).toMatchObject({
      ...{ kind: 'usage', type: 'insecure-address' },
      hint: expect.stringContaining('webrtc-direct'),
    })
  })
})
