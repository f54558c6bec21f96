import { sha256 } from 'multiformats/hashes/sha2'
import { Fault } from '../../errors.ts'

/**
 * Checkpoint: all that a learner needs to go on, in one file that is either whole or refused.
 *
 *   0    8 bytes   magic 'MLSTORE\0'
 *   8    uint32    version (1), little-endian
 *   12   uint32    length of the JSON
 *   16   32 bytes  SHA-256 of the JSON
 *   48   JSON      `CheckpointFacts` and the arrays' names, lengths and SHA-256, in ASCII, filled with spaces to a multiple of 4
 *        float32   the arrays, in that order, in this machine's byte order: a checkpoint never leaves it
 */

/** Where checkpoints lie: a host's file or database. Two generations are kept. */
export interface CheckpointFile {
  /** Newest first; nothing when there is none. Read one at a time, so the older is read only when the newer is broken. */
  read(): AsyncIterable<Uint8Array>
  /** Writes all or nothing, and afterwards the one before is the older generation. Borrows `parts` until it resolves. */
  write(parts: readonly Uint8Array[]): Promise<void>
}

export interface CheckpointFacts {
  genesis: string
  version: string
  /** Of batches, split and dropout. */
  seed: number
  steps: number
  rounds: number
  swaps: number
  /** Nonces of the last swaps we offered and settled, oldest first. */
  outcomes: string[]
  epoch: number
  position: number
  optimizer: { name: string; steps: number }
  /** `rounds` came later: checkpoints of before have none. */
  momentum: { rateSum: number; steps: number; rounds?: number } | null
}

export interface Checkpoint {
  facts: CheckpointFacts
  /** By name: params, and where there are any direction, anchor, slot0, slot1. */
  arrays: Record<string, Float32Array>
}

const MAGIC = new TextEncoder().encode('MLSTORE\0')
const VERSION = 1
const HEADER_BYTES = 48
/** Outcomes and names take a few kilobytes; more than this is no checkpoint of ours. */
const MAX_JSON_BYTES = 256 * 1024

/** The parts of a file; arrays are not copied, so write them before training goes on. */
export async function encodeCheckpoint({ facts, arrays }: Checkpoint): Promise<Uint8Array[]> {
  const list = []
  for (const [name, array] of Object.entries(arrays)) {
    list.push({ name, length: array.length, sha256: hex(await digestOf(bytesOf(array))) })
  }
  const text = JSON.stringify({ facts, arrays: list })
  const json = new TextEncoder().encode(text.padEnd(4 * Math.ceil(text.length / 4)))
  const header = new Uint8Array(HEADER_BYTES)
  const view = new DataView(header.buffer)
  header.set(MAGIC)
  view.setUint32(8, VERSION, true)
  view.setUint32(12, json.length, true)
  header.set(await digestOf(json), 16)
  return [header, json, ...Object.values(arrays).map(bytesOf)]
}

/** A checkpoint, or why these bytes are none: truncated, changed, or of another version. Arrays may be views of `bytes`. */
export async function decodeCheckpoint(bytes: Uint8Array): Promise<Checkpoint | BrokenCheckpoint> {
  const head = await headOf(async (start, end) => bytes.subarray(start, end))
  if ('type' in head) return head
  const arrays: Record<string, Float32Array> = {}
  let at = head.bytes
  for (const { name, length, sha256 } of head.arrays) {
    const part = bytes.subarray(at, (at += 4 * length))
    if (part.length !== 4 * length) return broken(`cut short in ${name}`)
    if (hex(await digestOf(part)) !== sha256) return broken(`${name} has changed`)
    arrays[name] = floatsOf(part)
  }
  const { facts } = head
  return at === bytes.length ? { facts, arrays } : broken(`${bytes.length - at} bytes too many`)
}

/** Gives a file's bytes from start ..< end, fewer at its end. */
export type ReadPart = (start: number, end: number) => Promise<Uint8Array>

/** What a checkpoint says of itself, without reading its arrays. */
export async function factsOf(read: ReadPart): Promise<CheckpointFacts | BrokenCheckpoint> {
  const head = await headOf(read)
  return 'type' in head ? head : head.facts
}

interface Head {
  facts: CheckpointFacts
  arrays: { name: string; length: number; sha256: string }[]
  /** All before the arrays. */
  bytes: number
}

async function headOf(read: ReadPart): Promise<Head | BrokenCheckpoint> {
  const header = await read(0, HEADER_BYTES)
  if (header.length < HEADER_BYTES || !MAGIC.every((byte, i) => header[i] === byte))
    return broken('no header')
  const view = new DataView(header.buffer, header.byteOffset, header.length)
  const version = view.getUint32(8, true)
  if (version !== VERSION) return broken(`version ${version}, expected ${VERSION}`)
  const length = view.getUint32(12, true)
  if (length > MAX_JSON_BYTES) return broken('cut short in its facts')
  const json = await read(HEADER_BYTES, HEADER_BYTES + length)
  if (json.length < length) return broken('cut short in its facts')
  if (hex(await digestOf(json)) !== hex(header.subarray(16, HEADER_BYTES)))
    return broken('its facts have changed')
  const { facts, arrays } = JSON.parse(new TextDecoder().decode(json))
  return { facts, arrays, bytes: HEADER_BYTES + length }
}

export interface BrokenCheckpoint {
  type: 'broken'
  message: string
}

/**
 * The newest whole checkpoint, or undefined when there is none. Throws Fault `wrong-checkpoint` when it belongs to another
 * model or has another number of params.
 */
export async function readCheckpoint(
  file: CheckpointFile,
  genesis: string,
  size: number,
): Promise<Checkpoint | undefined> {
  for await (const bytes of file.read()) {
    const read = await decodeCheckpoint(bytes)
    if ('type' in read) continue
    if (read.facts.genesis !== genesis)
      throw wrongCheckpoint(`model ${read.facts.genesis}`, `model ${genesis}`)
    const params = read.arrays.params?.length
    if (params !== size) throw wrongCheckpoint(`${params} params`, `${size} params`)
    return read
  }
}

function wrongCheckpoint(came: string, expected: string): Fault {
  return new Fault({
    kind: 'verification',
    type: 'wrong-checkpoint',
    message: `the checkpoint is of ${came}, expected ${expected}`,
    hint: 'move the checkpoint away to start from the version, or use another home',
    came,
    expected,
  })
}

function broken(message: string): BrokenCheckpoint {
  return { type: 'broken', message }
}

async function digestOf(bytes: Uint8Array): Promise<Uint8Array> {
  return (await sha256.digest(bytes as Uint8Array<ArrayBuffer>)).digest
}

function bytesOf(array: Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}

function floatsOf(bytes: Uint8Array): Float32Array {
  const { buffer, byteOffset, length } = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Float32Array(buffer, byteOffset, length / 4)
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
