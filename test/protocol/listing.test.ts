import { readFileSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { CID } from 'multiformats/cid'
import { fromString, toString } from 'uint8arrays'
import { expect, test } from 'vitest'
import { ENVELOPE_OVERHEAD, seal } from '../../protocol/envelope.ts'
import {
  LISTING_BYTES_LIMIT,
  LISTING_DOMAIN,
  LISTING_LIFE_MS,
  type Listing,
  type ListingDraft,
  readListing,
  signListing,
} from '../../protocol/listing.ts'
import { MESSAGE_LIMIT } from '../../protocol/message.ts'

const now = Date.UTC(2030, 0, 1)
const key = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(7))
const genesis = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi'
const draft: ListingDraft = {
  name: 'digits',
  title: 'Handwritten digits',
  task: 'image-classification',
  tags: ['sample'],
  labels: ['0', '1'],
  genesis,
  version: genesis,
  manifestVersion: '1.0.0',
  bytes: 1234,
  sequence: 1,
}

test('a signed listing reads as what was signed, with its owner and 90 days to live', async () => {
  const listing = await readListing(await signListing(draft, key, now), now)
  expect(listing).toEqual({
    ...draft,
    owner: key.publicKey.toString(),
    issuedAt: now,
    expiresAt: now + LISTING_LIFE_MS,
  })
})

test('the bytes of a listing change only with the protocol', async () => {
  const golden = readFileSync(new URL('../golden/listing.hex', import.meta.url), 'utf8').trim()
  expect(toString(await signListing(draft, key, now), 'hex')).toBe(golden)
  expect(await readListing(fromString(golden, 'hex'), now)).toMatchObject({
    name: 'digits',
    sequence: 1,
  })
})

test('a listing ends at its expiry, and none lives longer than 90 days', async () => {
  const signed = await signListing(draft, key, now)
  expect(await readListing(signed, now + LISTING_LIFE_MS)).toMatchObject({ type: 'expired' })
  const forever = { ...draft, expiresAt: now + 2 * LISTING_LIFE_MS }
  await expect(signListing(forever, key, now)).rejects.toMatchObject({
    detail: { type: 'wrong-listing' },
  })
  const tomorrow = { ...draft, issuedAt: now + 2 * 86_400_000 }
  await expect(signListing(tomorrow, key, now)).rejects.toMatchObject({
    detail: { type: 'wrong-listing' },
  })
})

test('a listing can always be announced, with as many of its tags and labels as fit', async () => {
  const long = (what: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${what} ${i} ${'\u6f22'.repeat(50)}`)
  const draws = [
    { tags: ['a'], labels: long('label', 256) },
    { tags: long('tag', 32), labels: ['0', '1'] },
    { tags: long('tag', 16), labels: long('label', 256), title: '\u6f22'.repeat(120) },
  ]
  for (const { tags, labels, ...rest } of draws) {
    const signed = await signListing({ ...draft, ...rest, tags, labels }, key, now)
    expect(signed.length).toBeLessThanOrEqual(MESSAGE_LIMIT)
    // One label more would not have.
    expect(signed.length).toBeGreaterThan(MESSAGE_LIMIT - ENVELOPE_OVERHEAD - 180)
    const read = (await readListing(signed, now)) as Listing
    expect(read.tags).toEqual(tags.slice(0, read.tags.length))
    expect(read.labels).toEqual(labels.slice(0, read.labels.length))
    expect(read.tags.length + read.labels.length).toBeGreaterThan(15)
  }
})

test('a thousand long labels still make a listing, with as many as fit', async () => {
  const labels = Array.from({ length: 1_000 }, (_, i) => `label ${i} ${'x'.repeat(80)}`)
  const signed = await signListing({ ...draft, labels }, key, now)
  expect(signed.length).toBeLessThanOrEqual(LISTING_BYTES_LIMIT)
  expect(await readListing(signed, now)).toMatchObject({
    labels: expect.arrayContaining([labels[0]!.slice(0, 64)]),
  })
})

test('a draft nobody would take is refused when signed', async () => {
  for (const wrong of [
    { name: 'Digits!' },
    { title: '' },
    { title: 'a\u0007b' },
    { sequence: -1 },
    { bytes: 0.5 },
  ]) {
    await expect(signListing({ ...draft, ...wrong }, key, now)).rejects.toMatchObject({
      detail: { type: 'wrong-listing' },
    })
  }
})

const fields = {
  ...draft,
  genesis: CID.parse(genesis),
  version: CID.parse(genesis),
  issuedAt: now,
  expiresAt: now + 1,
}
const { title: _, ...untitled } = fields
const hostile: [string, Uint8Array][] = [
  ['no map', dagCbor.encode([1, 2])],
  ['not cbor', Uint8Array.of(0xff, 0x00)],
  ['nothing', new Uint8Array(0)],
  ['a missing field', dagCbor.encode(untitled)],
  ['a text for a link', dagCbor.encode({ ...fields, genesis })],
  ['a number for a text', dagCbor.encode({ ...fields, name: 7 })],
  ['too many tags', dagCbor.encode({ ...fields, tags: Array.from({ length: 33 }, () => 'a') })],
  ['a long title', dagCbor.encode({ ...fields, title: 'a'.repeat(121) })],
  ['a terminal escape', dagCbor.encode({ ...fields, title: '\u001b[2J' })],
  ['deep nesting', new Uint8Array(7_000).fill(0x81)],
  ['a lying length', Uint8Array.of(0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)],
  ['a large array', Uint8Array.of(0x9a, 0x7f, 0xff, 0xff, 0xff)],
]

test.each(hostile)('%s under a good signature is a Rejection', async (_name, payload) => {
  const read = await readListing(await seal(LISTING_DOMAIN, payload, key), now)
  expect(read).toMatchObject({ type: 'malformed' })
})

test('a listing over the limit is refused unread', async () => {
  expect(await readListing(new Uint8Array(LISTING_BYTES_LIMIT + 1), now)).toMatchObject({
    type: 'oversized',
  })
})

test('a field named __proto__ reaches no prototype', async () => {
  const payload = dagCbor.encode({ ...fields, ['__proto__']: { polluted: true } })
  const read = (await readListing(await seal(LISTING_DOMAIN, payload, key), now)) as object
  expect('polluted' in read).toBe(false)
  expect('polluted' in {}).toBe(false)
})
