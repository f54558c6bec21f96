import { freemem } from 'node:os'
import { Fault } from '../protocol/errors.ts'

/** Of free memory, what a model that came from a peer may take in training. */
const MEMORY_SHARE = 0.5
const MEBIBYTE = 2 ** 20

/** Half of what is free now, bytes. */
export function memoryLimit(): number {
  return MEMORY_SHARE * (process.availableMemory?.() ?? freemem())
}

/** What a model may take in a command that trains or measures, bytes: --max-memory, or half of what is free. */
export function memoryLimitOf({ maxMemory }: Record<string, unknown>): number {
  return maxMemory === undefined ? memoryLimit() : Number(maxMemory) * MEBIBYTE
}

/** What `work` says of a model that takes more than `memoryBytes` tells how to raise that, too. */
export async function raisable<T>(memoryBytes: number, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    const detail = error instanceof Fault ? error.detail : undefined
    if (detail?.type !== 'too-much-memory' || detail.limitBytes !== memoryBytes) throw error
    const hint = 'close other programs, or raise the limit with --max-memory, in MB'
    throw new Fault({ ...detail, hint }, error)
  }
}
