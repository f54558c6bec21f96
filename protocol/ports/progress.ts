/** How often somebody who waits is told how far it is. */
export interface Rhythm {
  /** Nothing is said for so long, so that what is over soon costs nothing. */
  quietMs: number
  /** And then this often at most. */
  everyMs: number
}

/** Of a round, a measurement or a swap, which a person watches. */
export const watched: Rhythm = { quietMs: 500, everyMs: 250 }
/** Of what comes before a run: each is a line on a terminal. */
export const awaited: Rhythm = { quietMs: 1000, everyMs: 1000 }

/** Passes on what it is called with where that is due. A call that is not costs a comparison; `now` is in milliseconds, monotonic. */
export function tellerOf<Far extends unknown[]>(
  startedAt: number,
  { quietMs, everyMs }: Rhythm,
  tell: (...far: Far) => void,
): (now: number, ...far: Far) => void {
  let dueAt = startedAt + quietMs
  return (now, ...far) => {
    if (now < dueAt) return
    dueAt = now + everyMs
    tell(...far)
  }
}
