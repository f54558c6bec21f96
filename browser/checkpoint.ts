import { createStore, promisifyRequest, type UseStore } from 'idb-keyval'
import { Fault } from '../protocol/errors.ts'
import { type CheckpointFile, factsOf } from '../protocol/ports/trainer/checkpoint.ts'

/** Checkpoints in IndexedDB, each model's under its genesis, in two generations. */

interface Kept {
  title: string
  newest: Generation
  older: Generation | undefined
}

interface Generation {
  file: Blob
  /** Milliseconds since 1970. */
  at: number
}

/** What stands in a checkpoint, for people. */
export interface KeptCheckpoint {
  genesis: string
  title: string
  version: string
  rounds: number
  at: number
  bytes: number
}

let opened: UseStore | undefined

function checkpoints(): UseStore {
  opened ??= createStore('mlstore-checkpoints', 'checkpoints')
  return opened
}

/** One model's. Both generations change in one transaction: a crash at any moment leaves them as they were, or as they are to be. */
export function checkpointIn(genesis: string, title: string): CheckpointFile {
  return {
    async *read() {
      const kept = await read(genesis)
      for (const generation of [kept?.newest, kept?.older]) {
        if (generation) yield new Uint8Array(await generation.file.arrayBuffer())
      }
    },

    async write(parts) {
      const newest = { file: new Blob([...parts] as BlobPart[]), at: Date.now() }
      try {
        await checkpoints()('readwrite', async (store) => {
          const before: Kept | undefined = await promisifyRequest(store.get(genesis))
          store.put({ title, newest, older: before?.newest } satisfies Kept, genesis)
          await promisifyRequest(store.transaction)
        })
      } catch (error) {
        throw cannotKeep(error as Error)
      }
    },
  }
}

/** When the newest was written, milliseconds since 1970; undefined when there is none. */
export async function checkpointedAt(genesis: string): Promise<number | undefined> {
  return (await read(genesis).catch(() => undefined))?.newest.at
}

/** All of them, newest first; one that cannot be read is left out. */
export async function listCheckpoints(): Promise<KeptCheckpoint[]> {
  if (typeof indexedDB === 'undefined') return []
  const names = await checkpoints()('readonly', (store) =>
    promisifyRequest<IDBValidKey[]>(store.getAllKeys()),
  )
  const all = await Promise.all(names.map((name) => describe(String(name))))
  return all.filter((found) => found !== undefined).sort((a, b) => b.at - a.at)
}

export async function forgetCheckpoint(genesis: string): Promise<void> {
  await checkpoints()('readwrite', (store) => {
    store.delete(genesis)
    return promisifyRequest(store.transaction)
  })
}

async function describe(genesis: string): Promise<KeptCheckpoint | undefined> {
  const kept = await read(genesis)
  if (!kept) return undefined
  const { file, at } = kept.newest
  const facts = await factsOf(
    async (start, end) => new Uint8Array(await file.slice(start, end).arrayBuffer()),
  )
  if ('type' in facts) return undefined
  const { version, rounds } = facts
  return { genesis, title: kept.title, version, rounds, at, bytes: file.size }
}

function read(genesis: string): Promise<Kept | undefined> {
  if (typeof indexedDB === 'undefined') return Promise.resolve(undefined)
  return checkpoints()('readonly', (store) =>
    promisifyRequest<Kept | undefined>(store.get(genesis)),
  )
}

function cannotKeep(error: Error): Fault {
  const isFull = error.name === 'QuotaExceededError'
  return new Fault(
    {
      kind: 'resource',
      type: isFull ? 'disk-full' : 'cannot-write',
      message: isFull
        ? 'this browser has no room left for the checkpoint'
        : `the checkpoint cannot be kept: ${error.message}`,
      hint: 'free some space or forget an old run under Mine; the checkpoint before is unharmed',
    },
    error,
  )
}
