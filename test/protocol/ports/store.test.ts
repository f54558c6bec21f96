import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import * as dagPb from '@ipld/dag-pb'
import { tcp } from '@libp2p/tcp'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import type { Blockstore } from 'interface-blockstore'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import { afterEach, describe, expect, test } from 'vitest'
import { Fault } from '../../../protocol/errors.ts'
import { type ManifestDraft, readManifest, writeManifest } from '../../../protocol/manifest.ts'
import { libp2pDefaults } from '../../../protocol/ports/libp2p.ts'
import { type FetchProgress, type OpenStore, openStore } from '../../../protocol/ports/store.ts'
import { randomFrom } from '../../../protocol/random.ts'
import { anyPort, newKey } from '../../support/libp2p.ts'
import { tableVersion } from '../../support/versions.ts'

type Opened = OpenStore<Record<string, unknown>>
type Files = ReadonlyMap<string, Uint8Array>

const opened: Opened[] = []
afterEach(async () => {
  for (const store of opened.splice(0).reverse()) await store.close()
})

const CHUNK = 1024 * 1024
/** A wait for something that must not come. */
const NOTHING_LIMIT_MS = 1_000

test('a version is one UnixFS directory: CIDv1, raw leaves of 1 MiB', async () => {
  const files = await tableVersion({}, { hidden: 300_000 })
  const { store, helia } = await open()
  const root = CID.parse(await store.addVersion(files))
  expect(root.toString()).toMatch(/^bafybei/)
  const links = dagPb.decode(await blockOf(helia, root)).Links
  expect(links.map(({ Name }) => Name)).toEqual([...files.keys()])
  const shard = links.find(({ Name }) => Name === 'group1-shard1of2.bin')!
  const leaves = dagPb.decode(await blockOf(helia, shard.Hash)).Links
  expect(leaves.map(({ Tsize, Hash }) => [Tsize, Hash.code])).toEqual(
    Array(4).fill([CHUNK, raw.code]),
  )
  expect(links.find(({ Name }) => Name === 'labels.txt')!.Hash.code).toBe(raw.code)
})

test('a peer fetches a version from a peer that has it, says how far it is, and serves it on', async () => {
  const files = await tableVersion({}, { hidden: 300_000 })
  const [first, second, third] = [await open(), await open(), await open()]
  const cid = await first.store.addVersion(files)
  const seen: FetchProgress[] = []
  const version = await second.store.fetchVersion(cid, {
    providers: addressesOf(first),
    onProgress: (now) => seen.push(now),
  })
  for (const [path, bytes] of files)
    expect(digestOf(await version.read(path))).toBe(digestOf(bytes))
  const total = [...files.values()].reduce((sum, bytes) => sum + bytes.length, 0)
  expect(seen.at(-1)).toEqual({ bytes: total, total, providers: 1 })
  expect(seen.length).toBeGreaterThan(7)
  expect(await second.store.has(cid)).toBe(true)
  expect(await second.store.versions()).toMatchObject([
    { cid, name: 'tiny', version: '1.0.0', genesis: cid },
  ])
  await first.close()
  await third.store.fetchVersion(cid, { providers: addressesOf(second) })
  expect(digestOf(await third.store.readFile(cid, 'labels.txt'))).toBe(
    digestOf(files.get('labels.txt')!),
  )
})

test('of two holders each sends some blocks of a version, and none twice', async () => {
  const files = await tableVersion({}, { hidden: 300_000 })
  const shelves = [new CountingBlockstore(), new CountingBlockstore()]
  const holders = [await open(shelves[0]), await open(shelves[1])]
  const stranger = await open()
  const cid = await holders[0]!.store.addVersion(files)
  await holders[1]!.store.addVersion(files)
  const blocks = await blockCount(holders[0]!)
  const newcomer = await open()
  for (const other of [stranger, ...holders])
    await newcomer.libp2p.dial(other.libp2p.getMultiaddrs())
  for (const shelf of shelves) shelf.given.length = 0
  await newcomer.store.fetchVersion(cid, { providers: holders.flatMap(addressesOf) })
  const given = shelves.flatMap((shelf) => shelf.given)
  expect(given.length).toBe(blocks)
  expect(new Set(given).size).toBe(blocks)
  for (const shelf of shelves) expect(shelf.given.length).toBeGreaterThan(1)
  expect(await blockCount(stranger)).toBe(0)
})

test('a holder that takes the question and sends nothing is passed over for another', async () => {
  const mute = new CountingBlockstore()
  const [silent, holder, newcomer] = [await open(mute), await open(), await open()]
  const cid = await silent.store.addVersion(await tableVersion())
  await holder.store.addVersion(await tableVersion())
  const { promise, resolve } = Promise.withResolvers<void>()
  mute.holdBack = promise
  for (const other of [silent, holder]) await newcomer.libp2p.dial(other.libp2p.getMultiaddrs())
  await newcomer.store.fetchVersion(cid, { providers: [silent, holder].flatMap(addressesOf) })
  expect(await newcomer.store.has(cid)).toBe(true)
  resolve() // its Helia holds a lock that all of this process share
})

test('a fetch does not wait for a provider that takes the call and says nothing', async () => {
  const [first, second] = [await open(), await open()]
  const cid = await first.store.addVersion(await tableVersion())
  const lines: Socket[] = []
  const mute = createServer((line) => lines.push(line)).listen(0, '127.0.0.1')
  try {
    await once(mute, 'listening')
    await second.libp2p.dial(first.libp2p.getMultiaddrs())
    const { port } = mute.address() as AddressInfo
    const called = once(mute, 'connection')
    const gone = `/ip4/127.0.0.1/tcp/${port}/p2p/${(await newKey()).publicKey}`
    await second.store.fetchVersion(cid, { providers: [gone] })
    await called
    expect(lines.map(({ readableEnded }) => readableEnded)).toEqual([false])
  } finally {
    for (const line of lines) line.destroy()
    mute.close()
  }
})

test('a version that is here is read with nobody connected', async () => {
  const { store } = await open()
  const cid = await store.addVersion(await tableVersion())
  const { manifest } = await store.fetchVersion(cid)
  expect(manifest.name).toBe('tiny')
})

test('nobody reachable is a network Fault, at once', async () => {
  const { store } = await open()
  const nobody = '/ip4/127.0.0.1/tcp/9/p2p/12D3KooWJDwWc1wTDhBqvcbuJ8kkFmaaoDVW6bbGkSxVyUfEsARx'
  const fault = await faultOf(
    store.fetchVersion((await rawBlock('nothing')).cid.toString(), { providers: [nobody] }),
  )
  expect(fault.detail).toMatchObject({ kind: 'network', type: 'no-provider' })
})

test('a fetch stops when its signal says so', async () => {
  const [first, second] = [await open(), await open()]
  await second.libp2p.dial(first.libp2p.getMultiaddrs())
  const missing = (await rawBlock('nobody has this')).cid.toString()
  await expect(
    second.store.fetchVersion(missing, { signal: AbortSignal.timeout(100) }),
  ).rejects.toThrow(/timeout/i)
})

test('a version larger than allowed is refused before its files are fetched', async () => {
  const [first, second] = [await open(), await open()]
  const cid = await first.store.addVersion(await tableVersion({}, { hidden: 100_000 }))
  const providers = addressesOf(first)
  const large = await faultOf(second.store.fetchVersion(cid, { providers, maxBytes: 100_000 }))
  expect(large.detail).toMatchObject({ kind: 'verification', type: 'too-large' })
  const hungry = await faultOf(second.store.fetchVersion(cid, { providers, memoryBytes: 100_000 }))
  expect(hungry.detail).toMatchObject({ kind: 'verification', type: 'too-much-memory' })
  expect(await second.store.has(cid)).toBe(false)
  expect(await blockCount(second)).toBeLessThan(5)
})

test('a replica sends two random blocks itself; a peer that lacks them does not pass for one', async () => {
  const [first, second, third] = [await open(), await open(), await open()]
  const cid = await first.store.addVersion(await tableVersion())
  await second.store.fetchVersion(cid, { providers: addressesOf(first) })
  await third.libp2p.dial(first.libp2p.getMultiaddrs())
  const random = randomFrom(1)
  expect(await first.store.answers(second.libp2p.peerId.toString(), cid, random)).toBe(true)
  const soon = AbortSignal.timeout(NOTHING_LIMIT_MS)
  const answer = first.store.answers(third.libp2p.peerId.toString(), cid, random, soon)
  expect(await answer.catch(() => false)).toBe(false)
})

test('what never entered the store is not served: a data file and a checkpoint by their CIDs', async () => {
  const [first, second] = [await open(), await open()]
  const cid = await first.store.addVersion(await tableVersion())
  await second.store.fetchVersion(cid, { providers: addressesOf(first) })
  for (const secret of ['x,y,z,label\n1,2,3,yes\n', 'MLSTORE checkpoint params']) {
    const { cid } = await rawBlock(secret)
    expect(await first.helia.blockstore.has(cid)).toBe(false)
    const asked = collectBlock(second, cid, AbortSignal.timeout(NOTHING_LIMIT_MS))
    await expect(asked).rejects.toThrow()
  }
})

test('a disk that is full stops a fetch at once, says so, and keeps no version', async () => {
  const [first, second] = [await open(), await open(new FullBlockstore())]
  const cid = await first.store.addVersion(await tableVersion())
  await expect(second.store.fetchVersion(cid, { providers: addressesOf(first) })).rejects.toThrow(
    /ENOSPC/,
  )
  await expect(second.store.addVersion(await tableVersion())).rejects.toThrow(/ENOSPC/)
  expect(await second.store.versions()).toEqual([])
})

test('a child is checked against its genesis, and that is told with it', async () => {
  const [owner, reader, offline] = [await open(), await open(), await open()]
  const genesis = await owner.store.addVersion(await tableVersion())
  const change = { genesis, parents: [genesis], version: '1.1.0', title: 'Another title' }
  const child = await owner.store.addVersion(await tableVersion(change, { seed: 2 }))
  const providers = addressesOf(owner)
  const version = await reader.store.fetchVersion(child, { providers })
  expect(version.genesis).toMatchObject({ version: '1.0.0', title: 'A tiny table' })
  expect((await reader.store.fetchVersion(child)).genesis).toEqual(version.genesis)
  expect((await reader.store.fetchVersion(genesis, { providers })).genesis?.version).toBe('1.0.0')
  // Where nobody has the genesis, the child is what its CID says, and no more is known.
  const orphan = await offline.store.addVersion(await tableVersion(change, { seed: 2 }))
  expect(orphan).toBe(child)
  expect((await offline.store.fetchVersion(orphan)).genesis).toBeUndefined()
})

test.each<[string, Partial<ManifestDraft>, number, string]>([
  [
    'another shape',
    {},
    5,
    'tensor 0 is layer0/kernel [3,5] trainable, expected layer0/kernel [3,4] trainable as in',
  ],
  [
    'another label',
    { output: { kind: 'classes', labels: ['no', 'maybe'] } },
    4,
    'label 1 is "maybe", expected "yes" as in',
  ],
  [
    'labels in another order',
    { output: { kind: 'classes', labels: ['yes', 'no'] } },
    4,
    'label 0 is "yes", expected "no" as in',
  ],
  [
    'another column',
    { input: { kind: 'table', columns: ['x', 'y', 'w'], dtype: 'float32' } },
    4,
    'column 2 is "w", expected "z" as in',
  ],
  [
    'another number in its preprocessing',
    { preprocess: [{ op: 'standardize', mean: [0, 0, 0.5], std: [1, 1, 1] }] },
    4,
    'preprocessing step 0, mean 2 is 0.5, expected 0 as in',
  ],
  [
    'one step of preprocessing more',
    {
      preprocess: [
        { op: 'standardize', mean: [0, 0, 0], std: [1, 1, 1] },
        { op: 'scale', multiply: 2 },
      ],
    },
    4,
    'preprocessing step 1 is scale by 2 and add 0, expected none as in',
  ],
  [
    'no preprocessing',
    { preprocess: [] },
    4,
    'preprocessing step 0 is missing, expected standardize as in',
  ],
])(
  'a child of its genesis with %s is refused, and nothing of it is kept',
  async (_, draft, hidden, says) => {
    const [owner, liar, reader] = [await open(), await open(), await open()]
    const genesis = await owner.store.addVersion(await tableVersion())
    const files = await tableVersion({ ...draft, genesis, parents: [genesis] }, { hidden })
    const child = await liar.store.addVersion(files)
    await reader.libp2p.dial(owner.libp2p.getMultiaddrs())
    const fault = await faultOf(reader.store.fetchVersion(child, { providers: addressesOf(liar) }))
    expect(fault.detail.type).toBe('not-of-its-genesis')
    expect(fault.exitCode).toBe(7)
    expect(fault.message).toBe(`mlstore.json: ${says} its genesis ${genesis}`)
    expect(await reader.store.versions()).toEqual([])
    expect(await blockCount(reader)).toBe(0)
    // Whoever has the genesis does not even make such a child.
    expect((await faultOf(owner.store.addVersion(files))).message).toBe(fault.message)
  },
)

test('a child whose genesis is a child itself is refused', async () => {
  const { store } = await open()
  const genesis = await store.addVersion(await tableVersion())
  const child = { genesis, parents: [genesis], version: '1.1.0' }
  const middle = await store.addVersion(await tableVersion(child))
  const fault = await faultOf(
    store.addVersion(await tableVersion({ ...child, genesis: middle, version: '1.2.0' })),
  )
  expect(fault.message).toBe(
    `mlstore.json: genesis ${middle} is itself a child of ${genesis}, expected a first version`,
  )
})

test('removing a version drops its blocks and leaves what another version shares, however often', async () => {
  const only = await open()
  const { store, helia } = only
  const same = new TextEncoder().encode('x,y,z,label\n1,2,3,no\n')
  const extra = new Map([...'ab'].map((name) => [`eval/${name}.csv`, same]))
  const one = await store.addVersion(await tableVersion({}, { extra }))
  const before = Date.now()
  const two = await store.addVersion(await tableVersion({ version: '1.1.0' }, { extra }))
  await store.remove(one)
  expect(await helia.blockstore.has(CID.parse(one))).toBe(false)
  expect(await store.versions()).toMatchObject([{ cid: two, keptAt: expect.any(Number) }])
  expect((await store.versions())[0]!.keptAt).toBeGreaterThanOrEqual(before)
  const version = await store.fetchVersion(two)
  expect(await version.read('eval/b.csv')).toEqual(same)
  await store.remove(two)
  expect(await blockCount(only)).toBe(0)
})

test('removing a version that is damaged asks nobody, and leaves nothing', async () => {
  const only = await open()
  const { store, helia } = only
  const cid = await store.addVersion(await tableVersion({}, { hidden: 300_000 }))
  const shard = dagPb
    .decode(await blockOf(helia, CID.parse(cid)))
    .Links.find(({ Name }) => Name === 'group1-shard1of2.bin')!
  const [leaf] = dagPb.decode(await blockOf(helia, shard.Hash)).Links
  await bareBlocksOf(only).delete(leaf!.Hash)
  await store.remove(cid)
  expect(await store.versions()).toEqual([])
  expect(await blockCount(only)).toBe(0)
})

test('removing a version leaves what another fetch has so far', async () => {
  const [first, second] = [await open(), await open()]
  const one = await second.store.addVersion(await tableVersion())
  const two = await first.store.addVersion(await tableVersion({}, { hidden: 300_000, seed: 2 }))
  let removing: Promise<number> | undefined
  await second.store.fetchVersion(two, {
    providers: addressesOf(first),
    onProgress() {
      removing ??= second.store.remove(one).then(() => blockCount(second))
    },
  })
  // The directory, two files of several blocks, the manifest and the model.
  expect(await removing).toBeGreaterThanOrEqual(5)
  expect(await second.store.has(one)).toBe(false)
})

describe('a hostile directory is refused, nothing of it is kept:', () => {
  const cases: [
    name: string,
    build: (server: Opened, files: Files) => Promise<CID>,
    type: string,
    says: RegExp,
  ][] = [
    [
      'a file that climbs',
      async (server, files) =>
        directory(server, [...(await leavesOf(server, files)), await leaf(server, '..', 'x')]),
      'wrong-path',
      /holds "\.\."/,
    ],
    [
      'a hidden file',
      async (server, files) =>
        directory(server, [...(await leavesOf(server, files)), await leaf(server, '.ssh', 'x')]),
      'wrong-path',
      /\.ssh/,
    ],
    [
      'an extra file',
      async (server, files) =>
        directory(server, [...(await leavesOf(server, files)), await leaf(server, 'evil.js', 'x')]),
      'extra-file',
      /evil\.js is not among/,
    ],
    [
      'a missing file',
      async (server, files) =>
        directory(
          server,
          (await leavesOf(server, files)).filter(({ Name }) => Name !== 'labels.txt'),
        ),
      'missing-file',
      /labels\.txt is missing/,
    ],
    [
      'a changed file of the same size',
      async (server, files) =>
        directory(
          server,
          await leavesOf(server, new Map([...files, ['labels.txt', new Uint8Array(7)]])),
        ),
      'wrong-hash',
      /labels\.txt has sha256/,
    ],
    [
      'a file of another size',
      async (server, files) =>
        directory(
          server,
          await leavesOf(server, new Map([...files, ['labels.txt', new Uint8Array(9)]])),
        ),
      'wrong-size',
      /labels\.txt has 9 bytes, expected 7/,
    ],
    [
      'a link that understates its block',
      async (server, files) =>
        directory(
          server,
          (await leavesOf(server, new Map([...files, ['labels.txt', new Uint8Array(5_000)]]))).map(
            (link) => (link.Name === 'labels.txt' ? { ...link, Tsize: 7 } : link),
          ),
        ),
      'wrong-size',
      /has 5000 bytes, expected 7/,
    ],
    [
      'a folder in a folder',
      async (server, files) => {
        const inner = await directory(server, [await leaf(server, 'a', 'x')])
        const middle = await directory(server, [{ Name: 'b', Hash: inner, Tsize: 1 }])
        return directory(server, [
          ...(await leavesOf(server, files)),
          { Name: 'c', Hash: middle, Tsize: 1 },
        ])
      },
      'wrong-layout',
      /is no file of blocks/,
    ],
    [
      'a file that is itself',
      async (server, files) => {
        const node = await directory(server, [], Uint8Array.of(8, 2))
        return directory(server, [
          ...(await leavesOf(server, files)),
          { Name: 'labels2.txt', Hash: node, Tsize: 1 },
        ])
      },
      'wrong-layout',
      /is no file of blocks/,
    ],
    [
      'no manifest',
      async (server, files) =>
        directory(
          server,
          (await leavesOf(server, files)).filter(({ Name }) => Name !== 'mlstore.json'),
        ),
      'missing-file',
      /has no mlstore\.json/,
    ],
    [
      'a manifest of a megabyte',
      async (server) => directory(server, [await leaf(server, 'mlstore.json', ' '.repeat(1e6))]),
      'wrong-manifest',
      /has 1000000 bytes, expected at most 65536/,
    ],
    [
      'a single block',
      async (server) => await put(server, raw, new Uint8Array(3)),
      'wrong-layout',
      /codec 0x55/,
    ],
    [
      'a manifest of a later major',
      async (server, files) =>
        directory(
          server,
          await leavesOf(server, new Map([...files, ['mlstore.json', bytesOf('{"manifest":2}')]])),
        ),
      'unknown-manifest',
      /major 2/,
    ],
    [
      'an unknown layer',
      async (server, files) => directory(server, await leavesOf(server, withLambda(files))),
      'unknown-layer',
      /"Lambda"/,
    ],
  ]
  test.each(cases)('%s', async (_, build, type, says) => {
    const [server, client] = [await open(), await open()]
    const cid = await build(server, await tableVersion())
    const fault = await faultOf(
      client.store.fetchVersion(cid.toString(), { providers: addressesOf(server) }),
    )
    expect(fault.detail).toMatchObject({ kind: 'verification', type })
    expect(fault.message).toMatch(says)
    expect(await blockCount(client)).toBe(0)
  })
})

/** Says which blocks were read from it; gives none before `holdBack` is done. */
class CountingBlockstore extends MemoryBlockstore {
  given: string[] = []
  holdBack: Promise<void> = Promise.resolve()
  override async *get(cid: CID): AsyncGenerator<Uint8Array> {
    await this.holdBack
    this.given.push(cid.toString())
    yield* super.get(cid)
  }
}

/** A blockstore that says what blockstore-fs says when a disk is full. */
class FullBlockstore extends MemoryBlockstore {
  override put(): never {
    throw Object.assign(new Error('Error: ENOSPC: no space left on device, write'), {
      name: 'PutFailedError',
    })
  }
}

async function open(blockstore = new MemoryBlockstore()): Promise<Opened> {
  const libp2p = libp2pDefaults({
    privateKey: await newKey(),
    transports: [tcp()],
    listen: [anyPort],
    relay: false,
    gossip: false,
    dialLocal: true,
  })
  const store = await openStore({
    libp2p,
    blockstore,
    datastore: new MemoryDatastore(),
  })
  opened.push(store as unknown as Opened)
  return store as unknown as Opened
}

function addressesOf({ libp2p }: Opened): string[] {
  return libp2p.getMultiaddrs().map(String)
}

async function put({ helia }: Opened, codec: { code: number }, block: Uint8Array): Promise<CID> {
  return helia.blockstore.put(CID.createV1(codec.code, await sha256.digest(block)), block)
}

async function rawBlock(text: string): Promise<{ cid: CID; block: Uint8Array }> {
  const block = bytesOf(text)
  return { cid: CID.createV1(raw.code, await sha256.digest(block)), block }
}

async function leaf(
  server: Opened,
  Name: string,
  content: string | Uint8Array,
): Promise<dagPb.PBLink> {
  const block = typeof content === 'string' ? bytesOf(content) : content
  return { Name, Tsize: block.length, Hash: await put(server, raw, block) }
}

async function leavesOf(server: Opened, files: Files): Promise<dagPb.PBLink[]> {
  return Promise.all([...files].map(([path, bytes]) => leaf(server, path, bytes)))
}

async function directory(
  server: Opened,
  links: dagPb.PBLink[],
  data = Uint8Array.of(8, 1),
): Promise<CID> {
  return put(server, dagPb, dagPb.encode(dagPb.prepare({ Data: data, Links: links })))
}

/** A version whose files are all as its manifest says, with a layer that nobody should build. */
function withLambda(files: Files): Files {
  const model = bytesOf(
    new TextDecoder().decode(files.get('model.json')).replace('"Dense"', '"Lambda"'),
  )
  const manifest = readManifest(files.get('mlstore.json')!)
  const listed = manifest.files.map((file) =>
    file.path === 'model.json' ? { ...file, bytes: model.length, sha256: digestOf(model) } : file,
  )
  return new Map([
    ...files,
    ['model.json', model],
    ['mlstore.json', writeManifest({ ...manifest, files: listed })],
  ])
}

async function collectBlock(
  { helia }: Opened,
  cid: CID,
  signal: AbortSignal,
): Promise<Uint8Array[]> {
  return Array.fromAsync(helia.blockstore.get(cid, { signal }))
}

async function blockOf(helia: Opened['helia'], cid: CID): Promise<Uint8Array> {
  return Buffer.concat(await Array.fromAsync(helia.blockstore.get(cid)))
}

/** Without Helia's watch over what is pinned. */
function bareBlocksOf({ helia }: Opened): Blockstore {
  return (helia.blockstore as unknown as { unwrap(): Blockstore }).unwrap()
}

async function blockCount({ helia }: Opened): Promise<number> {
  return (await Array.fromAsync(helia.blockstore.getAll())).length
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof Fault) return error
  throw new Error(`expected a Fault, got ${error}`, { cause: error })
}
