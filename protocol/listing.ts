import * as dagCbor from '@ipld/dag-cbor'
import type { PrivateKey } from '@libp2p/interface'
import { CID } from 'multiformats/cid'
import * as v from 'valibot'
import { ENVELOPE_OVERHEAD, open, seal } from './envelope.ts'
import { Fault, type Rejection } from './errors.ts'
import { MESSAGE_LIMIT } from './message.ts'

/**
 * A listing: one line of the registry, in which an owner points to the newest version of a model.
 *
 * It is an envelope of a dag-cbor map, signed with the owner's key. Anyone may pass it on unchanged; nobody else can
 * make one in the owner's name. It says nothing about who owns the genesis: the genesis' own manifest does, and a
 * reader compares the two. The higher `sequence` replaces the lower. Readers ignore fields they do not know.
 */
export interface Listing {
  /** What users type; the same as in the manifest. */
  name: string
  title: string
  task: string
  tags: string[]
  labels: string[]
  /** The peer id (base58) whose Ed25519 key signed this. */
  owner: string
  /** CID of the first version: the swarm's name. */
  genesis: string
  /** CID of the newest version. */
  version: string
  /** The newest version's number, as in its manifest: `1.2.0`. */
  manifestVersion: string
  /** Size of the newest version in bytes. */
  bytes: number
  /** The owner's counter over listings of this genesis: a higher one replaces a lower one. */
  sequence: number
  /** Milliseconds since 1970. */
  issuedAt: number
  expiresAt: number
}

/** What an owner says; the key adds `owner`. Without times it lasts from `now` for LISTING_LIFE_MS. */
export type ListingDraft = Omit<Listing, 'owner' | 'issuedAt' | 'expiresAt'> &
  Partial<Pick<Listing, 'issuedAt' | 'expiresAt'>>

export const LISTING_DOMAIN = 'mlstore/listing/1'
/** A listing lasts 90 days at most; its owner, or anyone who holds it, puts it again. */
export const LISTING_LIFE_MS = 90 * 24 * 3_600_000
/** Read up to this: a registry's page must hold several even over a relay, which carries 128 KiB in all. */
export const LISTING_BYTES_LIMIT = 8 * 1024
/** Clocks differ: a listing may seem issued this far in the future. */
const CLOCK_SKEW_MS = 24 * 3_600_000
const TAGS_LIMIT = 32
const LABELS_LIMIT = 256

const text = (least: number, most: number) =>
  v.pipe(
    v.string(),
    v.minLength(least),
    v.maxLength(most),
    v.regex(/^[^\p{Cc}]*$/u, 'has control characters'),
  )
const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER))
const link = v.pipe(
  v.custom<CID>((value) => CID.asCID(value) !== null, 'is no CID'),
  v.transform((value) => CID.asCID(value)!.toV1().toString()),
)

const schema = v.object({
  name: v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9-]{0,63}$/)),
  title: text(1, 120),
  task: text(1, 64),
  tags: v.pipe(v.array(text(1, 64)), v.maxLength(TAGS_LIMIT)),
  labels: v.pipe(v.array(text(1, 64)), v.maxLength(LABELS_LIMIT)),
  genesis: link,
  version: link,
  manifestVersion: text(1, 64),
  bytes: count,
  sequence: count,
  issuedAt: count,
  expiresAt: count,
})

/**
 * The signed bytes of a listing, at most MESSAGE_LIMIT: a release is announced on its swarm's topic by its listing, and
 * who trains hears of it nowhere else. Tags and labels serve the search: the ones that do not fit are left out. Throws Fault `wrong-listing` when the draft is not one that readListing() would take.
 */
export async function signListing(
  draft: ListingDraft,
  key: PrivateKey,
  now: number,
): Promise<Uint8Array> {
  const { labels, ...line } = {
    ...draft,
    tags: draft.tags.slice(0, TAGS_LIMIT),
    labels: draft.labels.map((label) => label.slice(0, 64)),
    genesis: CID.parse(draft.genesis),
    version: CID.parse(draft.version),
    issuedAt: draft.issuedAt ?? now,
    expiresAt: draft.expiresAt ?? now + LISTING_LIFE_MS,
  }
  const payload = dagCbor.encode(fitting(line, labels.slice(0, LABELS_LIMIT)))
  const signed = await seal(LISTING_DOMAIN, payload, key)
  const listing = await readListing(signed, now)
  if (isListing(listing)) return signed
  throw new Fault({
    kind: 'verification',
    type: 'wrong-listing',
    message: `cannot list ${draft.name}: ${listing.message}`,
    hint: 'correct that field of the manifest and publish again',
  })
}

/** The listing in `bytes`, checked with its signature and dates at `now`, or why it is none. Never throws. */
export async function readListing(bytes: Uint8Array, now: number): Promise<Listing | Rejection> {
  if (bytes.length > LISTING_BYTES_LIMIT) {
    return rejection(
      'oversized',
      `got a listing of ${bytes.length} bytes, expected at most ${LISTING_BYTES_LIMIT}`,
    )
  }
  const opened = await open(LISTING_DOMAIN, bytes)
  if (!('signer' in opened)) return opened
  const parsed = v.safeParse(schema, decode(opened.payload))
  if (!parsed.success) {
    const [issue] = parsed.issues
    return rejection('malformed', `listing, ${v.getDotPath(issue) ?? 'whole'}: ${issue.message}`)
  }
  const listing = { ...parsed.output, owner: opened.signer }
  return wrongDates(listing, now) ?? listing
}

/** Whether readListing() gave a listing. */
export function isListing(read: Listing | Rejection): read is Listing {
  return 'owner' in read
}

function wrongDates({ name, issuedAt, expiresAt }: Listing, now: number): Rejection | undefined {
  if (expiresAt <= now) {
    return rejection('expired', `listing of ${name} expired ${new Date(expiresAt).toISOString()}`)
  }
  if (issuedAt > now + CLOCK_SKEW_MS || expiresAt > now + LISTING_LIFE_MS + CLOCK_SKEW_MS) {
    return rejection(
      'wrong-dates',
      `listing of ${name} is dated more than a day ahead of ${new Date(now).toISOString()}`,
    )
  }
}

/** The payload with as many of the tags, and then of the labels, as can be announced. */
function fitting<L extends { tags: string[] }>(
  line: L,
  labels: string[],
): L & { labels: string[] } {
  const fits = (value: object) => dagCbor.encode(value).length + ENVELOPE_OVERHEAD <= MESSAGE_LIMIT
  const tags = mostOf(line.tags, (some) => fits({ ...line, tags: some, labels: [] }))
  const tagged = { ...line, tags }
  return { ...tagged, labels: mostOf(labels, (some) => fits({ ...tagged, labels: some })) }
}

/** The longest beginning of a list that fits, if any does. */
function mostOf(list: string[], fits: (some: string[]) => boolean): string[] {
  let [least, most] = [0, list.length]
  while (least < most) {
    const middle = Math.ceil((least + most) / 2)
    if (fits(list.slice(0, middle))) least = middle
    else most = middle - 1
  }
  return list.slice(0, least)
}

function decode(payload: Uint8Array): unknown {
  try {
    return dagCbor.decode(payload)
  } catch {
    return undefined
  }
}

function rejection(type: string, message: string): Rejection {
  return { type, message }
}
