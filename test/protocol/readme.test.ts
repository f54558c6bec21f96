import { readFileSync } from 'node:fs'
import * as dagCbor from '@ipld/dag-cbor'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { expect, test } from 'vitest'
import { swap } from '../../protocol/aggregate/swap.ts'
import { int8 } from '../../protocol/codec/int8.ts'
import { codecs } from '../../protocol/codec/table.ts'
import { open } from '../../protocol/envelope.ts'
import { LISTING_DOMAIN } from '../../protocol/listing.ts'
import { manifestSchema } from '../../protocol/manifest.ts'
import {
  type BusyReason,
  CARD_DOMAIN,
  type Card,
  decodeFrameHeader,
  decodeMessage,
  encodeFrameHeader,
  encodeMessage,
  FRAME_HEADER_BYTES,
  isRejection,
  type Message,
  readCard,
  signCard,
} from '../../protocol/message.ts'
import type { TensorSpec } from '../../protocol/params.ts'
import {
  digestOf,
  PARAMS_PROTOCOL,
  SWAP_PROTOCOL,
  tensorList,
  topicOf,
} from '../../protocol/ports/network.ts'
import { LISTING_PROTOCOL } from '../../protocol/ports/registry.ts'
import { readSources } from '../support/sources.ts'
import {
  block,
  blockNames,
  bytesOf,
  firstColumn,
  limits,
  mentions,
  paramsOf,
  row,
} from '../support/specification.ts'

const sources = readSources()

/** protocol/README.md and the code say the same: every byte and every number of the page is compared with what runs. */

const tensors: TensorSpec[] = JSON.parse(block('json', 'tensor-list')).map(
  ([name, shape, role]: [string, number[], TensorSpec['role']]) => ({ name, shape, role }),
)
const genesis = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi'
const nonce = '000102030405060708090a0b0c0d0e0f'
const tensorsDigest = block('hex', 'tensors-digest')
const offererDigest = await digestOf(bytesOf('offerer-copy'))
const accepterDigest = await digestOf(bytesOf('accepter-copy'))

const messages: Message[] = [
  { type: 'offer', nonce, genesis, tensors: tensorsDigest, codec: 'int8', steps: 120 },
  { type: 'accept', nonce, steps: 40 },
  { type: 'params', nonce, bytes: 22, digest: offererDigest },
  { type: 'ready', nonce, digest: offererDigest },
  { type: 'commit', nonce, digest: accepterDigest },
  { type: 'busy', nonce, reason: 'budget' },
  { type: 'ask', nonce, genesis },
  { type: 'told', nonce, outcome: 'committed' },
  { type: 'pull', nonce, genesis, tensors: tensorsDigest, what: 'state', codec: 'float32' },
  { type: 'grant', nonce, steps: 120 },
]

const card: Card = {
  peer: '12D3KooWRawPbxPtP1eZaJpumGnyWX2DcUyd3RQnydr3eAto4Az7',
  ...{ genesis, version: genesis, phase: 'training', round: 3, steps: 120, codecs: ['int8'] },
  ...{ addresses: ['/ip4/192.0.2.1/tcp/4001'], load: 0.25, sequence: 7 },
  expiresAt: Date.UTC(2030, 0, 1, 0, 10),
}

test.for(messages)('$type stands in the specification byte for byte', (message) => {
  const body = encodeMessage(message)
  const header = encodeFrameHeader('message', body.length)
  expect(hex(header) + hex(body)).toBe(block('hex', message.type))
  expect(decodeMessage(bytesOf(message.type).subarray(FRAME_HEADER_BYTES))).toEqual(message)
  expect(decodeFrameHeader(bytesOf(message.type))).toEqual({ kind: 'message', length: body.length })
})

test('the table of messages names every type with its fields', () => {
  expect(firstColumn('| type | further fields | says |').toSorted()).toEqual(
    messages.map(({ type }) => type).toSorted(),
  )
  for (const message of messages) {
    const fields = Object.keys(message).filter((field) => field !== 'type' && field !== 'nonce')
    expect(row(message.type)[1]!.toSorted(), message.type).toEqual(fields.toSorted())
  }
})

test('the table of reasons names every reason', () => {
  const reasons: Record<BusyReason, true> = {
    ...{ busy: true, budget: true, 'in-doubt': true, crossed: true, paused: true },
    ...{ 'unknown-swarm': true, 'other-tensors': true, 'unknown-codec': true, 'no-swap': true },
  }
  expect(firstColumn('| reason | because |').toSorted()).toEqual(Object.keys(reasons).toSorted())
})

test('the worked example is what the code computes', async () => {
  expect(tensorList(tensors)).toBe(block('json', 'tensor-list'))
  expect(await digestOf(new TextEncoder().encode(tensorList(tensors)))).toBe(tensorsDigest)
  for (const role of ['offerer', 'accepter']) {
    expect(hex(int8.encode(paramsOf(`${role}-params`), tensors)), role).toBe(
      block('hex', `${role}-copy`),
    )
  }
  expect(hex(settled('offerer', 'accepter'))).toBe(block('hex', 'offerer-after'))
  expect(hex(settled('accepter', 'offerer'))).toBe(block('hex', 'accepter-after'))
  const data = encodeFrameHeader('data', bytesOf('offerer-copy').length)
  expect(hex(data) + block('hex', 'offerer-copy')).toBe(block('hex', 'data'))
  expect(hex(encodeFrameHeader('credit', 4))).toBe(block('hex', 'credit').slice(0, 8))
})

test('the card of the specification is read and written', async () => {
  const key = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(7))
  expect(hex(await signCard(card, key))).toBe(block('hex', 'card'))
  expect(await readCard(bytesOf('card'), Date.UTC(2030, 0, 1))).toEqual(card)
})

test('the tables of cards, listings and manifests name every field', async () => {
  const tables = ['`peer`', '`name`'].map((first) =>
    firstColumn('| field | is |', first).toSorted(),
  )
  expect(tables[0]).toEqual(Object.keys(card).toSorted())
  const golden = readFileSync(new URL('../golden/listing.hex', import.meta.url), 'utf8').trim()
  const listing = await open(LISTING_DOMAIN, Buffer.from(golden, 'hex'))
  if (isRejection(listing)) throw new Error(listing.message)
  expect(tables[1]).toEqual(Object.keys(dagCbor.decode(listing.payload)).toSorted())
  const fields = firstColumn('| field | says |').map((field) => field.replace('?', ''))
  expect(fields.toSorted()).toEqual(Object.keys(manifestSchema.entries).toSorted())
})

test('every block of bytes is one of these', () => {
  const checked = ['tensors-digest', 'offerer-copy', 'accepter-copy', 'data', 'credit', 'card']
  const names = [...messages.map(({ type }) => type), ...checked, 'offerer-after', 'accepter-after']
  expect(blockNames('hex').toSorted()).toEqual(names.toSorted())
})

test('protocol ids, topic and domains stand in the specification', () => {
  const names = [SWAP_PROTOCOL, PARAMS_PROTOCOL, LISTING_PROTOCOL, topicOf('<genesis>')]
  for (const name of [...names, CARD_DOMAIN, LISTING_DOMAIN]) {
    expect(mentions(`\`${name}\``), name).toBe(true)
  }
})

test.for(limits())('$limit is $value in $file too', ({ value, file, name }) => {
  expect(constant(`protocol/${file}`, name)).toBeCloseTo(value, 40)
})

test('the table of limits is read', () => {
  expect(limits().length).toBeGreaterThan(25)
})

test('the second peer imports nothing of ours', () => {
  const second = sources.filter(({ path }) => /^test\/second\/(?!.*\.test\.)/.test(path))
  const targets = second.flatMap(({ imports }) => imports.map(({ target }) => target))
  expect(targets.length).toBeGreaterThan(0)
  expect(
    targets.filter((target) =>
      /^(protocol|node|bootstrap|browser|test(?!\/second))\//.test(target),
    ),
  ).toEqual([])
})

/** One side's params after it settled the worked example, as float32. */
function settled(ours: string, theirs: string): Uint8Array {
  const state = swap.init(paramsOf(`${ours}-params`), { tensors, momentum: 0 })
  const copyOf = (role: string) => ({ codec: int8, bytes: bytesOf(`${role}-copy`) })
  swap.settle(state, copyOf(ours), [copyOf(theirs)])
  return codecs.float32.encode(state.params, tensors)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** The value of a constant, or of a field of one (`windowBytes.webrtc`), computed from its source: most are private. */
function constant(path: string, name: string): number {
  const { code = '' } = sources.find((source) => source.path === path) ?? {}
  const [whole, field] = name.split('.')
  const found = field
    ? code.match(new RegExp(`\\b${whole}\\b[^{;]*=\\s*\\{[^}]*\\b${field}: ([^,}\\n]+)`))
    : code.match(new RegExp(`^(?:export )?const ${name} =\\s+(.+)$`, 'm'))
  if (!found) throw new Error(`${path} has no constant ${name}`)
  return sumOf(found[1]!, path)
}

/** Sums of products of powers: all that our constants are made of. */
function sumOf(expression: string, path: string): number {
  const term = (text: string) => {
    if (/^[\d_.]+(e-?\d+)?$/.test(text)) return Number(text.replaceAll('_', ''))
    return constant(sources.find(({ path: at, code }) => isIn(at, path, code, text))!.path, text)
  }
  const power = (text: string) =>
    text.split(/\s*\*\*\s*/).reduceRight((high, low) => term(low) ** high, 1)
  const product = (text: string) =>
    text.split(/\s+\*\s+/).reduce((value, factor) => value * power(factor), 1)
  return expression
    .trim()
    .split(/\s+\+\s+/)
    .reduce((value, part) => value + product(part), 0)
}

/** Whether a file defines a constant that `user` can mean: its own, or one that is exported. */
function isIn(path: string, user: string, code: string, name: string): boolean {
  const own = path === user && code.includes(`const ${name} =`)
  return own || (path.startsWith('protocol/') && code.includes(`export const ${name} =`))
}
