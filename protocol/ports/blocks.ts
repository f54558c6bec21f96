/**
 * Blocks: from this store or from peers. Helia's own get() asks everybody who is connected, so each of them that holds a
 * block sends it; here one holder is asked, and another where that one lacks it or is slow.
 */
import type { BlockBroker, Helia } from '@helia/interface'
import type { Libp2p, PeerId } from '@libp2p/interface'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { CID } from 'multiformats/cid'
import { concat } from 'uint8arrays'
import { Fault } from '../errors.ts'
import { inParallel } from './parallel.ts'
import { within } from './within.ts'

export type GetBlock = (cid: CID) => Promise<Uint8Array>

export interface BlockOptions {
  /** Addresses of peers that hold it, dialled first: bitswap never looks two hops away. */
  providers?: readonly string[]
  signal?: AbortSignal
}

/** bitswap's largest message, hence the largest block that can arrive. */
const MAX_BLOCK_BYTES = 2 * 1024 * 1024

/** A block that has not come after this long is asked for again, and its providers dialled again. */
const BLOCK_LIMIT_MS = 20_000
const BLOCK_ATTEMPTS = 3
/** Another holder is asked beside one that has not sent a block after this long, or this many times its slowest. */
const PATIENCE_MS = 3_000
const PATIENCE = 3
/** One of whom nothing is known: the first blocks are small, and who has sent one is asked for the rest. */
const STRANGER_PATIENCE_MS = 250
/** One dial of one provider. */
const DIAL_LIMIT_MS = 10_000
const PROVIDERS_AT_ONCE = 8
/** A peer that has not sent what it is asked for after this long is no replica for now. */
const ANSWER_LIMIT_MS = 15_000
const BITSWAP = '/ipfs/bitswap/1.2.0'

/**
 * Gets blocks from here or from peers. Dials the providers when the first block is missing here; a block that does
 * not come is asked for again. Throws Fault `no-provider` (network) when nobody can be reached, `artifact-not-found`
 * when nobody sends it.
 */
export function blockReader(helia: Helia, libp2p: Libp2p, options: BlockOptions): GetBlock {
  const { providers = [], signal } = options
  const ask = asker(helia, libp2p, providers)
  let dialled: Promise<void> | undefined
  return async (cid) => {
    const startedAt = performance.now()
    for (let attempt = 0; attempt < BLOCK_ATTEMPTS; attempt++) {
      signal?.throwIfAborted()
      const isLast = attempt === BLOCK_ATTEMPTS - 1
      if (await helia.blockstore.has(cid))
        return collect(helia.blockstore.get(cid, { offline: true }))
      dialled ??= dialAll(libp2p, providers, signal)
      // Whoever is reached later is asked then: one that is gone may take seconds to say nothing.
      if (libp2p.getConnections().length === 0) await dialled
      if (libp2p.getConnections().length === 0) throw noProvider(cid, providers)
      try {
        const block = await within(BLOCK_LIMIT_MS, signal, (limit) => ask(cid, limit))
        if (block.length <= MAX_BLOCK_BYTES) return block
        throw tooLarge(cid, block.length)
      } catch (error) {
        if (error instanceof Fault || isStorageError(error)) throw error
        signal?.throwIfAborted()
        if (isLast) throw notFound(cid, libp2p, performance.now() - startedAt, error)
        dialled = dialAll(libp2p, providers, signal)
      }
    }
    throw notFound(cid, libp2p, performance.now() - startedAt)
  }
}

/** What a reader knows of one peer. */
interface Holder {
  peer: PeerId
  /** It was named as one that holds the version, or sent a block of it. */
  isProven: boolean
  /** Blocks that it lacked or was slow with, since it last sent one. */
  misses: number
  /** Asked for and not here yet. */
  pending: number
  slowestMs: number
}

/** Asks one holder after another, all who are connected at last; stores the block. Rejects as `signal` aborts. */
function asker(helia: Helia, libp2p: Libp2p, providers: readonly string[]) {
  const bitswap = bitswapOf(helia)
  const named = new Set(providers.map((text) => peerOf(tryMultiaddr(text))))
  const holders = new Map<string, Holder>()

  const holderOf = (peer: PeerId): Holder => {
    const id = peer.toString()
    const isProven = named.has(id)
    const holder = holders.get(id) ?? { peer, isProven, misses: 0, pending: 0, slowestMs: 0 }
    holders.set(id, holder)
    return holder
  }
  const next = async (asked: ReadonlySet<Holder>): Promise<Holder | undefined> => {
    const direct = libp2p.getConnections().filter(({ limits }) => limits === undefined)
    const able: Holder[] = []
    for (const holder of new Set(direct.map(({ remotePeer }) => holderOf(remotePeer))))
      if (!asked.has(holder) && (holder.isProven || (await hasBitswap(libp2p, holder.peer))))
        able.push(holder)
    return able.sort(byPromise)[0]
  }
  const askOne = async (holder: Holder, cid: CID, signal: AbortSignal) => {
    const startedAt = performance.now()
    holder.pending++
    try {
      const block = await getFrom(bitswap, holder.peer, cid, signal)
      const slowestMs = Math.max(holder.slowestMs, performance.now() - startedAt)
      Object.assign(holder, { isProven: true, misses: 0, slowestMs })
      return block
    } catch {
      return undefined
    } finally {
      holder.pending--
    }
  }

  return async (cid: CID, signal: AbortSignal): Promise<Uint8Array> => {
    const found = Promise.withResolvers<Uint8Array>()
    found.promise.catch(() => {}) // thrown below to who waits
    const done = new AbortController()
    const follow = () => done.abort(signal.reason)
    signal.addEventListener('abort', follow)
    try {
      const asked = new Set<Holder>()
      for (let holder = await next(asked); holder; holder = await next(asked)) {
        asked.add(holder)
        const answer = askOne(holder, cid, done.signal)
        void answer.then((block) => block && found.resolve(block))
        const block = await firstOf([found.promise, answer], patienceWith(holder), done.signal)
        if (block) return await keep(helia, cid, block)
        signal.throwIfAborted()
        holder.misses++
      }
      // Whoever connects from now on is asked too.
      collect(helia.blockstore.get(cid, { signal: done.signal })).then(found.resolve, found.reject)
      return await keep(helia, cid, await found.promise)
    } finally {
      signal.removeEventListener('abort', follow)
      done.abort()
    }
  }
}

/** Helia's get() stores what it gives; a session does not. */
async function keep(helia: Helia, cid: CID, block: Uint8Array): Promise<Uint8Array> {
  if (!(await helia.blockstore.has(cid))) await helia.blockstore.put(cid, block)
  return block
}

function patienceWith({ isProven, slowestMs }: Holder): number {
  return isProven ? Math.max(PATIENCE_MS, PATIENCE * slowestMs) : STRANGER_PATIENCE_MS
}

/** Who most likely sends a block soonest. */
function byPromise(a: Holder, b: Holder): number {
  return a.misses - b.misses || Number(b.isProven) - Number(a.isProven) || a.pending - b.pending
}

/** From this peer and no other, not even from our own copy; rejects where it says that it lacks the block. */
async function getFrom(bitswap: BlockBroker, peer: PeerId, cid: CID, signal: AbortSignal) {
  const providers = [peer.toCID()]
  const session = bitswap.createSession?.({ providers, minProviders: 1, maxProviders: 1 })
  if (session?.retrieve === undefined) throw new Error('this bitswap has no sessions')
  return session.retrieve(cid, { signal })
}

/** What the first gives; undefined after `ms`. */
async function firstOf<T>(all: Promise<T>[], ms: number, signal: AbortSignal) {
  const limit = Promise.withResolvers<undefined>()
  const stop = () => limit.resolve(undefined)
  const timer = setTimeout(stop, ms)
  signal.addEventListener('abort', stop)
  try {
    return await Promise.race([...all, limit.promise])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
  }
}

/** Whether a peer itself sends every block; others' answers and our own copies do not count. */
export async function sendsAll(
  helia: Helia,
  peer: PeerId,
  blocks: readonly CID[],
  signal?: AbortSignal,
): Promise<boolean> {
  const bitswap = bitswapOf(helia)
  try {
    await within(ANSWER_LIMIT_MS, signal, async (limit) => {
      for (const cid of blocks) await getFrom(bitswap, peer, cid, limit)
    })
    return true
  } catch {
    signal?.throwIfAborted()
    return false
  }
}

async function hasBitswap(libp2p: Libp2p, peer: PeerId): Promise<boolean> {
  const known = await libp2p.peerStore.get(peer).catch(() => undefined)
  return known?.protocols.includes(BITSWAP) ?? false
}

/** What the store said (a full disk and its like) is no answer of the network. */
export function isStorageError(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause as unknown) {
    if (
      cause.name === 'PutFailedError' ||
      cause.name === 'GetFailedError' ||
      /\bE(NOSPC|DQUOT|IO|ROFS)\b/.test(cause.message)
    )
      return true
  }
  return false
}

/** Dials each peer among the addresses by all of its addresses; resolves when one is reached, or none could be. */
async function dialAll(
  libp2p: Libp2p,
  addresses: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const byPeer = new Map<string, Multiaddr[]>()
  for (const text of addresses) {
    const address = tryMultiaddr(text)
    if (address === undefined) continue
    const peer = peerOf(address) ?? text
    if (peer === libp2p.peerId.toString()) continue
    byPeer.set(peer, [...(byPeer.get(peer) ?? []), address])
  }
  const reached = Promise.withResolvers<void>()
  const all = inParallel(PROVIDERS_AT_ONCE, [...byPeer.values()], async (list) => {
    try {
      await within(DIAL_LIMIT_MS, signal, (limit) => libp2p.dial(list, { signal: limit }))
      reached.resolve()
    } catch {
      signal?.throwIfAborted()
    }
  })
  all.catch(() => {}) // thrown below to who still waits
  await Promise.race([reached.promise, all])
}

function tryMultiaddr(text: string): Multiaddr | undefined {
  try {
    return multiaddr(text)
  } catch {
    return undefined
  }
}

/** The peer an address ends at: the last /p2p/ part. */
function peerOf(address: Multiaddr | undefined): string | undefined {
  return address?.getComponents().findLast(({ name }) => name === 'p2p')?.value
}

/** Helia lists its brokers under a name it does not type: its blockstore would answer from our own copy. */
function bitswapOf(helia: Helia): BlockBroker {
  const { blockBrokers } = helia as unknown as { blockBrokers: BlockBroker[] }
  const broker = blockBrokers.find(({ name }) => name === 'bitswap')
  if (broker === undefined) throw new Error('this Helia has no bitswap')
  return broker
}

export async function collect(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const chunk of chunks) parts.push(chunk)
  return parts.length === 1 ? parts[0]! : concat(parts)
}

function noProvider(cid: CID, providers: readonly string[]): Fault {
  return new Fault({
    kind: 'network',
    type: 'no-provider',
    message: `none of ${providers.length} addresses of peers that hold ${cid} could be reached`,
    hint: 'name a peer that holds it with --join, or try again later',
    cid: cid.toString(),
    addresses: providers.length,
  })
}

function notFound(cid: CID, libp2p: Libp2p, waitedMs: number, cause?: unknown): Fault {
  const peers = libp2p.getPeers().length
  return new Fault(
    {
      kind: 'not-found',
      type: 'artifact-not-found',
      message: `block ${cid} did not come in ${Math.round(waitedMs / 1_000)} s from ${peers} connected ${peers === 1 ? 'peer' : 'peers'}`,
      hint: 'name a peer that holds it with --join, or try again later',
      cid: cid.toString(),
      waitedMs: Math.round(waitedMs),
      peers,
    },
    cause,
  )
}

function tooLarge(cid: CID, bytes: number): Fault {
  return new Fault({
    kind: 'verification',
    type: 'wrong-size',
    message: `block ${cid} has ${bytes} bytes, expected at most ${MAX_BLOCK_BYTES}`,
    hint: 'what these peers hold is not a version; nothing of it is kept or passed on',
    path: cid.toString(),
    bytes,
    expected: MAX_BLOCK_BYTES,
  })
}
