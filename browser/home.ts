/**
 * Home: what this browser keeps of one peer, in IndexedDB. Its keys, what it holds and whom it met; never a person's data.
 *
 *   keys         Ed25519, each wrapped by a key of this browser's that no script can read
 *   blocks       blocks of versions, served to whoever asks      datastore   Helia's: what of them is pinned
 *   config       peers met, for a start with no bootstrap        listings    the listings this peer knows
 *
 * Tabs of one profile share all of it but the peer's key: the first one is that peer, any other is a peer for as long as it is open.
 */
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import { IDBDatastore } from 'datastore-idb'
import { createStore, get, set, type UseStore, update } from 'idb-keyval'
import type { Blockstore } from 'interface-blockstore'
import type { Datastore } from 'interface-datastore'
import { Fault } from '../protocol/errors.ts'
import { RoomyBlockstore } from './blocks.ts'
import { takeLock, whenFree } from './lock.ts'
import { pageFault } from './words.ts'

export interface Home {
  peerKey: Ed25519PrivateKey
  /** The owner's key, made on first use: most people never publish. Throws Fault `damaged-key`; nothing takes its place unasked. */
  ownerKey(): Promise<Ed25519PrivateKey>
  /** Whose key that is, as a peer id; undefined before there is one. */
  owner(): Promise<string | undefined>
  /** Puts another in its place; the one before is gone. */
  setOwnerKey(key: Ed25519PrivateKey): Promise<void>
  /** Whether anything outlives this page. */
  isKept: boolean
  blockstore: Blockstore
  datastore: Datastore
  config: HomeConfig
  /** Changes it here at once, and what is kept as another tab left that. */
  changeConfig(change: (config: HomeConfig) => HomeConfig): Promise<void>
  readListings(): Promise<Uint8Array | undefined>
  saveListings(snapshot: Uint8Array): Promise<void>
  /** When somebody last told them, milliseconds since 1970. */
  readListedAt(): Promise<number | undefined>
  saveListedAt(at: number): Promise<void>
}

export interface HomeConfig {
  /** Addresses of bootstraps and peers met, the last met first. */
  peers: string[]
  /** Addresses the person gave, the last named first. */
  joined: string[]
}

/** Opens it, and makes what is missing. Where this browser keeps nothing, all of it is gone with the page. */
export async function openHome(): Promise<Home> {
  return (await openKept().catch(() => undefined)) ?? openForgetful()
}

async function openKept(): Promise<Home | undefined> {
  if (typeof indexedDB === 'undefined') return undefined
  const store = createStore('mlstore', 'home')
  const blockstore = new RoomyBlockstore('mlstore-blocks')
  const datastore = new IDBDatastore('mlstore-data')
  await Promise.all([blockstore.open(), datastore.open()])
  const isFirst = (await takeLock('mlstore-peer')) !== undefined
  const home: Home = {
    // A damaged one stays where it is: this visit does without.
    peerKey:
      (await (isFirst ? keyIn(store, 'peer').catch(isDamaged) : undefined)) ??
      (await generateKeyPair('Ed25519')),
    ownerKey: () => whenFree('mlstore-owner', () => keyIn(store, 'owner')),
    owner: async () => (await heldIn(store, 'owner'))?.publicKey.toString(),
    setOwnerKey: (key) => whenFree('mlstore-owner', () => putKey(store, 'owner', key)),
    isKept: true,
    blockstore,
    datastore,
    config: configFrom(await get('config', store)),
    async changeConfig(change) {
      home.config = change(home.config)
      await update<HomeConfig>('config', (kept) => change(configFrom(kept)), store)
    },
    readListings: () => get('listings', store),
    saveListings: (snapshot) => set('listings', snapshot, store),
    readListedAt: () => get('listedAt', store),
    saveListedAt: (at) => set('listedAt', at, store),
  }
  return home
}

async function openForgetful(): Promise<Home> {
  let listings: Uint8Array | undefined
  let listedAt: number | undefined
  let owner: Promise<Ed25519PrivateKey> | undefined
  const home: Home = {
    peerKey: await generateKeyPair('Ed25519'),
    ownerKey() {
      owner ??= generateKeyPair('Ed25519')
      return owner
    },
    owner: async () => (await owner)?.publicKey.toString(),
    async setOwnerKey(key) {
      owner = Promise.resolve(key)
    },
    isKept: false,
    blockstore: new MemoryBlockstore(),
    datastore: new MemoryDatastore(),
    config: { peers: [], joined: [] },
    async changeConfig(change) {
      home.config = change(home.config)
    },
    readListings: async () => listings,
    async saveListings(snapshot) {
      listings = snapshot
    },
    readListedAt: async () => listedAt,
    async saveListedAt(at) {
      listedAt = at
    },
  }
  return home
}

interface Wrapped {
  iv: Uint8Array<ArrayBuffer>
  bytes: ArrayBuffer
}

/** The key of this name, made where there is none. */
async function keyIn(store: UseStore, name: string): Promise<Ed25519PrivateKey> {
  const held = await heldIn(store, name)
  if (held) return held
  const key = await generateKeyPair('Ed25519')
  await putKey(store, name, key)
  return key
}

/** AES-GCM by a CryptoKey that was made not extractable: who copies the database without this browser has nothing. */
async function putKey(store: UseStore, name: string, key: Ed25519PrivateKey): Promise<void> {
  const wrapping = await wrappingKey(store)
  const iv = crypto.getRandomValues(new Uint8Array(12))
  const plain = Uint8Array.from(privateKeyToProtobuf(key))
  const bytes = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, wrapping, plain)
  await set(`${name}.key`, { iv, bytes } satisfies Wrapped, store)
}

/** Undefined where there is none. Throws Fault `damaged-key`, and leaves the record as it is. */
async function heldIn(store: UseStore, name: string): Promise<Ed25519PrivateKey | undefined> {
  const held: Wrapped | undefined = await get(`${name}.key`, store)
  if (!held) return undefined
  try {
    const { iv, bytes } = held
    const plain = await crypto.subtle.decrypt(
      { name: 'AES-GCM', iv },
      await wrappingKey(store),
      bytes,
    )
    const key = privateKeyFromProtobuf(new Uint8Array(plain))
    if (key.type === 'Ed25519') return key
  } catch (error) {
    throw damaged(name, error)
  }
  throw damaged(name)
}

/** Of what a damaged record leads to, nothing; everything else is thrown on. */
function isDamaged(error: unknown): undefined {
  if (error instanceof Fault && error.detail.type === 'damaged-key') return undefined
  throw error
}

function damaged(name: string, cause?: unknown): Fault {
  return pageFault('verification', 'damaged-key', { name }, cause)
}

async function wrappingKey(store: UseStore): Promise<CryptoKey> {
  const held: unknown = await get('wrapping', store)
  if (held instanceof CryptoKey) return held
  const made = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, [
    'encrypt',
    'decrypt',
  ])
  // Another tab may have made one meanwhile, and wrapped by it: the first one stays.
  await update<unknown>('wrapping', (found) => (found instanceof CryptoKey ? found : made), store)
  return (await get<CryptoKey>('wrapping', store))!
}

function configFrom(found: Partial<HomeConfig> | undefined): HomeConfig {
  const list = (value: unknown) =>
    Array.isArray(value) ? value.filter((item) => typeof item === 'string') : []
  return { peers: list(found?.peers), joined: list(found?.joined) }
}
