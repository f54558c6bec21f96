import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Connection } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { webRTC, webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { cleanup } from 'node-datachannel'
import { readCard } from '../protocol/message.ts'
import {
  libp2pDefaults,
  type Node,
  parseAddress,
  pathOf,
  relayTransportLimits,
} from '../protocol/ports/libp2p.ts'
import { LISTING_PROTOCOL, registryClient } from '../protocol/ports/registry.ts'
import { type Check, checked } from './checks.ts'

/** What `mlstore doctor` asks of each --join address: does it answer, list, relay, and speak WebRTC. */

/** Each of these questions. */
const ANSWER_LIMIT_MS = 10_000

type Answer = Omit<Check, 'check'>

/** The checks of one address, by a peer of their own with a key for this once. */
export async function reachChecks(typed: string, signal: AbortSignal): Promise<Check[]> {
  const address = parseAddress(typed)
  const limit = () => AbortSignal.any([signal, AbortSignal.timeout(ANSWER_LIMIT_MS)])
  const node = await startVisitor([])
  const introduced = introduction(node)
  try {
    const dialled = await checked('dial', () => dials(node, address, limit()))
    const [connection] = node.getConnections()
    if (!connection) return [about(typed, dialled)]
    const protocols = await introduced(limit())
    const rest = [
      await checked('ping', () => pings(node, connection, limit())),
      await checked('listing', () => lists(node, protocols, limit())),
      await checked('relay', () => relays(connection)),
      await checked('webrtc-direct', () => speaksWebRtc(node, connection, limit())),
    ]
    return [dialled, ...rest].map((check) => about(typed, check))
  } finally {
    await node.stop()
    cleanup()
  }
}

async function startVisitor(listen: string[]): Promise<Node> {
  const rtcConfiguration = { iceServers: [] }
  const options = libp2pDefaults({
    privateKey: await generateKeyPair('Ed25519'),
    transports: [
      tcp(),
      webSockets(),
      webRTCDirect({ rtcConfiguration }),
      webRTC({ rtcConfiguration }),
      circuitRelayTransport(relayTransportLimits),
    ],
    listen,
    relay: false,
    gossip: false,
    // The user typed the address, or the peer at it gave it: nothing else is dialled here.
    dialLocal: true,
  })
  return (await createLibp2p(options)) as Node
}

async function dials(node: Node, address: Multiaddr, signal: AbortSignal): Promise<Answer> {
  const startedAt = performance.now()
  try {
    const connection = await node.dial(address, { signal })
    return {
      state: 'ok',
      text: `${pathOf(connection)} in ${elapsed(startedAt)}, peer ${connection.remotePeer}`,
    }
  } catch (thrown) {
    const text = `no answer: ${(thrown as Error).message.replace(/\s+/g, ' ')}`
    const fix =
      'check that it runs, that this is one of the addresses it printed, and that no firewall stands between'
    return { state: 'fail', kind: 'network', text, fix }
  }
}

async function pings(node: Node, { remotePeer }: Connection, signal: AbortSignal): Promise<Answer> {
  return { state: 'ok', text: `${await node.services.ping.ping(remotePeer, { signal })} ms` }
}

/** The protocols that the next peer names of itself; none when it does not in time. */
function introduction(node: Node): (signal: AbortSignal) => Promise<string[]> {
  const told = new Promise<string[]>((resolve) => {
    node.addEventListener('peer:identify', ({ detail }) => resolve(detail.protocols), {
      once: true,
    })
  })
  return (signal) => {
    const late = new Promise<string[]>((resolve) => {
      signal.addEventListener('abort', () => resolve([]), { once: true })
    })
    return Promise.race([told, late])
  }
}

async function lists(node: Node, protocols: string[], signal: AbortSignal): Promise<Answer> {
  if (!protocols.includes(LISTING_PROTOCOL)) return noRegistry
  const client = await registryClient(node, { readCard })
  try {
    await client.waitForRegistry(signal)
    const { total, lies } = await client.list({ limit: 1 }, { signal })
    if (lies.length === 0) return { state: 'ok', text: `${total} models` }
    const fix =
      'use another bootstrap beside it: what it says is checked, but it may leave things out'
    return { state: 'warn', text: `it sent a wrong listing: ${lies[0]!.message}`, fix }
  } catch {
    return noRegistry
  } finally {
    client.close()
  }
}

const noRegistry: Answer = {
  state: 'fail',
  kind: 'network',
  text: 'it does not answer the listing protocol',
  fix: 'join through a bootstrap or a Node peer of this version; the names of models come from them',
}

/** Asks for a place on its relay, as a peer behind a router would. */
async function relays({ remoteAddr, remotePeer }: Connection): Promise<Answer> {
  const place = remoteAddr.toString().replace(/\/p2p\/[^/]+$/, '')
  const hidden = await startVisitor([`${place}/p2p/${remotePeer}/p2p-circuit`])
  try {
    const hasPlace = hidden
      .getMultiaddrs()
      .some((address) => address.toString().includes('/p2p-circuit'))
    if (hasPlace)
      return { state: 'ok', text: 'it relays signalling for browsers and peers behind routers' }
    const fix =
      'peers that can be dialled do not need it; others should join through another bootstrap too'
    return { state: 'warn', text: 'it gave no place on its relay', fix }
  } finally {
    await hidden.stop()
  }
}

async function speaksWebRtc(
  node: Node,
  { remotePeer }: Connection,
  signal: AbortSignal,
): Promise<Answer> {
  const { addresses } = await node.peerStore.get(remotePeer)
  const offered = addresses
    .map(({ multiaddr }) => multiaddr)
    .filter((multiaddr) => multiaddr.toString().includes('/webrtc-direct/'))
  const fix = 'browsers on https pages need it: open its UDP port, or use --udp'
  if (offered.length === 0)
    return { state: 'warn', text: 'it offers no webrtc-direct address', fix }
  const startedAt = performance.now()
  for (const address of offered) {
    const full = address.toString().includes('/p2p/')
      ? address
      : address.encapsulate(`/p2p/${remotePeer}`)
    const reached = await node.dial(full, { signal, force: true }).catch(() => undefined)
    if (reached) return { state: 'ok', text: `in ${elapsed(startedAt)}` }
  }
  return { state: 'warn', text: `none of ${offered.length} webrtc-direct addresses answered`, fix }
}

function about(address: string, check: Check): Check {
  return { ...check, address }
}

function elapsed(startedAt: number): string {
  return `${Math.round(performance.now() - startedAt)} ms`
}
