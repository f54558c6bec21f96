import type { PeerId } from '../message.ts'

/**
 * Strikes: whose bytes were rejected, and how often lately. One table a node, by peer id, so that hanging up and dialling
 * again changes nothing: gossipsub forgets a bad score with the connection it was earned on. It is a service of the node
 * (libp2p.ts), whose gater asks it; network.ts writes it.
 */
export interface Strikes {
  /** Counts a rejection. Returns whether its peer is refused from now on. */
  add(peer: PeerId): boolean
  isRefused(peer: PeerId): boolean
}

/** So many, and a peer is refused for REFUSED_MS. */
const STRIKES = 3
const REFUSED_MS = 30 * 60_000
/** Without another for so long, a peer's strikes are forgotten: anybody may be wrong now and then. */
const STRIKE_LIFE_MS = 2 * 60 * 60_000
/** More peers than this are not remembered; who is refused stays longest. */
const PEERS_LIMIT = 4096

interface Struck {
  count: number
  at: number
  refusedUntil: number
}

/** `now` in milliseconds, monotonic. */
export function createStrikes(now: () => number = () => performance.now()): Strikes {
  /** The last struck at the end. */
  const records = new Map<PeerId, Struck>()

  const isRefused = (peer: PeerId) => (records.get(peer)?.refusedUntil ?? 0) > now()

  function forgetOne(): void {
    const [first] = records.keys()
    const free = [...records.keys()].find((peer) => !isRefused(peer))
    records.delete(free ?? first!)
  }

  return {
    isRefused,
    add(peer) {
      const before = records.get(peer)
      const isRecent = before !== undefined && now() - before.at <= STRIKE_LIFE_MS
      const count = (isRecent ? before.count : 0) + 1
      const refusedUntil = count >= STRIKES ? now() + REFUSED_MS : 0
      records.delete(peer)
      records.set(peer, { count, at: now(), refusedUntil })
      if (records.size > PEERS_LIMIT) forgetOne()
      return refusedUntil > 0
    },
  }
}
