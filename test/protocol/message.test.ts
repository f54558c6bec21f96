import * as dagCbor from '@ipld/dag-cbor'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { seal } from '../../protocol/envelope.ts'
import {
  CARD_DOMAIN,
  CARD_LIFETIME_MS,
  type Card,
  decodeFrameHeader,
  decodeMessage,
  encodeFrameHeader,
  encodeMessage,
  frameLimits,
  isRejection,
  MESSAGE_LIMIT,
  type Message,
  readCard,
  signCard,
} from '../../protocol/message.ts'

const NOW = Date.UTC(2030, 0, 1)
const FUZZ_RUNS = 20_000
/** For 20,000 decodings, on a slow machine too. */
const FUZZ_LIMIT_MS = 10_000

const nonce = '000102030405060708090a0b0c0d0e0f'
const digest = 'ab'.repeat(32)
const genesis = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi'

/** One of each; their bytes stand in protocol/README.md and are compared there. */
const messages: Message[] = [
  { type: 'offer', nonce, genesis, tensors: digest, codec: 'int8', steps: 120 },
  { type: 'accept', nonce, steps: 0 },
  { type: 'busy', nonce, reason: 'in-doubt' },
  { type: 'params', nonce, bytes: 1_000_000_000, digest },
  { type: 'ready', nonce, digest },
  { type: 'commit', nonce, digest },
  { type: 'ask', nonce, genesis },
  { type: 'told', nonce, outcome: 'pending' },
  { type: 'pull', nonce, genesis, tensors: digest, what: 'copy', codec: 'float32' },
  { type: 'grant', nonce, steps: Number.MAX_SAFE_INTEGER },
]

/** What stands on the wire, to be spoilt. */
function wireOf(message: Message): Record<string, unknown> {
  return dagCbor.decode(encodeMessage(message))
}

function decodeWire(wire: unknown): Message | { type: string; message: string } {
  return decodeMessage(dagCbor.encode(wire))
}

describe.each(messages)('$type', (message) => {
  test('comes back as it went out', () => {
    expect(decodeMessage(encodeMessage(message))).toEqual(message)
  })

  test('takes a few hundred bytes at most', () => {
    expect(encodeMessage(message).length).toBeLessThan(300)
  })

  test('is refused when cut anywhere or followed by more', () => {
    const bytes = encodeMessage(message)
    for (let length = 0; length < bytes.length; length++) {
      expect(isRejection(decodeMessage(bytes.subarray(0, length)))).toBe(true)
    }
    expect(isRejection(decodeMessage(Uint8Array.of(...bytes, 0)))).toBe(true)
  })

  test('is refused with a field more, a field less, or a field of another kind', () => {
    const wire = wireOf(message)
    expect(decodeWire({ ...wire, extra: 1 })).toMatchObject({ type: 'malformed' })
    for (const field of Object.keys(wire)) {
      const { [field]: _, ...without } = wire
      expect(isRejection(decodeWire(without))).toBe(true)
      const text = typeof wire[field] === 'string' ? '*'.repeat(129) : 'constructor'
      for (const other of [
        null,
        true,
        -1,
        1.5,
        text,
        [],
        {},
        new Uint8Array(15),
        new Uint8Array(33),
      ]) {
        expect(isRejection(decodeWire({ ...wire, [field]: other }))).toBe(true)
      }
    }
  })

  test.each([0, 15, 17, 32])('is refused with a nonce of %d bytes', (length) => {
    const wire = { ...wireOf(message), nonce: new Uint8Array(length) }
    expect(decodeWire(wire)).toEqual({
      type: 'malformed',
      message: `message ${message.type}, nonce: expected 16 bytes`,
    })
  })
})

describe('a decoder that strangers feed', () => {
  test.each(['toString', 'constructor', '__proto__', 'hasOwnProperty'])(
    'knows no message of type %s',
    (type) => {
      expect(decodeWire({ type, nonce: new Uint8Array(16) })).toMatchObject({ type: 'malformed' })
    },
  )

  test.each(['__proto__', 'constructor', 'toString'])('takes no key %s', (key) => {
    // Encoded by hand: an object literal would set the prototype instead.
    const wire = new Map<string, unknown>(Object.entries(wireOf(messages[1]!)))
    wire.set(key, { steps: 1 })
    expect(isRejection(decodeMessage(cborMap(wire)))).toBe(true)
    expect(({} as { steps?: number }).steps).toBeUndefined()
  })

  test('takes no field from a prototype that the message brought along', () => {
    const inherited = dagCbor.encode({ type: 'accept', nonce: new Uint8Array(16), steps: 1 })
    const wire = Uint8Array.of(0xa1, 0x69, ...new TextEncoder().encode('__proto__'), ...inherited)
    expect(isRejection(decodeMessage(wire))).toBe(true)
  })

  test('looks at no byte of a message over 4 KiB', () => {
    const rejected = decodeMessage(new Uint8Array(MESSAGE_LIMIT + 1))
    expect(rejected).toEqual({
      type: 'oversized',
      message: 'got a message of 4097 bytes, expected at most 4096',
    })
  })

  test('survives nesting as deep as a message is long', () => {
    expect(isRejection(decodeMessage(new Uint8Array(MESSAGE_LIMIT).fill(0x81)))).toBe(true)
    expect(isRejection(decodeMessage(new Uint8Array(MESSAGE_LIMIT).fill(0xa1)))).toBe(true)
  })

  test('claims of lengths cost nothing: a string of 4 GiB in five bytes', () => {
    for (const kind of [0x5a, 0x7a, 0x9a, 0xba]) {
      expect(isRejection(decodeMessage(Uint8Array.of(kind, 0xff, 0xff, 0xff, 0xff)))).toBe(true)
    }
  })

  test('answers 20,000 spoilt messages with a message or a rejection, never a throw, in time', () => {
    const whole = fc.constantFrom(...messages.map(encodeMessage))
    const spoilt = fc
      .tuple(whole, fc.array(fc.tuple(fc.nat(4096), fc.nat(255)), { maxLength: 4 }), fc.nat(300))
      .map(([bytes, changes, cut]) => {
        const copy = bytes.slice(0, Math.max(1, bytes.length - (cut < 40 ? cut : 0)))
        for (const [at, value] of changes) copy[at % copy.length] = value
        return copy
      })
    const bytes = fc.oneof(spoilt, fc.uint8Array({ maxLength: 200 }))
    const started = performance.now()
    fc.assert(
      fc.property(bytes, (input) => {
        const result = decodeMessage(input)
        if (isRejection(result)) expect(typeof result.message).toBe('string')
        else expect(decodeMessage(encodeMessage(result))).toEqual(result)
      }),
      { seed: 5, numRuns: FUZZ_RUNS },
    )
    expect(performance.now() - started).toBeLessThan(FUZZ_LIMIT_MS)
  })
})

describe('a frame header', () => {
  test.each(['message', 'data', 'credit'] as const)(
    'of kind %s takes any length up to its limit',
    (kind) => {
      for (const length of [0, 1, 255, 256, frameLimits[kind]].filter(
        (bytes) => bytes <= frameLimits[kind],
      )) {
        expect(decodeFrameHeader(encodeFrameHeader(kind, length))).toEqual({ kind, length })
      }
      const over = decodeFrameHeader(encodeFrameHeader(kind, frameLimits[kind] + 1))
      expect(over).toMatchObject({ type: 'oversized' })
    },
  )

  test('is one byte of kind and three of length: the golden bytes', () => {
    expect([...encodeFrameHeader('message', 0x0102)]).toEqual([1, 0, 1, 2])
    expect([...encodeFrameHeader('data', 65_536)]).toEqual([2, 1, 0, 0])
    expect([...encodeFrameHeader('credit', 4)]).toEqual([3, 0, 0, 4])
  })

  test.each([0, 4, 22, 255])('of kind %d is none', (kind) => {
    expect(decodeFrameHeader(Uint8Array.of(kind, 0, 0, 1))).toMatchObject({ type: 'malformed' })
  })
})

describe('a card', async () => {
  const key = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(7))
  const card: Card = {
    peer: key.publicKey.toString(),
    genesis,
    version: genesis,
    phase: 'training',
    round: 3,
    steps: 120,
    codecs: ['int8', 'float32'],
    addresses: ['/ip4/192.0.2.1/tcp/4001'],
    load: 0.25,
    sequence: 7,
    expiresAt: NOW + CARD_LIFETIME_MS,
  }
  const sealed = (payload: unknown) => seal(CARD_DOMAIN, dagCbor.encode(payload), key)

  test('that its own peer signed is believed until it expires', async () => {
    const bytes = await signCard(card, key)
    expect(await readCard(bytes, NOW)).toEqual(card)
    expect(await readCard(bytes, card.expiresAt)).toMatchObject({ type: 'expired' })
  })

  test('of a large swarm lives up to 50 minutes, by a clock that is ten ahead', async () => {
    const longest = { ...card, expiresAt: NOW + 60 * 60_000 }
    expect(await readCard(await signCard(longest, key), NOW)).toEqual(longest)
    for (const expiresAt of [longest.expiresAt + 1, NOW + 365 * 24 * 3_600_000]) {
      const bytes = await signCard({ ...card, expiresAt }, key)
      expect(await readCard(bytes, NOW)).toMatchObject({ type: 'wrong-dates' })
    }
  })

  test('fits an announcement with all the addresses it may carry', async () => {
    const addresses = Array.from(
      { length: 12 },
      (_, index) => `/dns4/${'a'.repeat(200)}/tcp/${index}`,
    )
    expect(await readCard(await signCard({ ...card, addresses }, key), NOW)).toMatchObject({
      addresses,
    })
  })

  test('of one peer signed by another is refused', async () => {
    const other = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(8))
    expect(await readCard(await signCard(card, other), NOW)).toMatchObject({ type: 'wrong-signer' })
  })

  test.each(['RSA', 'secp256k1'] as const)(
    'signed with %s is refused, however well signed',
    async (type) => {
      const foreign =
        type === 'RSA' ? await generateKeyPair('RSA', 2048) : await generateKeyPair(type)
      const { RecordEnvelope } = await import('@libp2p/peer-record')
      const payload = dagCbor.encode({ ...card, peer: foreign.publicKey.toString() })
      const record = {
        domain: CARD_DOMAIN,
        codec: Uint8Array.of(0x71),
        marshal: () => payload,
        equals: () => false,
      }
      const bytes = (await RecordEnvelope.seal(record, foreign)).marshal()
      expect(await readCard(bytes, NOW)).toMatchObject({ type: 'wrong-key' })
    },
  )

  test('for another purpose is refused: its signature names the domain', async () => {
    const bytes = await seal('mlstore/listing/1', dagCbor.encode(card), key)
    expect(await readCard(bytes, NOW)).toMatchObject({ type: 'bad-signature' })
  })

  test('over 4 KiB is refused unread', async () => {
    expect(await readCard(new Uint8Array(MESSAGE_LIMIT + 1), NOW)).toMatchObject({
      type: 'oversized',
    })
  })

  test.each([
    ['too many addresses', { addresses: new Array(13).fill('/ip4/192.0.2.1/tcp/1') }],
    ['an address over 512 characters', { addresses: ['/'.repeat(513)] }],
    ['too many codecs', { codecs: new Array(9).fill('int8') }],
    ['a load above one', { load: 1.5 }],
    ['a negative load', { load: -0.1 }],
    ['negative steps', { steps: -1 }],
    ['a fraction of a round', { round: 1.5 }],
    ['an unknown phase', { phase: 'dreaming' }],
    ['a genesis that is no CID', { genesis: '../../etc' }],
    ['a field of its own', { extra: 1 }],
  ])('with %s is refused', async (_, change) => {
    expect(await readCard(await sealed({ ...card, ...change }), NOW)).toMatchObject({
      type: 'malformed',
    })
  })

  test.each(Object.keys(card))('without %s is refused', async (field) => {
    const { [field as keyof Card]: _, ...rest } = card
    expect(await readCard(await sealed(rest), NOW)).toMatchObject({ type: 'malformed' })
  })

  test('with any bit turned is refused', async () => {
    const bytes = await signCard(card, key)
    for (let at = 0; at < bytes.length; at += 5) {
      const spoilt = bytes.slice()
      spoilt[at]! ^= 1 << (at % 8)
      expect(isRejection(await readCard(spoilt, NOW))).toBe(true)
    }
  })
})

/** A CBOR map with its keys as they are, which dag-cbor would not write. */
function cborMap(entries: ReadonlyMap<string, unknown>): Uint8Array {
  const parts = [...entries].flatMap(([key, value]) => [dagCbor.encode(key), dagCbor.encode(value)])
  return Uint8Array.from([0xa0 + entries.size, ...parts.flatMap((part) => [...part])])
}
