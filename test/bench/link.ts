import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import type { PrivateKey } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { webRTC } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import {
  directConnectionTo,
  libp2pDefaults,
  type Node,
  pathOf,
  relayTransportLimits,
} from '../../protocol/ports/libp2p.ts'
import { newKey } from '../support/libp2p.ts'

/** Nodes in processes of their own with one connection between them, over a transport that was chosen. */
export type TransportName = 'tcp' | 'ws' | 'webrtc'

export interface OpenOptions {
  transport: TransportName
  /** Carries the signalling of WebRTC, and nothing else. */
  relay: string
}

const addressesOf = {
  tcp: () => ['/ip4/127.0.0.1/tcp/0'],
  ws: () => ['/ip4/127.0.0.1/tcp/0/ws'],
  webrtc: (relay: string) => [`${relay}/p2p-circuit`, '/webrtc'],
}
/** A reservation at the relay, or the way from relayed to direct. */
const LINK_MS = 20_000

/** A node with the shipped settings that only relays; gives its address. */
export async function openRelay(): Promise<string> {
  const relay = await openNode(addressesOf.tcp(), await newKey(), true)
  return relay.getMultiaddrs()[0]!.toString()
}

/** A node with the shipped settings that listens on one transport alone, and its address. */
export async function openPeer({ transport, relay }: OpenOptions) {
  const key = await newKey()
  const node = await openNode(addressesOf[transport](relay), key, false)
  const address = () =>
    node
      .getMultiaddrs()
      .map(String)
      .find((text) => transport !== 'webrtc' || text.includes('/webrtc/'))
  await until(node, 'self:peer:update', () => address() !== undefined)
  return { node, key, address: address()! }
}

/** Connects; content with nothing but the transport that was asked for. Gives the other's peer id. */
export async function linkTo(
  node: Node,
  address: string,
  transport: TransportName,
): Promise<string> {
  const { remotePeer } = await node.dial(multiaddr(address))
  await until(node, 'connection:open', () => directConnectionTo(node, remotePeer) !== undefined)
  const path = pathOf(directConnectionTo(node, remotePeer)!)
  if (path !== transport) throw new Error(`got a connection over ${path}, expected ${transport}`)
  return remotePeer.toString()
}

/** The name of a swarm that exists only here. */
export async function genesisOf(name: string): Promise<string> {
  return CID.createV1(raw.code, await sha256.digest(new TextEncoder().encode(name))).toString()
}

/** Looks again at each event of that name. */
export async function until(
  target: Pick<Node, 'addEventListener' | 'removeEventListener'>,
  name: 'self:peer:update' | 'connection:open',
  isDone: () => boolean,
): Promise<void> {
  const signal = AbortSignal.timeout(LINK_MS)
  while (!isDone()) {
    await new Promise<void>((resolve, reject) => {
      target.addEventListener(name, () => resolve(), { once: true, signal })
      signal.addEventListener('abort', () => reject(new Error(`no ${name} within ${LINK_MS} ms`)))
    })
  }
}

async function openNode(listen: string[], privateKey: PrivateKey, relay: boolean): Promise<Node> {
  const rtcConfiguration = { iceServers: [] }
  const transports = [
    tcp(),
    webSockets(),
    webRTC({ rtcConfiguration }),
    circuitRelayTransport(relayTransportLimits),
  ]
  const options = libp2pDefaults({
    privateKey,
    transports,
    listen,
    relay,
    gossip: !relay,
    dialLocal: true,
  })
  return (await createLibp2p(options)) as Node
}
