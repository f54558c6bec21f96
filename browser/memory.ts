/** What a browser says it has when it says nothing. */
const USUAL_GIB = 4
/** Of the device's memory, what a model that came from a peer may take in training: a tab is one program of many. */
const MEMORY_SHARE = 0.25

/** Bytes. Browsers tell their device's memory rounded, and 8 GiB at most. */
export function memoryLimit(): number {
  const { deviceMemory = USUAL_GIB } = navigator as { deviceMemory?: number }
  return MEMORY_SHARE * deviceMemory * 2 ** 30
}
