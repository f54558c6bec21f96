import type { PrivateKey } from '@libp2p/interface'
import { RecordEnvelope } from '@libp2p/peer-record'
import { equals } from 'uint8arrays'
import { invariant, type Rejection } from './errors.ts'

/**
 * Signed envelopes: bytes that say who signed them and for what purpose.
 *
 * The domain is signed with the payload, so that a signature made for one purpose is worth nothing for another.
 * Only Ed25519 keys; one payload type (dag-cbor); one encoding: bytes that decode but are not what seal() writes
 * are refused, so whoever passes an envelope on cannot vary it.
 * Source: libp2p specs, RFC 0002 "Signed envelopes".
 */

/** Bytes an envelope adds to its payload: key 38, signature 66, type 3, payload header <= 4; rounded up. */
export const ENVELOPE_OVERHEAD = 128

/** The multicodec of dag-cbor, which every payload of ours is. */
const PAYLOAD_TYPE = Uint8Array.of(0x71)

/** What an envelope holds once its signature is checked. `signer` is a peer id in base58. */
export interface Opened {
  signer: string
  payload: Uint8Array
}

/** The signed bytes of `payload` for one `domain`, such as `mlstore/listing/1`. */
export async function seal(
  domain: string,
  payload: Uint8Array,
  key: PrivateKey,
): Promise<Uint8Array> {
  invariant(key.type === 'Ed25519', `an envelope is signed with an Ed25519 key, not ${key.type}`)
  const record = { domain, codec: PAYLOAD_TYPE, marshal: () => payload, equals: () => false }
  return (await RecordEnvelope.seal(record, key)).marshal()
}

/** Who signed `bytes` for `domain` and what they say, or why that cannot be told. Never throws. */
export async function open(domain: string, bytes: Uint8Array): Promise<Opened | Rejection> {
  const envelope = parse(bytes)
  if (!envelope) return malformed(`got ${bytes.length} bytes that are no signed envelope`)
  const { publicKey, payload } = envelope
  if (publicKey.type !== 'Ed25519') {
    return {
      type: 'wrong-key',
      message: `got an envelope signed with ${publicKey.type}, expected Ed25519`,
    }
  }
  if (!equals(envelope.payloadType, PAYLOAD_TYPE)) {
    return malformed('got an envelope of an unknown payload type, expected dag-cbor')
  }
  if (!equals(envelope.marshal(), bytes)) {
    return malformed(`got an envelope of ${bytes.length} bytes that is not in its one encoding`)
  }
  if (!(await isSigned(envelope, domain))) {
    return {
      type: 'bad-signature',
      message: `the signature of ${publicKey} for ${domain} does not hold`,
    }
  }
  return { signer: publicKey.toString(), payload: payload.slice() }
}

function parse(bytes: Uint8Array): RecordEnvelope | undefined {
  try {
    return RecordEnvelope.createFromProtobuf(bytes)
  } catch {
    return undefined
  }
}

async function isSigned(envelope: RecordEnvelope, domain: string): Promise<boolean> {
  try {
    return await envelope.validate(domain)
  } catch {
    return false
  }
}

function malformed(message: string): Rejection {
  return { type: 'malformed', message }
}
