/**
 * How long a transfer may take: the median of recent ones and their spread, never a constant.
 * Source: hivemind #676 (fixed timeouts fail); median and MAD as robust location and scale, Huber 1981.
 */
export interface Pace {
  /** Durations of the last transfers, milliseconds, oldest first. */
  recent: number[]
}

/** How many durations are remembered. */
const REMEMBERED = 32
/** Fewer than this many say nothing about the spread: plan instead. */
const ENOUGH = 3
/** The plan before anything was measured: 1 MB/s each way, and this long to answer. */
const PLANNED_BYTES_PER_MS = 1000
const ANSWER_MS = 5000
/** A round trip on a bad phone link; no deadline is shorter. */
const FLOOR_MS = 2000

export function newPace(): Pace {
  return { recent: [] }
}

export function remember(pace: Pace, durationMs: number): void {
  pace.recent.push(durationMs)
  if (pace.recent.length > REMEMBERED) pace.recent.shift()
}

/** Milliseconds to allow for `bytes` to travel both ways. */
export function allowanceMs(pace: Pace, bytes: number): number {
  if (pace.recent.length < ENOUGH) return ANSWER_MS + (2 * bytes) / PLANNED_BYTES_PER_MS
  const middle = median(pace.recent)
  const spread = median(pace.recent.map((duration) => Math.abs(duration - middle)))
  return Math.max(FLOOR_MS, 3 * middle + 4 * spread)
}

/** What a transfer usually takes, milliseconds; 0 before any was measured. */
export function usualMs({ recent }: Pace): number {
  return recent.length === 0 ? 0 : median(recent)
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1]!
}
