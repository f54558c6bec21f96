import * as dagCbor from '@ipld/dag-cbor'
import { fromString, toString } from 'uint8arrays'
import * as v from 'valibot'
import { open, seal } from './envelope.ts'
import type { Rejection } from './errors.ts'

/**
 * What peers say on the direct streams `/mlstore/swap/1` and `/mlstore/params/2`, and the card they gossip.
 * Every message is one dag-cbor map with a `type`, at most MESSAGE_LIMIT bytes, described once in a table below:
 * encode() and decode() read the same row. Nonces are 16 random bytes and digests SHA-256, both hex in memory.
 */

/** Bytes of one message on a stream, and of one announcement on a topic (DESIGN.md section 3). */
export const MESSAGE_LIMIT = 4096

/** Addresses a card may carry, and the length of each. */
const ADDRESS_LIMIT = 12
const ADDRESS_LENGTH = 512
/** A card without renewal is believed this long, milliseconds, and longer in swarms where cards are rarer. */
export const CARD_LIFETIME_MS = 10 * 60_000
export const CARD_LIFETIME_MAX_MS = 50 * 60_000
/** Clocks of two peers differ by so much at most. */
const CARD_SKEW_MS = 10 * 60_000

export type PeerId = string
export type Nonce = string
export type Digest = string

const hexOf = (bytes: number) =>
  v.pipe(
    v.instance(Uint8Array),
    v.check((value) => value.length === bytes, `expected ${bytes} bytes`),
    v.transform((value) => toString(value, 'hex')),
  )
const nonce = hexOf(16)
const digest = hexOf(32)
const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER))
const cid = v.pipe(v.string(), v.maxLength(128), v.regex(/^[a-zA-Z0-9]+$/))
const codec = v.pipe(v.string(), v.maxLength(32))

const busyReasons = [
  'busy',
  'budget',
  'in-doubt',
  'crossed',
  'paused',
  'unknown-swarm',
  'other-tensors',
  'unknown-codec',
  'no-swap',
] as const
export type BusyReason = (typeof busyReasons)[number]

const messages = {
  /** Opens a swap. `tensors` is the digest of the tensor list; `steps` how many steps are behind the params. */
  offer: v.strictObject({
    type: v.literal('offer'),
    nonce,
    genesis: cid,
    tensors: digest,
    codec,
    steps: count,
  }),
  /** The offered peer is in. Both now send `params` and the bytes. */
  accept: v.strictObject({ type: v.literal('accept'), nonce, steps: count }),
  /** The offered (or pulled) peer is not; nothing was changed. */
  busy: v.strictObject({ type: v.literal('busy'), nonce, reason: v.picklist(busyReasons) }),
  /** The sender's copy follows as `bytes` bytes of data frames whose SHA-256 is `digest`. */
  params: v.strictObject({ type: v.literal('params'), nonce, bytes: count, digest }),
  /** Accepter to offerer: both copies are here whole; `digest` is of the copy it received. It is now in doubt. */
  ready: v.strictObject({ type: v.literal('ready'), nonce, digest }),
  /** Offerer to accepter: applied; `digest` is of the copy it received. */
  commit: v.strictObject({ type: v.literal('commit'), nonce, digest }),
  /** A peer in doubt asks how its swap ended. */
  ask: v.strictObject({ type: v.literal('ask'), nonce, genesis: cid }),
  told: v.strictObject({
    type: v.literal('told'),
    nonce,
    outcome: v.picklist(['committed', 'aborted', 'pending']),
  }),
  /** On `/mlstore/params/2`: `state` (codec/state.ts) is for a newcomer, `copy` one encoded copy for a rule that pulls. */
  pull: v.strictObject({
    type: v.literal('pull'),
    nonce,
    genesis: cid,
    tensors: digest,
    what: v.picklist(['state', 'copy']),
    codec,
  }),
  grant: v.strictObject({ type: v.literal('grant'), nonce, steps: count }),
} as const

type Table = typeof messages
export type MessageType = keyof Table
export type Message = { [T in MessageType]: v.InferOutput<Table[T]> }[MessageType]
export type MessageOf<T extends MessageType> = Extract<Message, { type: T }>
export type Outcome = MessageOf<'told'>['outcome']

/** Bytes for the wire. The caller built the message, so nothing is checked but its size. */
export function encodeMessage(message: Message): Uint8Array {
  const wire: Record<string, unknown> = { ...message, nonce: fromString(message.nonce, 'hex') }
  for (const field of ['digest', 'tensors'] as const) {
    if (typeof wire[field] === 'string') wire[field] = fromString(wire[field], 'hex')
  }
  return dagCbor.encode(wire)
}

/** The message in `bytes`, or why it is none. Never throws. */
export function decodeMessage(bytes: Uint8Array): Message | Rejection {
  if (bytes.length > MESSAGE_LIMIT) {
    return rejection(
      'oversized',
      `got a message of ${bytes.length} bytes, expected at most ${MESSAGE_LIMIT}`,
    )
  }
  const value = decodeCbor(bytes)
  const type = typeOf(value)
  if (!type)
    return rejection('malformed', `got ${bytes.length} bytes that are no message of this protocol`)
  const parsed = v.safeParse(messages[type] as v.GenericSchema<unknown, Message>, value)
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  return rejection(
    'malformed',
    `message ${type}, ${v.getDotPath(issue) ?? 'whole'}: ${issue.message}`,
  )
}

/** Whether a decoder answered with a Rejection. */
export function isRejection<T extends object>(value: T | Rejection): value is Rejection {
  return 'message' in value && 'type' in value && Object.keys(value).length === 2
}

function typeOf(value: unknown): MessageType | undefined {
  if (typeof value !== 'object' || value === null || !('type' in value)) return undefined
  const { type } = value
  return typeof type === 'string' && Object.hasOwn(messages, type)
    ? (type as MessageType)
    : undefined
}

function decodeCbor(bytes: Uint8Array): unknown {
  try {
    return dagCbor.decode(bytes)
  } catch {
    return undefined
  }
}

function rejection(type: string, message: string): Rejection {
  return { type, message }
}

/** The domain that separates a card's signature from every other. */
export const CARD_DOMAIN = 'mlstore/card/1'

const cardSchema = v.strictObject({
  peer: v.pipe(v.string(), v.maxLength(128)),
  genesis: cid,
  version: cid,
  phase: v.picklist(['joining', 'training', 'settling', 'done', 'seeding', 'leaving']),
  round: count,
  steps: count,
  codecs: v.pipe(v.array(codec), v.maxLength(8)),
  addresses: v.pipe(
    v.array(v.pipe(v.string(), v.maxLength(ADDRESS_LENGTH))),
    v.maxLength(ADDRESS_LIMIT),
  ),
  /** Share of the last minute spent serving others, 0 to 1: newcomers choose the least loaded donor. */
  load: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
  sequence: count,
  expiresAt: count,
})

/** Who is where: what a peer announces of itself, signed with its own key. */
export type Card = v.InferOutput<typeof cardSchema>

type Key = Parameters<typeof seal>[2]

/** The signed bytes of a card. */
export function signCard(card: Card, key: Key): Promise<Uint8Array> {
  return seal(CARD_DOMAIN, dagCbor.encode(card), key)
}

/** A card that its own peer signed and that has not expired by `now`, or why it is none. */
export async function readCard(bytes: Uint8Array, now: number): Promise<Card | Rejection> {
  if (bytes.length > MESSAGE_LIMIT) {
    return rejection(
      'oversized',
      `got a card of ${bytes.length} bytes, expected at most ${MESSAGE_LIMIT}`,
    )
  }
  const opened = await open(CARD_DOMAIN, bytes)
  if (isRejection(opened)) return opened
  const parsed = v.safeParse(cardSchema, decodeCbor(opened.payload))
  if (!parsed.success) return rejection('malformed', `card: ${parsed.issues[0].message}`)
  const card = parsed.output
  if (card.peer !== opened.signer) {
    return rejection('wrong-signer', `card of ${card.peer} was signed by ${opened.signer}`)
  }
  if (card.expiresAt <= now)
    return rejection('expired', `card of ${card.peer} expired ${now - card.expiresAt} ms ago`)
  if (card.expiresAt > now + CARD_LIFETIME_MAX_MS + CARD_SKEW_MS) {
    return rejection(
      'wrong-dates',
      `card of ${card.peer} claims ${card.expiresAt - now} ms, more than allowed`,
    )
  }
  return card
}

/**
 * Frames on a stream: one byte of kind, three bytes of body length (big-endian), the body.
 * `data` carries params; `credit` says how many data bytes of this stream were consumed since the last one.
 */
export const frameKinds = { message: 1, data: 2, credit: 3 } as const
export type FrameKind = keyof typeof frameKinds

export const FRAME_HEADER_BYTES = 4
/** The largest body of each kind, bytes; a longer claim ends the stream. */
export const frameLimits: Record<FrameKind, number> = {
  message: MESSAGE_LIMIT,
  data: 65_536,
  credit: 4,
}

/** The four bytes before a body. */
export function encodeFrameHeader(kind: FrameKind, length: number): Uint8Array {
  return Uint8Array.of(frameKinds[kind], (length >>> 16) & 255, (length >>> 8) & 255, length & 255)
}

/** What a header announces, or why it is none. */
export function decodeFrameHeader(
  bytes: Uint8Array,
): { kind: FrameKind; length: number } | Rejection {
  const kind = (Object.keys(frameKinds) as FrameKind[]).find(
    (name) => frameKinds[name] === bytes[0],
  )
  if (!kind) return rejection('malformed', `got a frame of kind ${bytes[0]}, expected 1, 2 or 3`)
  const length = (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!
  if (length <= frameLimits[kind]) return { kind, length }
  return rejection(
    'oversized',
    `got a ${kind} frame of ${length} bytes, expected at most ${frameLimits[kind]}`,
  )
}
