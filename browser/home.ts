/**
 * Home: what this browser keeps of one peer, in IndexedDB. Its keys, what it holds and whom it met; never a person's data.
 *
 *   keys         Ed25519, each wrapped by a key of this browser's that no script can read
 *   blocks       blocks of versions, served to whoever asks      datastore   libp2p's and Helia's
 *   config       peers met, for a start with no bootstrap        listings    the listings this peer knows
 *
 * Tabs of one profile share all of it but the peer's key: the first one is that peer, any other is a peer for as long as it is open.
 */
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { MemoryBlockstore } from 'blockstore-core'
import { IDBBlockstore } from 'blockstore-idb'
import { MemoryDatastore } from 'datastore-core'
import { IDBDatastore } from 'datastore-idb'
import { createStore, get, set, type UseStore } from 'idb-keyval'
import type { Blockstore } from 'interface-blockstore'
import type { Datastore } from 'interface-datastore'
import { takeLock } from './lock.ts'

export interface Home {
  peerKey: Ed25519PrivateKey
  /** Whether anything outlives this page. */
  isKept: boolean
  blockstore: Blockstore
  datastore: Datastore
  config: HomeConfig
  saveConfig(config: HomeConfig): Promise<void>
  readListings(): Promise<Uint8Array | undefined>
  saveListings(snapshot: Uint8Array): Promise<void>
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
  const blockstore = new IDBBlockstore('mlstore-blocks')
  const datastore = new IDBDatastore('mlstore-data')
  await Promise.all([blockstore.open(), datastore.open()])
  const isFirst = (await takeLock('mlstore-peer')) !== undefined
  const home: Home = {
    peerKey: isFirst ? await keyIn(store, 'peer') : await generateKeyPair('Ed25519'),
    isKept: true,
    blockstore,
    datastore,
    config: configFrom(await get('config', store)),
    async saveConfig(config) {
      home.config = config
      await set('config', config, store)
    },
    readListings: () => get('listings', store),
    saveListings: (snapshot) => set('listings', snapshot, store),
  }
  return home
}

async function openForgetful(): Promise<Home> {
  let listings: Uint8Array | undefined
  const home: Home = {
    peerKey: await generateKeyPair('Ed25519'),
    isKept: false,
    blockstore: new MemoryBlockstore(),
    datastore: new MemoryDatastore(),
    config: { peers: [], joined: [] },
    async saveConfig(config) {
      home.config = config
    },
    readListings: async () => listings,
    async saveListings(snapshot) {
      listings = snapshot
    },
  }
  return home
}

interface Wrapped {
  iv: Uint8Array<ArrayBuffer>
  bytes: ArrayBuffer
}

/** AES-GCM by a CryptoKey that was made not extractable: who copies the database without this browser has nothing. */
async function keyIn(store: UseStore, name: string): Promise<Ed25519PrivateKey> {
  const wrapping = await wrappingKey(store)
  const held: Wrapped | undefined = await get(`${name}.key`, store)
  if (held) {
    const bytes = await crypto.subtle.decrypt(
      { name: 'AES-GCM', iv: held.iv },
      wrapping,
      held.bytes,
    )
    const key = privateKeyFromProtobuf(new Uint8Array(bytes))
    if (key.type === 'Ed25519') return key
  }
  const key = await generateKeyPair('Ed25519')
  const iv = crypto.getRandomValues(new Uint8Array(12))
  const plain = Uint8Array.from(privateKeyToProtobuf(key))
  const bytes = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, wrapping, plain)
  await set(`${name}.key`, { iv, bytes } satisfies Wrapped, store)
  return key
}

async function wrappingKey(store: UseStore): Promise<CryptoKey> {
  const held: CryptoKey | undefined = await get('wrapping', store)
  if (held) return held
  const made = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, [
    'encrypt',
    'decrypt',
  ])
  await set('wrapping', made, store)
  return made
}

function configFrom(found: Partial<HomeConfig> | undefined): HomeConfig {
  const list = (value: unknown) =>
    Array.isArray(value) ? value.filter((item) => typeof item === 'string') : []
  return { peers: list(found?.peers), joined: list(found?.joined) }
}
