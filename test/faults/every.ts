import type { Boundary } from './boundaries.ts'
import type { Trap } from './peer.ts'

/** With ML_STORE_FULL=1 every case runs at its full length; without it, a few of each kind. */
export const isFull = process.env.ML_STORE_FULL === '1'

/** Every message boundary of a swap, from the side that dies or freezes there. */
export const boundaries: readonly Boundary[] = [
  { role: 'offerer', way: 'sends', what: 'offer' },
  { role: 'offerer', way: 'hears', what: 'accept' },
  { role: 'offerer', way: 'sends', what: 'params' },
  { role: 'offerer', way: 'sends', what: 'data' },
  { role: 'offerer', way: 'hears', what: 'params' },
  { role: 'offerer', way: 'hears', what: 'data' },
  { role: 'offerer', way: 'hears', what: 'ready' },
  { role: 'offerer', way: 'sends', what: 'commit' },
  { role: 'accepter', way: 'hears', what: 'offer' },
  { role: 'accepter', way: 'sends', what: 'accept' },
  { role: 'accepter', way: 'sends', what: 'params' },
  { role: 'accepter', way: 'sends', what: 'data' },
  { role: 'accepter', way: 'hears', what: 'params' },
  { role: 'accepter', way: 'hears', what: 'data' },
  { role: 'accepter', way: 'sends', what: 'ready' },
  { role: 'accepter', way: 'hears', what: 'commit' },
]

/** Every boundary of a question. Who asks opened the question's stream. */
export const questions: readonly Boundary[] = [
  { role: 'offerer', way: 'sends', what: 'ask' },
  { role: 'offerer', way: 'hears', what: 'told' },
  { role: 'accepter', way: 'hears', what: 'ask' },
  { role: 'accepter', way: 'sends', what: 'told' },
]

/** Where to freeze first for a question: an accepter that thaws too late for its COMMIT asks, a silent offerer is asked. */
export function freezeBefore({ role }: Boundary): Trap {
  const boundary: Boundary =
    role === 'offerer'
      ? { role: 'accepter', way: 'hears', what: 'commit' }
      : { role: 'offerer', way: 'sends', what: 'commit' }
  return { ...boundary, act: 'freeze' }
}

export function nameOf({ role, way, what }: Boundary): string {
  if (isQuestion({ role, way, what }))
    return `${role === 'offerer' ? 'asker' : 'asked'} ${way} ${what.toUpperCase()}`
  return `${role} ${way} ${what === 'data' ? 'half the copy' : what.toUpperCase()}`
}

/** All of them when full, else those of these names. */
export function chosen<B extends Boundary>(
  all: readonly B[],
  names: readonly string[],
): [string, B][] {
  const named = all.map((boundary): [string, B] => [nameOf(boundary), boundary])
  return isFull ? named : named.filter(([name]) => names.includes(name))
}

export function isQuestion({ what }: Boundary): boolean {
  return what === 'ask' || what === 'told'
}
