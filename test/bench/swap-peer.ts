import { randomFillSync } from 'node:crypto'
import type { Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { codecs } from '../../protocol/codec/table.ts'
import { forEachBlock, type TensorSpec } from '../../protocol/params.ts'
import { directConnectionTo, type Node } from '../../protocol/ports/libp2p.ts'
import {
  digestOf,
  joinNetwork,
  type Network,
  type NetworkEvent,
} from '../../protocol/ports/network.ts'
import {
  genesisOf,
  linkTo,
  type OpenOptions,
  openPeer,
  openRelay,
  type TransportName,
} from './link.ts'
import { serve } from './remote.ts'
import { tensorsFor } from './sizes.ts'

/** One of the two peers whose transfers the swap bench times, or the relay between them. */

/** From the first byte sent to the last that counts, on the machine's one clock; nanoseconds. */
export interface Span {
  startedAt: bigint
  endedAt: bigint
}

/** Copies both ways at once, through the shipped network or over a bare stream. */
export interface Exchange {
  way: 'ours' | 'bare'
  to: string
  nonce: string
  opens: boolean
}

const BARE_PROTOCOL = '/mlstore/bench/bare/1'
const PIECE_BYTES = 64 * 1024
/** Written and not yet taken by the transport, as measured best for a bare stream. */
const WRITE_AHEAD_BYTES = 1024 * 1024

let node: Node
let network: Network | undefined
let copy: Uint8Array<ArrayBuffer>
let digest: string
let hear: (event: NetworkEvent) => void = () => {}
let meet: (stream: Stream) => void = () => {}
let under: Promise<Span>

export const handlers = {
  relay: () => openRelay(),
  async open(options: OpenOptions): Promise<{ address: string; peer: string }> {
    const opened = await openPeer(options)
    node = opened.node
    await node.handle(BARE_PROTOCOL, (stream) => meet(stream))
    return { address: opened.address, peer: node.peerId.toString() }
  },
  link: ({ address, transport }: { address: string; transport: TransportName }) =>
    linkTo(node, address, transport),

  /** Joins the shipped network, with a copy of that many bytes to give. */
  async prepare({ megabytes }: { megabytes: number }): Promise<void> {
    await network?.leave()
    const tensors = tensorsFor(megabytes)
    copy = copyOf(tensors)
    digest = await digestOf(copy)
    network = await joinNetwork({
      libp2p: node,
      genesis: await genesisOf(`${megabytes} MB`),
      tensors,
      codec: 'int8',
      onEvent: (event) => hear(event),
      judge: async () => 'ignore',
    })
  },

  /** Makes ready for what comes next; `span` tells how it went. */
  async expect(exchange: Exchange): Promise<void> {
    under = exchange.way === 'ours' ? shipped(exchange) : bare(exchange)
    under.catch(() => {})
  },
  /** The same, and begins. */
  async begin(exchange: Exchange): Promise<Span> {
    under = exchange.way === 'ours' ? shipped(exchange) : bare(exchange)
    return under
  },
  span: () => under,
  /** What is left of an exchange; not timed. */
  async end({ nonce }: Exchange): Promise<void> {
    network!.close(nonce)
  },
}

serve(handlers)

/** A copy that nothing can compress and that passes the gate. */
function copyOf(tensors: readonly TensorSpec[]): Uint8Array<ArrayBuffer> {
  const bytes = randomFillSync(new Uint8Array(codecs.int8.sizeBytes(tensors)))
  const view = new DataView(bytes.buffer)
  forEachBlock(tensors, (start, _, index) => view.setFloat32(start + 4 * index, 0.01, true))
  return bytes
}

/** The shipped network: offer, accept, both copies at once, each through the gate of the other side. */
async function shipped({ to, nonce, opens }: Exchange): Promise<Span> {
  const startedAt = process.hrtime.bigint()
  const give = () => network!.send(to, { type: 'params', nonce, bytes: copy.length, digest }, copy)
  const whole = heard((event) => {
    if (event.type !== 'message') return
    if (event.message.type === 'offer') network!.send(to, { type: 'accept', nonce, steps: 0 })
    give()
  })
  if (opens) network!.send(to, { type: 'offer', nonce, codec: 'int8', steps: 0 })
  await whole
  return { startedAt, endedAt: process.hrtime.bigint() }
}

/** The yardstick: as many bytes both ways at once over one bare stream; the receiver only counts them. */
async function bare({ to, opens }: Exchange): Promise<Span> {
  const startedAt = process.hrtime.bigint()
  const stream = opens
    ? await openBare(to)
    : await new Promise<Stream>((resolve) => (meet = resolve))
  await Promise.all([received(stream, copy.length), sendBare(stream, copy)])
  const endedAt = process.hrtime.bigint()
  void stream.close().catch(() => {})
  return { startedAt, endedAt }
}

function openBare(to: string): Promise<Stream> {
  return directConnectionTo(node, peerIdFromString(to))!.newStream(BARE_PROTOCOL)
}

/** Resolves when the other side's copy is here. */
function heard(react: (event: NetworkEvent) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    hear = (event) => {
      if (event.type === 'broken') reject(new Error(`the swap broke: ${event.reason}`))
      if (event.type === 'copy') resolve()
      react(event)
    }
  })
}

async function sendBare(stream: Stream, bytes: Uint8Array): Promise<void> {
  let wake = () => {}
  for (const name of ['drain', 'idle', 'close'] as const)
    stream.addEventListener(name, () => wake())
  for (let from = 0; from < bytes.length; from += PIECE_BYTES) {
    stream.send(bytes.subarray(from, from + PIECE_BYTES))
    while (stream.writeBufferLength > WRITE_AHEAD_BYTES) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
}

/** A receiver that only counts. */
function received(stream: Stream, bytes: number): Promise<void> {
  let seen = 0
  return new Promise((resolve, reject) => {
    stream.addEventListener('message', ({ data }) => {
      seen += data.byteLength
      if (seen >= bytes) resolve()
    })
    stream.addEventListener('close', ({ error }) => {
      if (seen < bytes)
        reject(error ?? new Error(`the bare stream ended after ${seen} of ${bytes} bytes`))
    })
  })
}
