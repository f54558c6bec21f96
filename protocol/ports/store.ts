/**
 * Store: version directories on Helia, and nothing else. Bitswap serves every block the store holds to whoever
 * asks, so only what is meant for everyone enters it: never training data, checkpoints or drafts.
 *
 * A version is one UnixFS directory, CIDv1, raw leaves of 1 MiB. The reader here accepts exactly the layout the
 * writer makes, so a hostile directory is refused by its links before its bytes are fetched.
 */
import { withBitswap } from '@helia/bitswap'
import type { GraphNode, GraphWalker, Helia } from '@helia/interface'
import { withLibp2pLight } from '@helia/libp2p'
import * as dagCbor from '@ipld/dag-cbor'
import * as dagPb from '@ipld/dag-pb'
import type { Libp2p, ServiceMap } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { createHeliaLight } from 'helia'
import type { Blockstore } from 'interface-blockstore'
import type { Datastore } from 'interface-datastore'
import type { Libp2pOptions } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { concat, equals } from 'uint8arrays'
import { Fault } from '../errors.ts'
import type { FaultFacts } from '../facts.ts'
import {
  bytesOf,
  MANIFEST_FILE,
  MAX_FILES,
  MAX_MANIFEST_BYTES,
  MAX_VERSION_BYTES,
  type Manifest,
  pathPattern,
  readManifest,
} from '../manifest.ts'
import { type Random, shuffle } from '../random.ts'
import { blockReader, collect, type GetBlock, isStorageError, sendsAll } from './blocks.ts'
import { checkGenesis } from './genesis.ts'
import { inParallel } from './parallel.ts'
import type { TopologyLimits } from './trainer/topology.ts'
import { type CheckedVersion, checkModel, checkVersion, type VersionFiles } from './version.ts'
import { within } from './within.ts'

export interface Store {
  /**
   * Adds and keeps a version that passed checkVersion; gives its CID. Nothing of it stays when that fails. Throws a Fault
   * where its genesis is here and has other tensors, preprocessing or labels.
   */
  addVersion(files: ReadonlyMap<string, Uint8Array>): Promise<string>
  /**
   * A version from here or from peers, checked against its manifest, and that against its genesis' where anybody has that,
   * and kept. See FetchOptions.
   */
  fetchVersion(cid: string, options?: FetchOptions): Promise<StoredVersion>
  /** One version's manifest alone: what `show` needs. Keeps nothing for good. */
  fetchManifest(cid: string, options?: FetchOptions): Promise<Manifest>
  /** One file outside a version, as a manifest may name by CID; `maxBytes` at most. */
  fetchFile(cid: string, options: FetchOptions & { maxBytes: number }): Promise<Uint8Array>
  /** A file of a version that is kept here. */
  readFile(cid: string, path: string): Promise<Uint8Array>
  /** Whether a version is kept here, whole. */
  has(cid: string): Promise<boolean>
  /** What is kept here. */
  versions(): Promise<KeptVersion[]>
  /**
   * Drops a version and every block that only it needed; what is left of fetches that did not end goes too, unless one is
   * under way. Asks nobody.
   */
  remove(cid: string): Promise<void>
  /** Whether `peer` sends two random blocks of a version that we hold ourselves: what makes it a replica. */
  answers(peer: string, cid: string, random: Random, signal?: AbortSignal): Promise<boolean>
}

export interface FetchOptions {
  /** Addresses of peers that hold it, dialled first: bitswap never looks two hops away. */
  providers?: readonly string[]
  /** Refused before the download when the files are larger together. */
  maxBytes?: number
  /** Refused before the download when training would not fit; no limit when absent. */
  memoryBytes?: number
  onProgress?: (progress: FetchProgress) => void
  signal?: AbortSignal
}

export interface FetchProgress {
  bytes: number
  total: number
  /** Peers connected that could answer. */
  providers: number
}

export interface StoredVersion extends VersionFiles {
  cid: string
  manifest: Manifest
  checked: CheckedVersion
  /** The manifest of its genesis, its own for a first version; undefined when nobody has it any more. */
  genesis: Manifest | undefined
}

export interface KeptVersion {
  cid: string
  name: string
  version: string
  /** The CID that names its swarm; its own for a genesis. */
  genesis: string
  bytes: number
  /** Milliseconds since 1970; undefined for what was kept before that was noted. */
  keptAt: number | undefined
}

export interface OpenStore<S extends ServiceMap> {
  libp2p: Libp2p<S>
  helia: Helia
  store: Store
  /** Stops Helia and libp2p. Stores passed in are the caller's to close. */
  close(): Promise<void>
}

const CHUNK_BYTES = 1024 * 1024
/** Leaves below one file node; the importer's own limit. A file is at most 1 GiB. */
const MAX_LEAVES = 1024
/** Blocks asked for at once: at the limit above, 4 MiB in 20 s is the slowest link that can fetch. */
const BLOCKS_AT_ONCE = 4
/** Of a version that comes, in memory until it is checked; the rest of a larger one is read again. */
const HELD_BYTES = 64 * 1024 * 1024
/** One bitswap message either way; libp2p's 10 s cut off links under 2 Mbit/s. */
const MESSAGE_LIMIT_MS = 60_000
/** The two blocks of a genesis' manifest, while a child of it is fetched. */
const GENESIS_LIMIT_MS = 20_000
const ASKED_BLOCKS = 2
/** A block asked for again this soon was sent already; Helia's 5 s would stall whoever dropped it and asks anew. */
const RESEND_AFTER_MS = 500

/**
 * Starts libp2p with Helia's bitswap on it. `libp2p` are complete options (libp2pDefaults); no service outside is
 * ever dialled.
 */
export async function openStore<S extends ServiceMap>(init: {
  libp2p: Libp2pOptions<S>
  blockstore: Blockstore
  datastore: Datastore
}): Promise<OpenStore<S>> {
  const { blockstore, datastore } = init
  const light = createHeliaLight({ blockstore, datastore, codecs: [dagCbor] })
  const helia = withBitswap(withLibp2pLight<Helia, S>(light, init.libp2p), {
    messageReceiveTimeout: MESSAGE_LIMIT_MS,
    messageSendTimeout: MESSAGE_LIMIT_MS,
    sendBlocksTimeout: MESSAGE_LIMIT_MS,
    doNotResendBlockWindow: RESEND_AFTER_MS,
  })
  await helia.start()
  return {
    libp2p: helia.libp2p,
    helia,
    store: storeOver(helia, helia.libp2p as Libp2p),
    close: async () => {
      await helia.stop()
    },
  }
}

/** The store over a started Helia. */
export function storeOver(helia: Helia, libp2p: Libp2p): Store {
  const reader = (options: FetchOptions) => blockReader(helia, libp2p, options)
  const local = (cid: CID) => collect(helia.blockstore.get(cid, { offline: true }))
  const findGenesis = (manifest: Manifest, { providers, signal }: FetchOptions) => {
    return within(GENESIS_LIMIT_MS, signal, (limit) =>
      genesisOf(manifest, reader({ ...(providers && { providers }), signal: limit })),
    )
  }

  const keep = async (cid: CID, manifest: Manifest) => {
    const { name, version } = manifest
    const metadata = {
      name,
      version,
      genesis: manifest.genesis ?? cid.toString(),
      bytes: bytesOf(manifest),
      keptAt: Date.now(),
    }
    if (await isKept(helia, cid)) return
    const blocks = await blocksBelow(cid, local)
    const walker = () => walkerOver(blocks)
    for await (const _ of helia.pins.add(cid, { metadata, walker }));
  }

  /** Versions whose blocks come in and are not pinned yet. */
  let arriving = 0

  const store: Store = {
    async addVersion(files) {
      const manifest = readManifest(files.get(MANIFEST_FILE) ?? new Uint8Array())
      await genesisOf(manifest, local)
      arriving++
      try {
        const root = await importAll(helia, files)
        await keep(root, manifest)
        return root.toString()
      } catch (error) {
        await helia.gc().catch(() => undefined)
        throw error
      } finally {
        arriving--
      }
    },

    async fetchVersion(cidText, options = {}) {
      const cid = parseCid(cidText)
      const kept = await isKept(helia, cid)
      const report = (bytes: number, total: number) =>
        options.onProgress?.({ bytes, total, providers: libp2p.getPeers().length })
      const held = holding(reader(options))
      arriving++
      try {
        // What is kept was checked when it came: opening it asks nobody, unless it is known whom.
        const find = (manifest: Manifest) =>
          kept && !options.providers?.length
            ? genesisOf(manifest, local)
            : findGenesis(manifest, options)
        const { version, genesis } = await fetchTree(cid, held.get, options, report, find)
        const limits: TopologyLimits = {
          memoryBytes: options.memoryBytes ?? Number.POSITIVE_INFINITY,
          batchSize: 1,
        }
        const checked = await checkVersion(version, limits)
        await keep(cid, checked.manifest)
        return { ...version, cid: cid.toString(), manifest: checked.manifest, checked, genesis }
      } catch (error) {
        if (isForeign(error) && !kept) await helia.gc()
        throw error
      } finally {
        held.drop()
        arriving--
      }
    },

    async fetchManifest(cidText, options = {}) {
      const cid = parseCid(cidText)
      return (await fetchRoot(cid, reader(options))).manifest
    },

    async fetchFile(cidText, options) {
      const cid = parseCid(cidText)
      const get = reader(options)
      const file = await fileAt(cid, get)
      const size = file.reduce((sum, leaf) => sum + leaf.bytes, 0)
      if (size > options.maxBytes)
        throw wrong(
          'too-large',
          { bytes: size, limitBytes: options.maxBytes },
          `${cid} holds ${size} bytes, expected at most ${options.maxBytes}`,
        )
      return concat(await Promise.all(file.map((leaf) => getLeaf(leaf, get))))
    },

    async readFile(cidText, path) {
      const { files } = await treeOf(parseCid(cidText), local)
      return readLeaves(files, path, local)
    },

    has: (cid) => isKept(helia, parseCid(cid)),

    async versions() {
      const kept: KeptVersion[] = []
      for await (const { cid, metadata } of helia.pins.ls()) {
        const { name, version, genesis, bytes, keptAt } = metadata as Record<
          string,
          string | number
        >
        kept.push({
          cid: cid.toString(),
          name: `${name}`,
          version: `${version}`,
          genesis: `${genesis}`,
          bytes: Number(bytes),
          keptAt: keptAt === undefined ? undefined : Number(keptAt),
        })
      }
      return kept
    },

    async remove(cidText) {
      const cid = parseCid(cidText)
      const blocks = await blocksBelow(cid, local)
      if (await isKept(helia, cid))
        for await (const _ of helia.pins.rm(cid, { walker: () => walkerOver(blocks) }));
      const blockstore = bareBlocksOf(helia)
      for (const block of blocks)
        if (!(await helia.pins.isPinned(block))) await blockstore.delete(block)
      if (arriving === 0) await helia.gc()
    },

    async answers(peer, cidText, random, signal) {
      const { files, nodes } = await treeOf(parseCid(cidText), local)
      const blocks = [...nodes, ...[...files.values()].flat().map((leaf) => leaf.cid)]
      return sendsAll(
        helia,
        peerIdFromString(peer),
        shuffle(random, blocks).slice(0, ASKED_BLOCKS),
        signal,
      )
    },
  }
  return store
}

/**
 * What failed its check is dropped, so that it is not served to others. What was interrupted, or is sound but too much
 * for this machine, may stay: the next attempt goes on from there.
 */
function isForeign(error: unknown): boolean {
  if (!(error instanceof Fault) || error.detail.kind !== 'verification') return false
  return error.detail.type !== 'too-large' && error.detail.type !== 'too-much-memory'
}

/** A leaf of a file: where its bytes are and how many. */
interface Leaf {
  cid: CID
  bytes: number
}

interface Tree {
  files: Map<string, Leaf[]>
  /** Directories and file nodes: every block that is no leaf. */
  nodes: CID[]
}

/** UnixFS: a protobuf whose only field says directory. */
const DIRECTORY_DATA = Uint8Array.of(8, 1)

/**
 * Remembers what it got, HELD_BYTES at most, until it is told to drop that: a version is read to be checked as soon as it is
 * here, and what IndexedDB has just taken it gives back slowly.
 */
function holding(get: GetBlock): { get: GetBlock; drop(): void } {
  const held = new Map<string, Uint8Array>()
  let room = HELD_BYTES
  return {
    async get(cid) {
      const key = cid.toString()
      const block = held.get(key) ?? (await get(cid))
      if (!held.has(key) && block.length <= room) {
        held.set(key, block)
        room -= block.length
      }
      return block
    },
    drop() {
      room = 0
      held.clear()
    },
  }
}

/** Everything of a version into the blockstore: manifest first, the model checked next, then the rest. */
async function fetchTree(
  cid: CID,
  get: GetBlock,
  options: FetchOptions,
  report: (bytes: number, total: number) => void,
  find: (manifest: Manifest) => Promise<Manifest | undefined>,
): Promise<{ version: VersionFiles; genesis: Manifest | undefined }> {
  const { manifest, manifestBytes } = await fetchRoot(cid, get)
  const total = bytesOf(manifest)
  const most = Math.min(options.maxBytes ?? MAX_VERSION_BYTES, MAX_VERSION_BYTES)
  if (total > most)
    throw wrong(
      'too-large',
      { bytes: total, limitBytes: most },
      `version ${cid} holds ${total} bytes, expected at most ${most}`,
    )
  const { files } = await treeOf(cid, get)
  checkTree(files, manifest)
  const version = filesFrom(files, get)
  const limits = { memoryBytes: options.memoryBytes ?? Number.POSITIVE_INFINITY, batchSize: 1 }
  checkModel(await version.read('model.json'), manifest, limits)
  // Beside the params: nothing is lost where nobody has it, and no more is fetched once it says another thing.
  let wrongChild: unknown
  const finding = find(manifest).catch((error: unknown) => {
    wrongChild = error
  })
  let bytes = manifestBytes
  const leaves = [...files].filter(([path]) => path !== MANIFEST_FILE).flatMap(([, list]) => list)
  await inParallel(BLOCKS_AT_ONCE, leaves, async (leaf) => {
    if (wrongChild) throw wrongChild
    await getLeaf(leaf, get)
    bytes += leaf.bytes
    report(bytes, total + manifestBytes)
  })
  const genesis = await finding
  options.signal?.throwIfAborted()
  if (wrongChild) throw wrongChild
  return { version, genesis: genesis ?? undefined }
}

/**
 * The manifest of a version's genesis, which the version is checked against; its own for a first version. Undefined when
 * nobody sends it. Throws a Fault when it differs, or is none.
 */
async function genesisOf(manifest: Manifest, get: GetBlock): Promise<Manifest | undefined> {
  if (manifest.genesis === undefined) return manifest
  let genesis: Manifest
  try {
    genesis = (await fetchRoot(parseCid(manifest.genesis), get)).manifest
  } catch (error) {
    const isFound = error instanceof Fault && error.detail.kind === 'verification'
    if (isFound || isStorageError(error)) throw error
    return undefined
  }
  checkGenesis(manifest, manifest.genesis, genesis)
  return genesis
}

/** The manifest of a version, with two blocks fetched. */
async function fetchRoot(
  cid: CID,
  get: GetBlock,
): Promise<{ manifest: Manifest; manifestBytes: number }> {
  const link = linksOf(await get(cid), cid).find(({ Name }) => Name === MANIFEST_FILE)
  if (link === undefined)
    throw wrong(
      'missing-file',
      { path: MANIFEST_FILE },
      `${cid} has no ${MANIFEST_FILE}, expected a version directory`,
    )
  const leaf = leafOf(link, cid)
  if (leaf.bytes > MAX_MANIFEST_BYTES) {
    throw wrong(
      'wrong-manifest',
      {},
      `${MANIFEST_FILE} has ${leaf.bytes} bytes, expected at most ${MAX_MANIFEST_BYTES}`,
    )
  }
  return { manifest: readManifest(await getLeaf(leaf, get)), manifestBytes: leaf.bytes }
}

/** The files of a version by their links; fetches directories and file nodes, no leaf. */
async function treeOf(root: CID, get: GetBlock): Promise<Tree> {
  const tree: Tree = { files: new Map(), nodes: [] }
  await readDirectory(root, '', get, tree)
  return tree
}

async function readDirectory(cid: CID, prefix: string, get: GetBlock, tree: Tree): Promise<void> {
  tree.nodes.push(cid)
  for (const link of linksOf(await get(cid), cid)) {
    const path = `${prefix}${link.Name}`
    const isFolderName = prefix === '' && pathPattern.test(`${link.Name}/x`)
    if (!pathPattern.test(path) || tree.files.has(path) || tree.files.size > MAX_FILES) {
      throw wrong(
        'wrong-path',
        { path },
        `${cid} holds ${JSON.stringify(path)}, expected at most ${MAX_FILES} distinct file names, one folder deep`,
      )
    }
    if (link.Hash.code === raw.code) tree.files.set(path, [leafOf(link, cid)])
    else if (isFolderName && isDirectory(await get(link.Hash)))
      await readDirectory(link.Hash, `${path}/`, get, tree)
    else {
      tree.nodes.push(link.Hash)
      tree.files.set(path, await fileAt(link.Hash, get))
    }
  }
}

/** The blocks under one, itself first, each once however often it is linked; those under a node that is not here are left out. */
async function blocksBelow(root: CID, get: GetBlock): Promise<CID[]> {
  const found = new Map<string, CID>()
  const visit = async (cid: CID) => {
    if (found.has(cid.toString())) return
    found.set(cid.toString(), cid)
    if (cid.code !== dagPb.code) return
    const links = await get(cid).then(
      (block) => dagPb.decode(block).Links,
      () => [],
    )
    for (const { Hash } of links) await visit(Hash)
  }
  await visit(root)
  return [...found.values()]
}

/**
 * Helia's own walker takes a block as often as it is linked, so that unpinning counts one down twice that was counted up once,
 * and what another version shares is lost; it asks peers for what is missing, and reads every leaf, which takes seconds of a
 * model of 60 MB in IndexedDB.
 */
function walkerOver(blocks: readonly CID[]): GraphWalker {
  return {
    async *walk<T>() {
      for (const cid of blocks)
        yield { block: { cid }, depth: 0, path: [] } as unknown as GraphNode<T>
    },
  }
}

/** The leaves of a file: itself when it is one block, else 1 MiB each but the last. */
async function fileAt(cid: CID, get: GetBlock): Promise<Leaf[]> {
  if (cid.code === raw.code) return [{ cid, bytes: (await get(cid)).length }]
  const node = decodeNode(await get(cid), cid)
  const leaves = node.Links.map((link) => leafOf(link, cid))
  const whole = leaves.slice(0, -1).every(({ bytes }) => bytes === CHUNK_BYTES)
  if (isDirectory(node) || leaves.length < 2 || leaves.length > MAX_LEAVES || !whole) {
    throw wrong(
      'wrong-layout',
      { cid: cid.toString() },
      `${cid} is no file of blocks of ${CHUNK_BYTES} bytes, expected 2 to ${MAX_LEAVES} of them`,
    )
  }
  return leaves
}

function leafOf(link: dagPb.PBLink, parent: CID): Leaf {
  const bytes = link.Tsize ?? -1
  if (link.Hash.code !== raw.code || link.Hash.version !== 1 || bytes < 0 || bytes > CHUNK_BYTES) {
    throw wrong(
      'wrong-layout',
      { cid: parent.toString() },
      `${parent} links ${link.Hash} of ${bytes} bytes, expected a raw block of at most ${CHUNK_BYTES}`,
    )
  }
  return { cid: link.Hash, bytes }
}

async function getLeaf({ cid, bytes }: Leaf, get: GetBlock): Promise<Uint8Array> {
  const block = await get(cid)
  if (block.length === bytes) return block
  throw wrong(
    'wrong-size',
    { path: cid.toString(), bytes: block.length, expected: bytes },
    `block ${cid} has ${block.length} bytes, expected ${bytes} as its link says`,
  )
}

function linksOf(block: Uint8Array, cid: CID): dagPb.PBLink[] {
  const node = decodeNode(block, cid)
  if (isDirectory(node)) return node.Links
  throw wrong(
    'wrong-layout',
    { cid: cid.toString() },
    `${cid} is no UnixFS directory, expected a version directory`,
  )
}

function decodeNode(block: Uint8Array, cid: CID): dagPb.PBNode {
  if (cid.code === dagPb.code) {
    try {
      return dagPb.decode(block)
    } catch (error) {
      throw wrong(
        'wrong-layout',
        { cid: cid.toString() },
        `${cid} is no dag-pb node: ${(error as Error).message}`,
        error,
      )
    }
  }
  throw wrong(
    'wrong-layout',
    { cid: cid.toString() },
    `${cid} is of codec 0x${cid.code.toString(16)}, expected a UnixFS node (0x70)`,
  )
}

function isDirectory(node: dagPb.PBNode | Uint8Array): boolean {
  try {
    const { Data } = node instanceof Uint8Array ? dagPb.decode(node) : node
    return Data !== undefined && equals(Data, DIRECTORY_DATA)
  } catch {
    return false
  }
}

/** Names and sizes by links alone, before any leaf is fetched. */
function checkTree(files: ReadonlyMap<string, Leaf[]>, manifest: Manifest): void {
  const extra = [...files.keys()].find(
    (path) => path !== MANIFEST_FILE && !manifest.files.some((file) => file.path === path),
  )
  if (extra !== undefined)
    throw wrong(
      'extra-file',
      { path: extra },
      `${extra} is not among the files of ${MANIFEST_FILE}, expected only those`,
    )
  for (const { path, bytes } of manifest.files) {
    const leaves = files.get(path)
    if (leaves === undefined)
      throw wrong(
        'missing-file',
        { path },
        `${path} is missing, expected as ${MANIFEST_FILE} lists it`,
      )
    const size = leaves.reduce((sum, leaf) => sum + leaf.bytes, 0)
    if (size !== bytes)
      throw wrong(
        'wrong-size',
        { path, bytes: size, expected: bytes },
        `${path} has ${size} bytes, expected ${bytes}`,
      )
  }
}

function filesFrom(files: ReadonlyMap<string, Leaf[]>, get: GetBlock): VersionFiles {
  return { paths: async () => [...files.keys()], read: (path) => readLeaves(files, path, get) }
}

async function readLeaves(
  files: ReadonlyMap<string, Leaf[]>,
  path: string,
  get: GetBlock,
): Promise<Uint8Array> {
  const leaves = files.get(path)
  if (leaves === undefined)
    throw new Fault({
      kind: 'not-found',
      type: 'file-not-found',
      message: `no file ${path} in this version`,
      hint: `its files are those that ${MANIFEST_FILE} lists`,
      path,
    })
  const blocks: Uint8Array[] = []
  for (const leaf of leaves) blocks.push(await getLeaf(leaf, get))
  return blocks.length === 1 ? blocks[0]! : concat(blocks)
}

/** Few ever write a version, so the writer is loaded only then. */
async function importAll(helia: Helia, files: ReadonlyMap<string, Uint8Array>): Promise<CID> {
  const { unixfs } = await import('@helia/unixfs')
  let root: CID | undefined
  const source = [...files].map(([path, content]) => ({ path, content }))
  for await (const { cid, path } of unixfs(helia).addAll(source, {
    wrapWithDirectory: true,
    cidVersion: 1,
    rawLeaves: true,
  })) {
    if (path === '') root = cid
  }
  if (root === undefined) throw new Error('the importer gave no root')
  return root
}

/** What lies under Helia's blockstore, whose own delete() fails where there is no content router to be told of it. */
function bareBlocksOf(helia: Helia): Blockstore {
  return (helia.blockstore as unknown as { unwrap(): Blockstore }).unwrap()
}

async function isKept(helia: Helia, cid: CID): Promise<boolean> {
  try {
    await helia.pins.get(cid)
    return true
  } catch (error) {
    if ((error as Error).name === 'NotFoundError') return false
    throw error
  }
}

/** A CIDv1 of dag-pb or raw blocks. Throws Fault `wrong-cid`. */
function parseCid(text: string): CID {
  try {
    return CID.parse(text).toV1()
  } catch (error) {
    throw new Fault(
      {
        kind: 'usage',
        type: 'wrong-cid',
        message: `got ${JSON.stringify(text)}, expected a CID such as bafybei...`,
        hint: 'copy the whole of it, as mlstore ls --json prints it',
        cid: text,
      },
      error,
    )
  }
}

function wrong<T extends keyof FaultFacts>(
  type: T,
  facts: FaultFacts[T],
  message: string,
  cause?: unknown,
): Fault {
  const hint = 'what these peers hold is not a version; nothing of it is kept or passed on'
  return new Fault<string>({ kind: 'verification', type, message, hint, ...facts }, cause)
}
