import { CARD_LIFETIME_MAX_MS, CARD_LIFETIME_MS } from '../message.ts'

/**
 * How often a peer says where it is, and how long others believe it. Cards of one swarm come to about one a second, however
 * large it is; above 1,200 peers to as many as it takes for each to be heard every 20 minutes.
 */

/** Cards: at least this far apart for each peer of the swarm, and never closer than a minute but for news. */
const CARD_EVERY_MS = 60_000
const CARD_PER_PEER_MS = 1000
const CARD_EVERY_MAX_MS = CARD_LIFETIME_MAX_MS / 2.5

/** Mean time between two cards of one peer, where so many are known; jittered by a quarter either way. */
export function cardEveryMs(peers: number): number {
  return Math.min(CARD_EVERY_MAX_MS, Math.max(CARD_EVERY_MS, CARD_PER_PEER_MS * peers))
}

/** Two cards come within this in any case, so that one may be lost. */
export function cardLifetimeMs(peers: number): number {
  return Math.max(CARD_LIFETIME_MS, 2.5 * cardEveryMs(peers))
}
