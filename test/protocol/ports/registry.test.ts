import * as dagCbor from '@ipld/dag-cbor'
import type { PrivateKey } from '@libp2p/interface'
import { lpStream } from '@libp2p/utils'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { afterEach, describe, expect, test } from 'vitest'
import { Fault } from '../../../protocol/errors.ts'
import {
  type Listing,
  type ListingDraft,
  readListing,
  signListing,
} from '../../../protocol/listing.ts'
import { type Card, readCard, signCard } from '../../../protocol/message.ts'
import type { Node } from '../../../protocol/ports/libp2p.ts'
import {
  createListingBook,
  LISTING_PROTOCOL,
  type ListingBook,
  registryClient,
  type ServeOptions,
  serveRegistry,
} from '../../../protocol/ports/registry.ts'
import { newKey, nodes } from '../../support/libp2p.ts'

const all = nodes()
afterEach(all.stop)
const now = Date.now()
const owner = await newKey()
const stranger = await newKey()

async function cidOf(text: string): Promise<string> {
  return CID.createV1(0x55, await sha256.digest(new TextEncoder().encode(text))).toString()
}
const genesis = await cidOf('genesis')

async function signed(
  change: Partial<ListingDraft> = {},
  key: PrivateKey = owner,
): Promise<Uint8Array> {
  const draft: ListingDraft = {
    name: 'digits',
    title: 'Handwritten digits',
    task: 'image-classification',
    tags: ['sample'],
    labels: ['zero', 'one'],
    genesis,
    version: genesis,
    manifestVersion: '1.0.0',
    bytes: 1,
    sequence: 1,
    ...change,
  }
  return signListing(draft, key, now)
}

function newBook(): ListingBook<Card> {
  return createListingBook({ readCard, random: () => 0 })
}

async function bootstrap(
  options: ServeOptions = {},
): Promise<{ node: Node; book: ListingBook<Card> }> {
  const node = await all.start()
  const book = newBook()
  await serveRegistry(node, book, options)
  return { node, book }
}

async function clientOf(...bootstraps: { node: Node }[]) {
  const node = await all.start({ listen: [] })
  const client = await registryClient(node, { readCard })
  const found = bootstraps.map(({ node: { peerId } }) =>
    inReach(client.registries, peerId.toString(), node),
  )
  for (const { node: server } of bootstraps) await node.dial(server.getMultiaddrs())
  await Promise.all(found)
  return { node, client }
}

/** Resolves when the client has learned that this peer is a registry: identify tells it after the dial. */
function inReach(
  registries: () => { toString(): string }[],
  id: string,
  node: Node,
): Promise<void> {
  const isThere = () => registries().some((peer) => peer.toString() === id)
  return new Promise((resolve) => {
    const look = () => queueMicrotask(() => isThere() && resolve())
    for (const name of ['peer:identify', 'peer:update'] as const)
      node.addEventListener(name, () => setImmediate(look))
    look()
  })
}

describe('a book', () => {
  test('keeps the highest sequence of each owner and never lets one key replace another', async () => {
    const book = newBook()
    const [first, second] = [await signed(), await signed({ sequence: 2, title: 'Newer' })]
    expect(await book.put(first, now)).toEqual({ type: 'stored' })
    expect(await book.put(first, now)).toEqual({ type: 'known' })
    expect(await book.put(second, now)).toEqual({ type: 'stored' })
    expect(await book.put(first, now)).toMatchObject({ type: 'outdated' })
    expect(
      await book.put(await signed({ sequence: 99, title: 'Mine now' }, stranger), now),
    ).toEqual({ type: 'stored' })
    const titles = book
      .search({ owner: owner.publicKey.toString() }, now)
      .entries.map(({ listing }) => listing.title)
    expect(titles).toEqual(['Newer'])
  })

  test('finds by words, name, task, tag, label and genesis, whatever the case', async () => {
    const book = newBook()
    await book.put(await signed(), now)
    await book.put(
      await signed({
        name: 'iris',
        title: 'Iris flowers',
        genesis: await cidOf('iris'),
        task: 'tabular-classification',
        tags: ['Botany'],
        labels: ['setosa'],
      }),
      now,
    )
    const names = (query: Parameters<typeof book.search>[0]) =>
      book.search(query, now).entries.map(({ listing }) => listing.name)
    expect(names({})).toEqual(['digits', 'iris'])
    expect(names({ query: 'HANDwritten' })).toEqual(['digits'])
    expect(names({ query: 'flowers botany' })).toEqual(['iris'])
    expect(names({ query: 'flowers digits' })).toEqual([])
    expect(names({ tag: 'botany' })).toEqual(['iris'])
    expect(names({ label: 'Zero' })).toEqual(['digits'])
    expect(names({ task: 'tabular-classification' })).toEqual(['iris'])
    expect(names({ name: 'digits' })).toEqual(['digits'])
    expect(names({ genesis })).toEqual(['digits'])
    expect(names({ limit: 1, offset: 1 })).toEqual(['iris'])
  })

  test('forgets what has expired', async () => {
    const book = newBook()
    await book.put(await signed({ expiresAt: now + 1_000 }), now)
    expect(book.search({}, now + 999).total).toBe(1)
    expect(book.search({}, now + 1_000).total).toBe(0)
    expect(book.counts().listings).toBe(1)
    expect(book.search({}, now + 100_000).total).toBe(0)
    expect(book.counts().listings).toBe(0)
  })

  test('comes back from its snapshot, without what expired or broke meanwhile', async () => {
    const book = newBook()
    await book.put(await signed({ expiresAt: now + 1_000 }), now)
    await book.put(await signed({ genesis: await cidOf('other') }), now)
    const again = newBook()
    expect(await again.restore(book.snapshot(), now + 2_000)).toEqual({ restored: 1, dropped: 1 })
    const broken = dagCbor.encode({ snapshot: 1, listings: [new Uint8Array(300)] })
    expect(await again.restore(broken, now)).toEqual({ restored: 0, dropped: 1 })
    await expect(again.restore(new Uint8Array(10), now)).rejects.toThrow()
  })

  test('takes a card from its own peer only, and hands it out until it expires', async () => {
    const book = newBook()
    const card = await signCard(cardOf(owner, 1), owner)
    const peer = owner.publicKey.toString()
    expect(await book.putCard(card, now, stranger.publicKey.toString())).toMatchObject({
      type: 'wrong-peer',
    })
    expect(await book.putCard(card, now, peer)).toEqual({ type: 'stored' })
    expect(await book.putCard(await signCard(cardOf(owner, 1), owner), now, peer)).toEqual({
      type: 'known',
    })
    expect(await book.putCard(await signCard(cardOf(owner, 2), stranger), now, peer)).toMatchObject(
      { type: 'wrong-signer' },
    )
    expect(book.cards(genesis, now).map((held) => held.card.peer)).toEqual([peer])
    expect(book.cards(await cidOf('other'), now)).toEqual([])
    expect(book.cards(genesis, now + 60_000)).toEqual([])
  })

  test('keeps the card of a peer that left while it names a way of its own, and no other', async () => {
    const book = newBook()
    const relayed = '/ip4/192.0.2.1/tcp/1/ws/p2p-circuit/webrtc'
    const direct = '/ip4/192.0.2.2/tcp/1'
    for (const [key, addresses] of [
      [owner, [relayed, direct]],
      [stranger, [relayed]],
    ] as const) {
      const card = { ...cardOf(key, 1), addresses: [...addresses] }
      await book.putCard(await signCard(card, key), now)
    }
    for (const key of [owner, stranger]) book.left(key.publicKey.toString())
    const left = book.cards(genesis, now).map(({ card }) => card.peer)
    expect(left).toEqual([owner.publicKey.toString()])
  })
})

describe('a registry', () => {
  test('lists what was put, page by page, and introduces peers by their cards', async () => {
    const server = await bootstrap()
    const { client, node } = await clientOf(server)
    const listings = await Promise.all(
      Array.from({ length: 120 }, async (_, i) =>
        signed({ name: `model-${i}`, genesis: await cidOf(`${i}`) }),
      ),
    )
    expect(await client.put(listings)).toEqual({
      accepted: [server.node.peerId.toString()],
      refused: [],
    })
    const nothing = await client.list({ query: 'no such model' })
    expect(nothing).toMatchObject({ listings: [], total: 0 })
    const page = await client.list({ offset: 100, limit: 50 })
    expect(page).toMatchObject({ total: 120, lies: [], unreachable: [] })
    expect(page.listings).toHaveLength(20)

    const other = await clientOf(server)
    const card = await signCard(
      { ...cardOf(owner, 1), peer: node.peerId.toString() },
      await keyOf(node),
    )
    expect(await client.putCard(card)).toBe(1)
    const found = await other.client.cards(genesis)
    expect(found.cards.map((held) => held.card.peer)).toEqual([node.peerId.toString()])
    expect(found.answered).toEqual([server.node.peerId.toString()])
    expect((await client.cards(genesis)).cards).toEqual([])
  })

  test('answers over a relayed connection too', async () => {
    const relay = await all.start({ relay: true })
    const hidden = await all.start({ listen: [`${relay.getMultiaddrs()[0]}/p2p-circuit`] })
    const book = newBook()
    await book.put(await signed(), now)
    await serveRegistry(hidden, book)
    const peer = await all.start({ listen: [] })
    const client = await registryClient(peer, { readCard })
    const found = inReach(client.registries, hidden.peerId.toString(), peer)
    await peer.dial(hidden.getMultiaddrs())
    await found
    expect((await client.list({})).listings.map(({ listing }) => listing.name)).toEqual(['digits'])
  })

  const wrong: [string, Uint8Array][] = [
    ['nothing at all', new Uint8Array(0)],
    ['garbage', new Uint8Array(100).fill(255)],
    ['half a frame', Uint8Array.of(200, 1, 1, 2, 3)],
    ['a frame that claims 2 GB', Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x07, 1, 2, 3)],
    ['a length that never ends', new Uint8Array(64).fill(0x80)],
    ['an empty frame', Uint8Array.of(0)],
    ['another map', framed({ type: 'drop-tables' })],
    ['a list with a negative offset', framed({ type: 'list', offset: -1, limit: 1 })],
    ['a list without end', framed({ type: 'list', offset: 0, limit: 1_000_000 })],
    [
      '51 listings',
      framed({ type: 'put', listings: Array.from({ length: 51 }, () => new Uint8Array(1)) }),
    ],
    ['deep nesting', Uint8Array.of(0xa0, 0x1f, ...new Uint8Array(4_000).fill(0x81))],
    ['more than a frame may hold', new Uint8Array(400_000).fill(0x7f)],
  ]

  test.each(wrong)('that is sent %s goes on answering others', async (_name, bytes) => {
    const server = await bootstrap()
    await server.book.put(await signed(), now)
    const { client, node } = await clientOf(server)
    const stream = await node.dialProtocol(server.node.getMultiaddrs(), LISTING_PROTOCOL)
    const ended = new Promise((resolve) => stream.addEventListener('close', resolve))
    stream.send(bytes)
    await stream.close().catch(() => {})
    await ended
    expect((await client.list({})).listings).toHaveLength(1)
    expect(server.book.counts()).toEqual({ listings: 1, cards: 0 })
  })

  test('refuses wrong listings one by one and keeps the good one beside them', async () => {
    const server = await bootstrap()
    const { client } = await clientOf(server)
    const good = await signed()
    const changed = good.slice()
    changed[60] = changed[60]! ^ 1
    const { refused } = await client.put([changed, good, new Uint8Array(20)])
    expect(refused).toHaveLength(2)
    expect(server.book.counts().listings).toBe(1)
  })

  test('asks a peer in a hurry to wait, and a patient client gets its answer', async () => {
    const server = await bootstrap({ quotaPerConnection: { burst: 1, perSecond: 20 } })
    await server.book.put(await signed(), now)
    const { client } = await clientOf(server)
    const answers = await Promise.all([client.list({}), client.list({})])
    expect(answers.map(({ listings }) => listings.length)).toEqual([1, 1])
  })

  test('that nobody reaches is a Fault with exit code 4', async () => {
    const { client } = await clientOf()
    const thrown = await client.list({}).catch((error: unknown) => error)
    expect(thrown).toBeInstanceOf(Fault)
    expect((thrown as Fault).exitCode).toBe(4)
  })
})

describe('three bootstraps with 1,000 listings, one of them lying', () => {
  test('give every listing as its owner signed it, and the liar is named', async () => {
    const servers = [await bootstrap(), await bootstrap(), await bootstrap()]
    const { client } = await clientOf(...servers)
    const listings = await Promise.all(
      Array.from({ length: 1_000 }, async (_, i) =>
        signed({
          name: `model-${String(i).padStart(4, '0')}`,
          genesis: await cidOf(`${i}`),
          sequence: 5,
        }),
      ),
    )
    expect((await client.put(listings)).accepted).toHaveLength(3)

    const [, , liar] = servers as [Served, Served, Served]
    const victim = (await readListing(listings[7]!, now)) as Listing
    const forged = listings[7]!.slice()
    forged[80] = forged[80]! ^ 1
    const usurper = await signed(
      { name: victim.name, genesis: victim.genesis, sequence: 999, title: 'Better digits' },
      stranger,
    )
    const old = await signed({
      name: victim.name,
      genesis: victim.genesis,
      sequence: 1,
      title: 'Old',
    })
    liar.book.search = lyingSearch(liar.book, victim.genesis, [forged, usurper, old])

    const found = await client.list(
      { limit: 2_000 },
      { ownerOf: async () => owner.publicKey.toString() },
    )
    expect(found.listings).toHaveLength(1_000)
    expect(
      found.listings.every(({ listing }) => listing.owner === owner.publicKey.toString()),
    ).toBe(true)
    expect(found.listings.every(({ listing }) => listing.sequence === 5)).toBe(true)
    expect(new Set(found.lies.map(({ registry }) => registry))).toEqual(
      new Set([liar.node.peerId.toString()]),
    )
    expect(found.lies.map(({ type }) => type).sort()).toEqual(['bad-signature', 'not-the-owner'])

    const unasked = await client.list({ genesis: victim.genesis })
    expect(unasked.listings.map(({ contested }) => contested)).toEqual([true, true])
  })

  test('a registry that answers with what was not asked, too much or nonsense is named', async () => {
    const honest = await bootstrap()
    await honest.book.put(await signed(), now)
    const other = await signed({ name: 'iris', genesis: await cidOf('iris') })
    const beside = await bootstrap()
    beside.book.search = () => ({ total: 1, entries: [{ bytes: other } as never] })
    const nonsense = await all.start()
    await nonsense.handle(LISTING_PROTOCOL, async (stream) => {
      await lpStream(stream).write(new Uint8Array(40))
    })
    const { client } = await clientOf(honest, beside, { node: nonsense })
    const found = await client.list({ name: 'digits' })
    expect(found.listings.map(({ listing }) => listing.name)).toEqual(['digits'])
    expect(found.lies.map(({ type, registry }) => [type, registry]).sort()).toEqual([
      ['malformed', nonsense.peerId.toString()],
      ['not-asked', beside.node.peerId.toString()],
    ])
  })

  test('the death of two leaves the third, and anyone may give a fresh one its listings back', async () => {
    const servers = [await bootstrap(), await bootstrap(), await bootstrap()]
    const { client, node } = await clientOf(...servers)
    const listing = await signed()
    await client.put(listing)
    await servers[0]!.node.stop()
    await servers[1]!.node.stop()
    expect((await client.list({})).listings).toHaveLength(1)

    const fresh = await bootstrap()
    const found = inReach(client.registries, fresh.node.peerId.toString(), node)
    await node.dial(fresh.node.getMultiaddrs())
    await found
    const put: number[] = []
    fresh.book.put = counted(fresh.book.put, put)
    await client.replenish([listing, await signed({ name: 'iris', genesis: await cidOf('iris') })])
    expect(fresh.book.counts().listings).toBe(2)
    await client.replenish([listing])
    expect(put).toHaveLength(2)
  })
})

type Served = { node: Node; book: ListingBook<Card> }

function lyingSearch(
  book: ListingBook,
  about: string,
  lies: Uint8Array[],
): ListingBook<Card>['search'] {
  const honest = book.search
  return (query, at) => {
    const page = honest(query, at)
    const entries = page.entries.flatMap((entry) =>
      entry.listing.genesis === about ? lies.map((bytes) => ({ ...entry, bytes })) : [entry],
    )
    return { total: page.total, entries: entries.slice(0, query.limit) }
  }
}

function counted<A extends unknown[], R>(
  work: (...args: A) => R,
  calls: number[],
): (...args: A) => R {
  return (...args) => {
    calls.push(calls.length)
    return work(...args)
  }
}

function framed(value: unknown): Uint8Array {
  const body = dagCbor.encode(value)
  return Uint8Array.of((body.length & 127) | 128, body.length >>> 7, ...body)
}

function cardOf(key: PrivateKey, sequence: number): Card {
  return {
    peer: key.publicKey.toString(),
    genesis,
    version: genesis,
    phase: 'training',
    round: 1,
    steps: 10,
    codecs: ['int8'],
    addresses: [],
    load: 0,
    sequence,
    expiresAt: now + 60_000,
  }
}

async function keyOf(node: Node): Promise<PrivateKey> {
  return (node as unknown as { components: { privateKey: PrivateKey } }).components.privateKey
}
