import { CARD_LIFETIME_MS } from '../message.ts'
import { cardState, publish, sayPhase } from './cards.ts'
import type { PeerEffect } from './events.ts'
import { live, mayAnswer, meanSteps } from './links.ts'
import { isMeeting, meet, SETTLE_PACE_MS } from './meetings.ts'
import { maySwap, type State } from './state.ts'
import { askNow, loseDoubts } from './swaps.ts'

/** The end of a run: gossip-only swaps until the peers agree, and leaving at any time. */

/** Settling: until the swarm's mean steps reach ours or this has passed, then so many gossip-only swaps. */
const SETTLE_LIMIT_MS = 60_000
const SETTLE_SWAPS = 8
/** When our gossip-only swaps are done we answer the others, at most this long. */
const LINGER_MS = 20_000
/** A leaving peer finishes the swap in flight, and learns of those in doubt, within this. */
const LEAVE_MS = 3000

export function startSettling(state: State, now: number): PeerEffect[] {
  state.settling = { since: now, gossipFrom: undefined, agreedAt: undefined }
  state.view.stage = 'settling'
  return [publish(state, now)]
}

/** Gossip-only swaps until the peers agree; alone there is nobody to agree with. */
export function settle(state: State, now: number): PeerEffect[] {
  const settling = state.settling!
  const { view } = state
  if (!maySwap(state) || (live(state.links).length === 0 && !state.swaps.current))
    return finish(state)
  if (settling.gossipFrom === undefined && caughtUp(state, now)) settling.gossipFrom = view.swaps
  const enough =
    settling.gossipFrom !== undefined && view.swaps - settling.gossipFrom >= SETTLE_SWAPS
  const tired = now - settling.since > SETTLE_LIMIT_MS + LINGER_MS
  if ((enough || tired) && view.stage === 'settling') {
    settling.agreedAt = now
    view.stage = 'done'
    return [publish(state, now)]
  }
  // Offers of others are answered as long as we are here.
  state.swaps.budget = Math.max(state.swaps.budget, 1)
  if (view.stage === 'settling') return keepSwapping(state, now)
  state.retryAt = Number.POSITIVE_INFINITY
  return othersDone(state, now) ? finish(state) : []
}

function keepSwapping(state: State, now: number): PeerEffect[] {
  if (isMeeting(state) && now < state.retryAt) return []
  state.swaps.tried.clear()
  const effects = meet(state, now)
  if (!isMeeting(state)) pause(state, now)
  return effects
}

/** The next offer outside training comes after a jittered pause. */
function pause(state: State, now: number): void {
  state.retryAt = now + SETTLE_PACE_MS * (1 + state.options.random())
}

/** The swarm's mean steps have reached ours, or will not: nobody still trains whom we reach. Cards outlive their peers by minutes. */
function caughtUp({ settling, links, view }: State, now: number): boolean {
  if (now - settling!.since > SETTLE_LIMIT_MS) return true
  if (meanSteps(links, view.steps) >= view.steps) return true
  return ![...links.known.values()].some((other) => other.phase === 'training' && mayAnswer(other))
}

/** A peer that is done goes on answering until nobody near is still settling. */
function othersDone(state: State, now: number): boolean {
  if (state.swaps.current) return false
  const waiting = live(state.links).some(
    ({ phase }) => phase === 'settling' || phase === 'training',
  )
  return !waiting || now - state.settling!.agreedAt! > LINGER_MS
}

function finish(state: State): PeerEffect[] {
  if (state.swaps.current || state.pulls.round) return []
  return stop(state, state.finishing ? 'finished' : 'budget')
}

export function leave(state: State, reason: string, now: number): PeerEffect[] {
  state.leaving ??= { reason, until: now + LEAVE_MS }
  askNow(state.swaps, now)
  state.view.stage = 'leaving'
  return sayPhase(state)
}

/** The swap in flight is finished, and who knows how one in doubt ended is heard; the round is not. */
export function depart(state: State, now: number): PeerEffect[] {
  const { reason, until } = state.leaving!
  const { current, doubts } = state.swaps
  if ((current || doubts.size > 0) && now < until) return []
  return stop(state, reason)
}

function stop(state: State, reason: string): PeerEffect[] {
  const { swaps, view } = state
  const lost = loseDoubts(swaps)
  view.stage = 'stopped'
  view.inDoubt = swaps.doubts.size
  view.lostDoubts = swaps.lostDoubts
  return [
    ...lost,
    { type: 'publish', card: cardState(state, 'leaving', 0), livesMs: CARD_LIFETIME_MS },
    { type: 'stop', reason },
  ]
}
