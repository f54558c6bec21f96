import { invariant } from '../errors.ts'
import type { PeerId } from '../message.ts'

/**
 * Whom a peer meets at a turn of a strict round, so that all meet in pairs at once, and at the next turn in other pairs:
 * four peers hold the average of all after two turns. Everybody finds the same pairs by itself, from the ids alone.
 *
 *   group   ids of all who train, our own among them, sorted
 *   turn    counts on over the rounds; undefined: we have no partner at this one (an odd group leaves one out)
 *
 * Source: the circle method of round-robin tournaments, Kirkman 1847.
 */
export function partnerAt(
  group: readonly PeerId[],
  self: PeerId,
  turn: number,
): PeerId | undefined {
  const place = group.indexOf(self)
  invariant(place >= 0, 'a peer is of its own group')
  if (group.length < 2) return undefined
  // An odd group has an empty chair at the end; all but the last chair stand in a circle.
  const last = group.length - 1 + (group.length % 2)
  if (place === last) return group[seatFacing(turn, last)]
  const other = (((turn - place) % last) + last) % last
  return group[other === place ? last : other]
}

/** The seat of the circle that faces itself at this turn: its peer meets the one outside. */
function seatFacing(turn: number, seats: number): number {
  const at = ((turn % seats) + seats) % seats
  return at % 2 === 0 ? at / 2 : (at + seats) / 2
}
