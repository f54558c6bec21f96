import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Stream } from '@libp2p/interface'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Host } from '../../node/host.ts'
import { FRAME_HEADER_BYTES, frameKinds } from '../../protocol/message.ts'
import type { Node } from '../../protocol/ports/libp2p.ts'
import { PARAMS_PROTOCOL, SWAP_PROTOCOL, topicOf } from '../../protocol/ports/network.ts'
import { anyPort, nodes } from '../support/libp2p.ts'
import { PARAMS } from './drift.ts'
import { type DriftingHost, startDrifting } from './drifting.ts'

/**
 * Garbage, truncation and excess on every protocol that a Node peer answers. It strikes who sent it and goes on: its
 * neighbour swaps with it, asks it for listings and gets its blocks, after each of them; and what both hold together is
 * what they began with, to the last swap.
 */
const LIMIT_MS = 60_000
/** What float32 sums of 100,000 params lose over a run. */
const ROUNDING = 100
/** From the end of a swap to its half of the difference in the params, on a busy machine. */
const SETTLE_MS = 10_000
const genesis = 'bafygarbage'
const strangers = nodes()
let dir: string
let victim: DriftingHost
let neighbour: DriftingHost

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-garbage-'))
  victim = await startPeer('victim', 2, [])
  neighbour = await startPeer('neighbour', -1, [addressOf(victim.host)])
  await victim.nextSwap()
}, LIMIT_MS)
afterAll(async () => {
  await Promise.all([victim, neighbour].map(({ swarm }) => swarm.leave('done')))
  await strangers.stop()
  await neighbour.host.close()
  await victim.host.close()
  await rm(dir, { recursive: true, force: true, maxRetries: 5 })
})

/** While both are paused, nothing is under way once it is no longer; a learner settles soon after. */
afterEach(async () => {
  const both = [victim, neighbour]
  for (const { swarm } of both) swarm.pause()
  const isBusy = () => both.some(({ swarm: { view } }) => view.isSwapping || view.inDoubt > 0)
  await expect.poll(isBusy, { timeout: LIMIT_MS }).toBe(false)
  // 2 - 1 a param when they began.
  const lost = () => Math.abs(both.reduce((total, { ledger }) => total + ledger(), 0) - PARAMS)
  await expect.poll(lost, { timeout: SETTLE_MS }).toBeLessThan(ROUNDING)
  for (const { swarm } of both) swarm.resume()
}, LIMIT_MS)

const addressOf = ({ libp2p }: Host) => libp2p.getMultiaddrs()[0]!.toString()

function startPeer(name: string, start: number, addresses: string[]): Promise<DriftingHost> {
  return startDrifting({
    ...{ genesis, start, join: addresses },
    dir: join(dir, name),
    listen: [anyPort],
  })
}

/** Bytes that begin as the protocol's own do: frames of ours, else what libp2p's protocols put before a message. */
function beginning(protocol: string, claimed: number): Uint8Array {
  const isFramed = protocol === SWAP_PROTOCOL || protocol === PARAMS_PROTOCOL
  if (!isFramed) return varint(claimed)
  const header = Buffer.alloc(FRAME_HEADER_BYTES)
  header.writeUInt32BE(Math.min(claimed, 0xffffff))
  header[0] = frameKinds.message
  return header
}

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest])
    bytes.push((rest % 128) | 128)
  }
}

const attacks: Record<string, (protocol: string) => Uint8Array[]> = {
  garbage: () => [randomBytes(4096)],
  truncation: (protocol) => [beginning(protocol, 200), randomBytes(10)],
  excess: (protocol) => [beginning(protocol, 2 ** 31), ...Array(32).fill(randomBytes(65_536))],
}

async function attack(stranger: Node, protocol: string, chunks: Uint8Array[]): Promise<void> {
  const [connection] = stranger.getConnections(victim.host.libp2p.peerId)
  // Who was cut off for its first attack dials again.
  if (connection?.status !== 'open') await stranger.dial(victim.host.libp2p.getMultiaddrs())
  const [open] = stranger.getConnections(victim.host.libp2p.peerId)
  // libp2p's own use of a protocol may be under way, and allows itself one stream.
  const stream = await open!.newStream(protocol, { maxOutboundStreams: 8 })
  try {
    for (const chunk of chunks) stream.send(chunk)
    await stream.close({ signal: AbortSignal.timeout(500) })
  } catch (error) {
    stream.abort(error as Error)
  }
  await closed(stream)
}

function closed(stream: Stream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  stream.addEventListener('close', () => resolve())
  if (stream.status !== 'open') resolve()
  AbortSignal.timeout(200).addEventListener('abort', () => {
    stream.abort(new Error('enough'))
    resolve()
  })
  return promise
}

/** What a peer is for. */
async function answersOthers(): Promise<void> {
  const { host } = neighbour
  const id = victim.host.libp2p.peerId.toString()
  const bytes = Uint8Array.from(randomBytes(64))
  const block = CID.createV1(raw.code, await sha256.digest(bytes))
  await victim.host.helia.blockstore.put(block, bytes)
  const [swap, listed, fetched] = await Promise.all([
    victim.nextSwap(),
    host.registry.list({}),
    host.store.fetchFile(block.toString(), { maxBytes: bytes.length }),
  ])
  expect(swap.with).toBe(host.libp2p.peerId.toString())
  expect(listed.answered).toContain(id)
  expect(fetched).toEqual(bytes)
}

const spoken = [
  '/ipfs/bitswap/1.2.0',
  '/ipfs/id/1.0.0',
  '/ipfs/id/push/1.0.0',
  '/ipfs/ping/1.0.0',
  '/libp2p/circuit/relay/0.2.0/hop',
  '/libp2p/circuit/relay/0.2.0/stop',
  '/meshsub/1.2.0',
  '/mlstore/listing/1',
  '/mlstore/params/2',
  '/mlstore/swap/1',
  '/webrtc-signaling/0.0.1',
]

test('these are the protocols a peer answers, and older versions of them', () => {
  const missing = victim.host.libp2p.getProtocols().filter((id) => !spoken.includes(id))
  expect(missing.filter((id) => !/^\/(ipfs\/bitswap|meshsub|floodsub)\//.test(id))).toEqual([])
})

test.each(spoken)(
  'garbage, truncation and excess on %s',
  async (protocol) => {
    const stranger = await strangers.start({ listen: [] })
    await stranger.dial(victim.host.libp2p.getMultiaddrs())
    for (const make of Object.values(attacks)) await attack(stranger, protocol, make(protocol))
    await answersOthers()
    await stranger.stop()
  },
  LIMIT_MS,
)

test(
  'garbage, truncation and excess on the topic',
  async () => {
    const stranger = await strangers.start({ gossip: true })
    await stranger.dial(victim.host.libp2p.getMultiaddrs())
    const { pubsub } = stranger.services
    pubsub.subscribe(topicOf(genesis))
    for (const bytes of [0, 10, 4096, 5000, 60_000]) {
      await pubsub.publish(topicOf(genesis), randomBytes(bytes)).catch(() => undefined)
    }
    await answersOthers()
    await stranger.stop()
  },
  LIMIT_MS,
)
