import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { lpStream } from '@libp2p/utils'
import type { ListingBook } from './book.ts'
import {
  decodeRequest,
  encode,
  FRAME_LIMIT,
  LISTING_PROTOCOL,
  REQUEST_LIMIT_MS,
  type RegistryRequest,
  type RegistryResponse,
  type ResponseOf,
} from './wire.ts'

/** Requests a connection, and all together, may make: `burst` at once, then `perSecond`. */
export interface Quota {
  burst: number
  perSecond: number
}

export interface ServeOptions {
  now?: () => number
  quotaPerConnection?: Quota
  quotaOfAll?: Quota
}

const CONNECTION_QUOTA: Quota = { burst: 256, perSecond: 8 }
const ALL_QUOTA: Quota = { burst: 4_096, perSecond: 512 }
/** Requests under way at once on one connection. */
const STREAMS_LIMIT = 16
/** A signature takes 0.2 ms to check: this many cost one request. */
const SIGNATURES_A_REQUEST = 10

export interface RegistryServer {
  /** Idempotent; resolves when no new stream is taken. */
  close(): Promise<void>
}

/** Answers the listing protocol from a book until closed. */
export async function serveRegistry(
  libp2p: Libp2p,
  book: ListingBook,
  {
    now = Date.now,
    quotaPerConnection = CONNECTION_QUOTA,
    quotaOfAll = ALL_QUOTA,
  }: ServeOptions = {},
): Promise<RegistryServer> {
  const all = bucketOf(quotaOfAll, now())
  const buckets = new WeakMap<Connection, Bucket>()
  const answer = async (
    request: RegistryRequest,
    connection: Connection,
  ): Promise<RegistryResponse> => {
    const bucket = buckets.get(connection) ?? bucketOf(quotaPerConnection, now())
    buckets.set(connection, bucket)
    const waitMs = Math.max(take(bucket, costOf(request), now()), take(all, costOf(request), now()))
    if (waitMs > 0) return busy(waitMs)
    return answerFrom(book, request, connection.remotePeer.toString(), now())
  }
  await libp2p.handle(
    LISTING_PROTOCOL,
    (stream, connection) => serve(stream, (request) => answer(request, connection)),
    {
      runOnLimitedConnection: true,
      maxInboundStreams: STREAMS_LIMIT,
    },
  )
  const onGone = ({ detail }: CustomEvent<PeerId>) => book.left(detail.toString())
  libp2p.addEventListener('peer:disconnect', onGone)
  return {
    close() {
      libp2p.removeEventListener('peer:disconnect', onGone)
      return libp2p.unhandle(LISTING_PROTOCOL)
    },
  }
}

async function serve(
  stream: Stream,
  answer: (request: RegistryRequest) => Promise<RegistryResponse>,
): Promise<void> {
  const signal = AbortSignal.timeout(REQUEST_LIMIT_MS)
  try {
    const frames = lpStream(stream, { maxDataLength: FRAME_LIMIT, maxBufferSize: 2 * FRAME_LIMIT })
    const request = decodeRequest((await frames.read({ signal })).subarray())
    const response = request
      ? await answer(request)
      : refused('malformed', 'got bytes that are no listing request')
    await frames.write(encode(response), { signal })
    await stream.close({ signal })
  } catch (thrown) {
    // The other side hung up, sent garbage or was too slow; nothing of ours changed.
    stream.abort(thrown instanceof Error ? thrown : new Error(String(thrown)))
  }
}

async function answerFrom(
  book: ListingBook,
  request: RegistryRequest,
  from: string,
  now: number,
): Promise<RegistryResponse> {
  switch (request.type) {
    case 'list': {
      const { total, entries } = book.search(request, now)
      return { type: 'listings', total, listings: entries.map(({ bytes }) => bytes) }
    }
    case 'lacks': {
      const places = request.marks.flatMap((mark, place) => (book.has(mark) ? [] : [place]))
      return { type: 'lacks', places }
    }
    case 'put':
      return {
        type: 'put',
        answers: await Promise.all(request.listings.map((bytes) => book.put(bytes, now))),
      }
    case 'cards':
      return {
        type: 'cards',
        cards: book.cards(request.of, now, request.limit).map(({ bytes }) => bytes),
      }
    case 'put-card':
      return { type: 'put', answers: [await book.putCard(request.card, now, from)] }
  }
}

function costOf(request: RegistryRequest): number {
  return request.type === 'put' ? 1 + request.listings.length / SIGNATURES_A_REQUEST : 1
}

interface Bucket extends Quota {
  tokens: number
  at: number
}

function bucketOf(quota: Quota, now: number): Bucket {
  return { ...quota, tokens: quota.burst, at: now }
}

/** Takes `cost` tokens and answers 0, or takes none and answers how long to wait in milliseconds. */
function take(bucket: Bucket, cost: number, now: number): number {
  const refilled = bucket.tokens + (Math.max(0, now - bucket.at) / 1_000) * bucket.perSecond
  bucket.tokens = Math.min(bucket.burst, refilled)
  bucket.at = now
  if (bucket.tokens < cost) return Math.ceil(((cost - bucket.tokens) / bucket.perSecond) * 1_000)
  bucket.tokens -= cost
  return 0
}

function busy(retryAfterMs: number): RegistryResponse {
  return { ...refused('busy', `too many requests: ask again in ${retryAfterMs} ms`), retryAfterMs }
}

function refused(reason: string, message: string): ResponseOf<'refused'> {
  return { type: 'refused', reason, message }
}
