/**
 * Home: the directory of one peer. Its keys, what it holds and whom it met; one process at a time.
 *
 *   peer.key       Ed25519, the transport's; never leaves      owner.key    Ed25519, signs listings and releases
 *   blockstore/    blocks of versions, served to whoever asks  datastore/   LevelDB; its lock is the home's lock
 *   checkpoints/   params in training; never served            config.json  peers met, for a start with no bootstrap
 *   listings.cbor  the listings this peer knows
 */
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { FsBlockstore } from 'blockstore-fs'
import { NextToLast } from 'blockstore-fs/sharding'
import { ClassicLevel } from 'classic-level'
import { LevelDatastore } from 'datastore-level'
import * as v from 'valibot'
import { Fault } from '../protocol/errors.ts'

export interface Home {
  dir: string
  peerKey: Ed25519PrivateKey
  /** The owner's key, made on first use: most peers never publish. */
  ownerKey(): Promise<Ed25519PrivateKey>
  /** Whose key that is, as a peer id; undefined before there is one. */
  owner(): Promise<string | undefined>
  /** Puts another in its place; the one before is gone. */
  setOwnerKey(key: Ed25519PrivateKey): Promise<void>
  blockstore: FsBlockstore
  datastore: LevelDatastore
  /** Directory of checkpoints; each model's under its genesis. */
  checkpoints: string
  config: HomeConfig
  saveConfig(config: HomeConfig): Promise<void>
  readListings(): Promise<Uint8Array | undefined>
  saveListings(snapshot: Uint8Array): Promise<void>
  /** Idempotent; gives the lock back. */
  close(): Promise<void>
}

const configSchema = v.looseObject({
  /** Addresses of bootstraps and peers met, the last met first. */
  peers: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(512))), v.maxLength(256)), []),
  /** Addresses the user named with --join, the last named first. */
  joined: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(512))), v.maxLength(256)), []),
  /** Where this peer listened last: the same again, so that those who remember it find it. */
  listen: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(512))), v.maxLength(16)), []),
})

export interface HomeConfig {
  peers: string[]
  joined: string[]
  listen: string[]
}

/** Where the home is: what the user said, $MLSTORE_HOME, or ~/.mlstore. */
export function homeDir(given: unknown): string {
  return resolve(
    typeof given === 'string' ? given : process.env.MLSTORE_HOME || join(homedir(), '.mlstore'),
  )
}

/**
 * Opens a home, and makes what is missing in it. Throws Fault `home-locked` (resource) when another process has it.
 */
export async function openHome(dir: string): Promise<Home> {
  await mkdir(join(dir, 'checkpoints'), { recursive: true, mode: 0o700 })
  const datastore = await openLocked(dir)
  const write = writer(dir)
  try {
    const blockstore = new Blocks(join(dir, 'blockstore'))
    await blockstore.open()
    const peerKey = await keyAt(dir, 'peer.key')
    let ownerKey: Promise<Ed25519PrivateKey> | undefined
    let closing: Promise<void> | undefined
    const home: Home = {
      dir,
      peerKey,
      ownerKey: () => {
        ownerKey ??= keyAt(dir, 'owner.key')
        return ownerKey
      },
      owner: async () => (await heldAt(dir, 'owner.key'))?.publicKey.toString(),
      async setOwnerKey(key) {
        await write('owner.key', privateKeyToProtobuf(key))
        ownerKey = Promise.resolve(key)
      },
      blockstore,
      datastore,
      checkpoints: join(dir, 'checkpoints'),
      config: await readConfig(dir),
      async saveConfig(config) {
        home.config = config
        await write('config.json', `${JSON.stringify(config, null, 2)}\n`)
      },
      readListings: () => readOptional(join(dir, 'listings.cbor')),
      saveListings: (snapshot) => write('listings.cbor', snapshot),
      close() {
        closing ??= blockstore.close().then(() => datastore.close())
        return closing
      },
    }
    return home
  } catch (error) {
    await datastore.close()
    throw error
  }
}

/** Blocks as files. One that could not be written leaves nothing of itself. */
class Blocks extends FsBlockstore {
  readonly #sharding = new NextToLast()

  override async put(...args: Parameters<FsBlockstore['put']>): ReturnType<FsBlockstore['put']> {
    try {
      return await super.put(...args)
    } catch (error) {
      const { dir, file } = this.#sharding.encode(args[0])
      await rm(join(this.path, dir, `.${file}.tmp`), { force: true }).catch(() => undefined)
      throw error
    }
  }
}

/** LevelDB's lock is the operating system's: it is gone with the process, however that ended. */
async function openLocked(dir: string): Promise<LevelDatastore> {
  const level = new ClassicLevel<string, Uint8Array>(join(dir, 'datastore'), {
    keyEncoding: 'utf8',
    valueEncoding: 'view',
  })
  try {
    await level.open()
    return new LevelDatastore(level as never)
  } catch (error) {
    if (!isLocked(error)) throw error
    throw new Fault(
      {
        kind: 'resource',
        type: 'home-locked',
        message: `home locked: another process uses ${dir}, expected one at a time`,
        hint: 'stop that process, or give this one a --home of its own',
        dir,
      },
      error,
    )
  }
}

function isLocked(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause as unknown) {
    if ((cause as NodeJS.ErrnoException).code === 'LEVEL_LOCKED') return true
  }
  return false
}

/** The key of this name, made where there is none. */
async function keyAt(dir: string, name: string): Promise<Ed25519PrivateKey> {
  const held = await heldAt(dir, name)
  if (held !== undefined) return held
  const key = await generateKeyPair('Ed25519')
  await writer(dir)(name, privateKeyToProtobuf(key))
  return key
}

async function heldAt(dir: string, name: string): Promise<Ed25519PrivateKey | undefined> {
  const path = join(dir, name)
  const held = await readOptional(path)
  if (held === undefined) return undefined
  try {
    const key = privateKeyFromProtobuf(held)
    if (key.type === 'Ed25519') return key
  } catch {}
  throw new Fault({
    kind: 'verification',
    type: 'wrong-key',
    message: `${path} holds ${held.length} bytes that are no Ed25519 key`,
    hint: 'put back a copy of the key, or move the file away for a new identity',
  })
}

async function readConfig(dir: string): Promise<HomeConfig> {
  const held = await readOptional(join(dir, 'config.json'))
  if (held === undefined) return { peers: [], joined: [], listen: [] }
  try {
    return v.parse(configSchema, JSON.parse(new TextDecoder().decode(held)))
  } catch (error) {
    throw new Fault(
      {
        kind: 'usage',
        type: 'wrong-config',
        message: `${join(dir, 'config.json')} is not as expected: ${(error as Error).message}`,
        hint: 'correct the file or delete it: it holds only addresses of peers',
      },
      error,
    )
  }
}

/** Writes whole files or none: beside, to the disk, then renamed. One write of a name at a time. */
function writer(dir: string): (name: string, bytes: Uint8Array | string) => Promise<void> {
  const last = new Map<string, Promise<unknown>>()
  return (name, bytes) => {
    const next = (last.get(name) ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => writeWhole(join(dir, name), bytes))
    last.set(name, next)
    return next
  }
}

/** Writes beside, flushes to the disk, renames: a reader sees the old file or the new one. Mode 0600. */
export async function writeWhole(path: string, bytes: Uint8Array | string): Promise<void> {
  const beside = `${path}.${process.pid}.tmp`
  try {
    const file = await open(beside, 'w', 0o600)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined)
    throw error
  }
}

async function readOptional(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
