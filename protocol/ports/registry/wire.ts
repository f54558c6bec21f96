import * as dagCbor from '@ipld/dag-cbor'
import * as v from 'valibot'
import { LISTING_BYTES_LIMIT } from '../../listing.ts'
import { MARK_BYTES, PAGE_BYTES_LIMIT, PAGE_LIMIT } from './book.ts'

/**
 * Both sides of `/mlstore/listing/1`: who lists which model, and who holds a version right now.
 *
 * One stream carries one request and one response, each a dag-cbor map in a length-prefixed frame. It runs on relayed
 * connections too. A registry only passes signed bytes on, so its word is worth nothing: the client checks every
 * signature, asks several registries, keeps the newest of each owner and says which registry lied.
 */
export const LISTING_PROTOCOL = '/mlstore/listing/1'

/** One frame: a page and its few fields. */
export const FRAME_LIMIT = PAGE_BYTES_LIMIT + LISTING_BYTES_LIMIT + 8 * 1024
/** From opening the stream to the whole answer, on either side. */
export const REQUEST_LIMIT_MS = 10_000
/** Listings asked about in one request. */
export const MARKS_LIMIT = 512

const text = v.pipe(v.string(), v.maxLength(128))
const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1_000_000_000))
const bytes = v.custom<Uint8Array>((value) => value instanceof Uint8Array, 'is not bytes')
const signedList = v.pipe(v.array(bytes), v.maxLength(PAGE_LIMIT))
const marks = v.pipe(
  v.array(
    v.pipe(
      bytes,
      v.check(({ length }) => length === MARK_BYTES, 'is no mark'),
    ),
  ),
  v.maxLength(MARKS_LIMIT),
)
const limit = v.pipe(count, v.minValue(1), v.maxValue(PAGE_LIMIT))

const requestSchema = v.variant('type', [
  v.object({
    type: v.literal('list'),
    query: v.optional(text),
    name: v.optional(text),
    task: v.optional(text),
    tag: v.optional(text),
    label: v.optional(text),
    genesis: v.optional(text),
    owner: v.optional(text),
    offset: count,
    limit,
  }),
  /** Which of these listings, each named by its mark, does the registry not have? */
  v.object({ type: v.literal('lacks'), marks }),
  v.object({ type: v.literal('put'), listings: signedList }),
  v.object({ type: v.literal('cards'), of: text, limit }),
  v.object({ type: v.literal('put-card'), card: bytes }),
])

const answerSchema = v.object({
  type: text,
  message: v.optional(v.pipe(v.string(), v.maxLength(1024))),
})

const responseSchema = v.variant('type', [
  v.object({ type: v.literal('listings'), total: count, listings: signedList }),
  /** Places in the list of marks that was asked about. */
  v.object({ type: v.literal('lacks'), places: v.pipe(v.array(count), v.maxLength(MARKS_LIMIT)) }),
  v.object({ type: v.literal('cards'), cards: signedList }),
  v.object({
    type: v.literal('put'),
    answers: v.pipe(v.array(answerSchema), v.maxLength(PAGE_LIMIT)),
  }),
  v.object({
    type: v.literal('refused'),
    reason: text,
    message: v.pipe(v.string(), v.maxLength(1024)),
    retryAfterMs: v.optional(count),
  }),
])

export type RegistryRequest = v.InferOutput<typeof requestSchema>
export type RegistryResponse = v.InferOutput<typeof responseSchema>
export type ResponseOf<T extends RegistryResponse['type']> = Extract<RegistryResponse, { type: T }>

/** The bytes of a request or response; fields that are undefined are left out. */
export function encode(value: RegistryRequest | RegistryResponse): Uint8Array {
  return dagCbor.encode(
    Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)),
  )
}

/** The request in `bytes`, or undefined when it is none. */
export function decodeRequest(bytes: Uint8Array): RegistryRequest | undefined {
  return decode(requestSchema, bytes)
}

/** The response in `bytes`, or undefined when it is none. */
export function decodeResponse(bytes: Uint8Array): RegistryResponse | undefined {
  return decode(responseSchema, bytes)
}

function decode<S extends v.GenericSchema>(
  schema: S,
  bytes: Uint8Array,
): v.InferOutput<S> | undefined {
  try {
    const parsed = v.safeParse(schema, dagCbor.decode(bytes))
    return parsed.success ? parsed.output : undefined
  } catch {
    return undefined
  }
}
