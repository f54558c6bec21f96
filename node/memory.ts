import { freemem } from 'node:os'

/** Of free memory, what a model that came from a peer may take in training. */
const MEMORY_SHARE = 0.5

/** Half of what is free now, bytes. */
export function memoryLimit(): number {
  return MEMORY_SHARE * (process.availableMemory?.() ?? freemem())
}
