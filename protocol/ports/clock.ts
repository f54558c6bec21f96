/** Time, as a host brings it: a clock that never goes back, the date for what is signed, and one alarm. */
export interface Clock {
  /** Milliseconds, monotonic, from any origin. */
  now(): number
  /** Milliseconds since 1970. */
  date(): number
  /** Calls `ring` once at or after `at` (in now()'s time). Returns a function that calls it off. */
  alarm(at: number, ring: () => void): () => void
}

/** Longest wait that timers take; a later alarm rings early and its owner sets it again. */
const TIMER_LIMIT_MS = 2 ** 31 - 1

export const systemClock: Clock = {
  now: () => performance.now(),
  date: () => Date.now(),
  alarm(at, ring) {
    const wait = Math.min(TIMER_LIMIT_MS, Math.max(0, at - performance.now()))
    const timer = setTimeout(ring, wait)
    return () => clearTimeout(timer)
  },
}
