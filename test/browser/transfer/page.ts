import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromString } from '@libp2p/peer-id'
import { webRTC } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { codecs } from '../../../protocol/codec/table.ts'
import { forEachBlock, type TensorSpec } from '../../../protocol/params.ts'
import {
  directConnectionTo,
  libp2pDefaults,
  type Node,
  pathOf,
  relayTransportLimits,
} from '../../../protocol/ports/libp2p.ts'
import {
  digestOf,
  joinNetwork,
  type Network,
  type NetworkEvent,
} from '../../../protocol/ports/network.ts'
import { windowBytes } from '../../../protocol/ports/transfer.ts'
import { tensorsFor } from '../../bench/sizes.ts'
import { openBare } from './bare.ts'

/** One of two tabs: a node as the page has it, on the shipped network, with copies to give. */
export interface Tab {
  /** Gives its addresses, by way of the relay. */
  open(relay: string): Promise<string[]>
  /** Its path to a peer that was dialled. */
  link(address: string): Promise<string>
  /** Joins a swarm of its own, with a copy of that many bytes to give. */
  prepare(megabytes: number, genesis: string): Promise<number>
  /** Both copies at once; gives when it began and when the other's copy was here and checked, milliseconds since 1970. */
  swap(to: string, nonce: string, opens: boolean): Promise<{ from: number; to: number }>
  /** Packets that this browser itself threw away. */
  discarded(): Promise<number>
}

const LINK_MS = 30_000
const connections: RTCPeerConnection[] = []
let node: Node
let network: Network | undefined
let copy: Uint8Array<ArrayBuffer>
let digest: string
/** Who hears of a swap, and what came before somebody did: the other tab may begin first. */
const hearers = new Map<string, (event: SwapEvent) => void>()
const early: SwapEvent[] = []
type SwapEvent = Extract<NetworkEvent, { type: 'message' | 'copy' | 'broken' }>

const tab: Tab = {
  async open(relay) {
    const rtcConfiguration = { iceServers: [] }
    const opened = await createLibp2p(
      libp2pDefaults({
        privateKey: await generateKeyPair('Ed25519'),
        transports: [
          webSockets(),
          webRTC({ rtcConfiguration }),
          circuitRelayTransport(relayTransportLimits),
        ],
        listen: [`${relay}/p2p-circuit`, '/webrtc'],
        relay: false,
        gossip: true,
        dialLocal: true,
      }),
    )
    node = opened as unknown as Node
    return new Promise((resolve) => {
      const look = () => {
        const found = node.getMultiaddrs().map(String)
        if (found.some((address) => address.includes('/webrtc'))) resolve(found)
      }
      node.addEventListener('self:peer:update', look)
      look()
    })
  },

  async link(address) {
    const target = multiaddr(address)
    const peer = peerIdFromString(
      target.getComponents().findLast(({ name }) => name === 'p2p')!.value!,
    )
    await node.dial(target, { signal: AbortSignal.timeout(LINK_MS) })
    const connection = directConnectionTo(node, peer)
    return connection ? pathOf(connection) : 'relay'
  },

  async prepare(megabytes, genesis) {
    await network?.leave()
    const tensors = tensorsFor(megabytes)
    copy = copyOf(tensors)
    digest = await digestOf(copy)
    network = await joinNetwork({
      ...{ libp2p: node, genesis, tensors, codec: 'int8' },
      onEvent(event) {
        if (event.type !== 'message' && event.type !== 'copy' && event.type !== 'broken') return
        const hear = hearers.get(nonceOf(event))
        if (hear) hear(event)
        else early.push(event)
      },
      judge: async () => 'ignore',
    })
    return copy.length
  },

  async swap(to, nonce, opens) {
    const from = performance.timeOrigin + performance.now()
    const give = () =>
      network!.send(to, { type: 'params', nonce, bytes: copy.length, digest }, copy)
    await new Promise<void>((resolve, reject) => {
      const hear = (event: SwapEvent) => {
        if (event.type === 'broken') return reject(new Error(`the swap broke: ${event.reason}`))
        if (event.type === 'copy') return resolve()
        if (event.message.type === 'offer') network!.send(to, { type: 'accept', nonce, steps: 0 })
        else if (event.message.type !== 'accept') return
        give()
      }
      hearers.set(nonce, hear)
      for (const event of early.splice(0)) if (nonceOf(event) === nonce) hear(event)
      if (opens) network!.send(to, { type: 'offer', nonce, codec: 'int8', steps: 0 })
    })
    return { from, to: performance.timeOrigin + performance.now() }
  },

  async discarded() {
    let sum = 0
    for (const connection of connections) {
      const stats = await connection.getStats()
      for (const [, { type, packetsDiscardedOnSend = 0 }] of stats)
        if (type === 'candidate-pair') sum += packetsDiscardedOnSend
    }
    return sum
  },
}

function nonceOf(event: SwapEvent): string {
  return event.type === 'message' ? event.message.nonce : event.nonce
}

/** A copy that nothing can compress and that passes the gate. */
function copyOf(tensors: readonly TensorSpec[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(codecs.int8.sizeBytes(tensors))
  for (let at = 0; at < bytes.length; at += 65_536)
    crypto.getRandomValues(bytes.subarray(at, at + 65_536))
  const view = new DataView(bytes.buffer)
  forEachBlock(tensors, (start, _, index) => view.setFloat32(start + 4 * index, 0.01, true))
  return bytes
}

/** Kept, so that they can be asked what they threw away. */
globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...options: ConstructorParameters<typeof RTCPeerConnection>) {
    super(...options)
    connections.push(this)
  }
}

Object.assign(globalThis, { tab, bare: openBare(windowBytes.webrtc) })
