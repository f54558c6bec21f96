import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import type { TransportCertificate } from '@libp2p/webrtc'
import { ClassicLevel } from 'classic-level'
import { LevelDatastore } from 'datastore-level'
import * as v from 'valibot'
import { Fault } from '../protocol/errors.ts'
import { createCertificate } from './certificate.ts'

/**
 * What a bootstrap keeps, so that its addresses and listings survive a restart: peer.key, webrtc.json (certificate
 * and its key), listings.cbor, and datastore/, whose lock is the home's lock. Files are replaced whole or not at all.
 */
export interface Home {
  dir: string
  privateKey: PrivateKey
  certificate: TransportCertificate
  datastore: LevelDatastore
  read(name: string): Promise<Uint8Array | undefined>
  write(name: string, bytes: Uint8Array): Promise<void>
  /** Puts a file that cannot be used aside, beside itself. */
  putAside(name: string): Promise<void>
  /** Releases the lock. */
  close(): Promise<void>
}

const certificateSchema = v.object({
  privateKey: v.string(),
  pem: v.string(),
  certhash: v.string(),
})

/** Opens a home and makes what it lacks. Throws Fault `home-locked`, `wrong-key` or `wrong-certificate`. */
export async function openHome(dir: string): Promise<Home> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const datastore = await openLocked(dir)
  const read = (name: string) => readOptional(join(dir, name))
  const write = (name: string, bytes: Uint8Array) => replaceFile(dir, name, bytes)
  try {
    return {
      dir,
      privateKey: keyFrom(dir, await made('peer.key', read, write, newKey)),
      certificate: certificateFrom(dir, await made('webrtc.json', read, write, newCertificate)),
      datastore,
      read,
      write,
      putAside: (name) => rename(join(dir, name), join(dir, `${name}.broken`)),
      close: () => datastore.close(),
    }
  } catch (thrown) {
    await datastore.close()
    throw thrown
  }
}

/** LevelDB's lock belongs to the operating system, so a killed process leaves none behind. */
async function openLocked(dir: string): Promise<LevelDatastore> {
  const level = new ClassicLevel<string, Uint8Array>(join(dir, 'datastore'), {
    valueEncoding: 'view',
  })
  try {
    // LevelDatastore's own open() forgets why it failed.
    await level.open()
  } catch (thrown) {
    const { code } = ((thrown as Error).cause ?? thrown) as NodeJS.ErrnoException
    throw code === 'LEVEL_LOCKED' ? locked(dir, thrown) : unusable(dir, thrown)
  }
  const datastore = new LevelDatastore(level as never)
  await datastore.open()
  return datastore
}

function locked(dir: string, cause: unknown): Fault {
  return new Fault(
    {
      kind: 'resource',
      type: 'home-locked',
      message: `another process uses the home ${dir}`,
      hint: 'stop that process, or give this one a --home of its own',
    },
    cause,
  )
}

function unusable(dir: string, cause: unknown): Fault {
  const { message } = ((cause as Error).cause ?? cause) as Error
  return new Fault(
    {
      kind: 'resource',
      type: 'home-not-writable',
      message: `the home ${dir} cannot be opened: ${message}`,
      hint: 'choose a --home on a disk that has room and that you may write',
    },
    cause,
  )
}

type Read = Home['read']
type Write = Home['write']

async function made(
  name: string,
  read: Read,
  write: Write,
  make: () => Promise<Uint8Array>,
): Promise<Uint8Array> {
  const found = await read(name)
  if (found) return found
  const bytes = await make()
  await write(name, bytes)
  return bytes
}

async function newKey(): Promise<Uint8Array> {
  return privateKeyToProtobuf(await generateKeyPair('Ed25519'))
}

async function newCertificate(): Promise<Uint8Array> {
  return new TextEncoder().encode(JSON.stringify(await createCertificate(Date.now())))
}

function keyFrom(dir: string, bytes: Uint8Array): PrivateKey {
  try {
    return privateKeyFromProtobuf(bytes)
  } catch (thrown) {
    throw broken(dir, 'peer.key', 'an Ed25519 key', thrown)
  }
}

function certificateFrom(dir: string, bytes: Uint8Array): TransportCertificate {
  try {
    return v.parse(certificateSchema, JSON.parse(new TextDecoder().decode(bytes)))
  } catch (thrown) {
    throw broken(dir, 'webrtc.json', 'a certificate', thrown)
  }
}

function broken(dir: string, name: string, expected: string, cause: unknown): Fault {
  return new Fault(
    {
      kind: 'verification',
      type: 'broken-home',
      message: `${join(dir, name)} does not hold ${expected}`,
      hint: 'put a copy of the file back, or delete it and tell people the new address',
    },
    cause,
  )
}

async function replaceFile(dir: string, name: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(dir, `${name}.tmp`)
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, join(dir, name))
  const directory = await open(dir)
  await directory.sync().finally(() => directory.close())
}

async function readOptional(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path)
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw thrown
  }
}
