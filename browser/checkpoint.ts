import { createStore, promisifyRequest, type UseStore } from 'idb-keyval'
import type { Fault, FaultDetail } from '../protocol/errors.ts'
import {
  type CheckpointFile,
  factsOf,
  readCheckpoint,
} from '../protocol/ports/trainer/checkpoint.ts'
import { has } from './abilities.ts'
import { text } from './text.ts'
import { pageFault } from './words.ts'

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
  /** Why neither generation can be read, where that is so. */
  damage?: string
}

let opened: UseStore | undefined

/** Rejects, as every use of it does, where this browser opens no database; the next one tries again. */
function checkpoints(): UseStore {
  return async (mode, use) => {
    opened ??= createStore('mlstore-checkpoints', 'checkpoints')
    try {
      return await opened(mode, use)
    } catch (error) {
      opened = undefined
      throw error
    }
  }
}

/**
 * One model's. Both generations change in one transaction: a crash at any moment leaves them as they were, or as they are to
 * be. What cannot be written ends no run, for its params are in memory still: `tell` hears why, and undefined once it goes again.
 */
export function checkpointIn(
  genesis: string,
  title: string,
  tell: (fault: FaultDetail | undefined) => void,
): CheckpointFile {
  let isTold = false
  return {
    async *read() {
      const kept = await read(genesis).catch(() => undefined)
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
        if (isTold) tell(undefined)
        isTold = false
      } catch (error) {
        tell(cannotKeep(error as Error).detail)
        isTold = true
      }
    },
  }
}

/** When the newest was written, milliseconds since 1970; undefined when there is none. */
export async function checkpointedAt(genesis: string): Promise<number | undefined> {
  return (await read(genesis).catch(() => undefined))?.newest.at
}

/** All of them, newest first; one that cannot be read says why. Throws Fault `no-storage` where the browser opens none. */
export async function listCheckpoints(): Promise<KeptCheckpoint[]> {
  if (!has('storage')) throw noStorage(new Error(text.data.noDatabase))
  const names = await checkpoints()('readonly', (store) =>
    promisifyRequest<IDBValidKey[]>(store.getAllKeys()),
  ).catch((error: Error) => {
    throw noStorage(error)
  })
  const all = await Promise.all(names.map((name) => describe(String(name))))
  return all.filter((found) => found !== undefined).sort((a, b) => b.at - a.at)
}

/** The params in the newest whole one, float32 in tensor order. Throws Fault `wrong-checkpoint` when they are not `size`. */
export async function keptParams(genesis: string, size: number): Promise<Uint8Array | undefined> {
  const found = await readCheckpoint(
    checkpointIn(genesis, '', () => {}),
    genesis,
    size,
  )
  const params = found?.arrays.params
  return params && new Uint8Array(params.buffer, params.byteOffset, params.byteLength).slice()
}

export async function forgetCheckpoint(genesis: string): Promise<void> {
  await checkpoints()('readwrite', (store) => {
    store.delete(genesis)
    return promisifyRequest(store.transaction)
  })
}

/** By the newest generation that says what it is, as a run would go on from it. */
async function describe(genesis: string): Promise<KeptCheckpoint | undefined> {
  const kept: Partial<Kept> | undefined = await read(genesis)
  if (!kept) return undefined
  const { newest, older } = kept
  const title = typeof kept.title === 'string' ? kept.title : genesis
  const bytes = [newest, older].reduce((sum, one) => sum + (one?.file?.size ?? 0), 0)
  let damage = 'no header'
  for (const generation of [newest, older]) {
    const facts = generation && (await factsIn(generation))
    if (!facts) continue
    if (!('type' in facts)) {
      const { version, rounds } = facts
      return { genesis, title, version, rounds, at: generation.at, bytes }
    }
    if (generation === newest) damage = facts.message
  }
  return { genesis, title, version: genesis, rounds: 0, at: newest?.at ?? 0, bytes, damage }
}

async function factsIn({ file }: Generation): ReturnType<typeof factsOf> {
  try {
    return await factsOf(
      async (start, end) => new Uint8Array(await file.slice(start, end).arrayBuffer()),
    )
  } catch (error) {
    return { type: 'broken', message: oneLine((error as Error).message) }
  }
}

async function read(genesis: string): Promise<Kept | undefined> {
  if (!has('storage')) return undefined
  return checkpoints()('readonly', (store) =>
    promisifyRequest<Kept | undefined>(store.get(genesis)),
  )
}

function cannotKeep(error: Error): Fault {
  return error.name === 'QuotaExceededError'
    ? pageFault('resource', 'disk-full', { what: 'runs' }, error)
    : pageFault('resource', 'cannot-write', { why: oneLine(error.message) }, error)
}

/** A browser that has a database and opens none: a private window, or a person who allows no site data. */
function noStorage(error: Error): Fault {
  return pageFault('resource', 'no-storage', { what: 'runs', why: oneLine(error.message) }, error)
}

/** A browser's own words, to stand inside a sentence. */
function oneLine(message: string): string {
  return message.replace(/\s+/g, ' ').replace(/[.\s]+$/, '')
}
