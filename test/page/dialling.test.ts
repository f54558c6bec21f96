import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, test } from 'vitest'
import { mayDial, mayDialLocal } from '../../browser/dialling.ts'

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
