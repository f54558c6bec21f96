import { heard, publish, sayPeers, sayPhase } from './peer/cards.ts'
import type { PeerEffect, PeerEvent } from './peer/events.ts'
import {
  adopted,
  granted,
  introduced,
  joinAgain,
  joined,
  joiningTick,
  noticeAbsence,
  tryToJoin,
} from './peer/joining.ts'
import { linked, newLinks, tend, unlinked, unreached } from './peer/links.ts'
import {
  after,
  answerOffer,
  answerPull,
  brokenOff,
  gave,
  pullSettled,
  received,
  refused,
} from './peer/meetings.ts'
import { expireRound, newPulls } from './peer/pulls.ts'
import { trained, trainOn } from './peer/rounds.ts'
import { depart, leave, settle } from './peer/settling.ts'
import { maySwap, type PeerOptions, type PeerView, type State } from './peer/state.ts'
import { expire, newSwaps, nextDeadline, progress, type SwapContext } from './peer/swaps.ts'

export type { CardState, PeerEffect, PeerEvent } from './peer/events.ts'
export type { PeerOptions, PeerView } from './peer/state.ts'

/**
 * Peer: one participant of one swarm, as a state machine. `handle` takes an event and the time and answers with
 * effects; it does no I/O, reads no clock and draws chance only from `random`. It decides everything and never
 * touches a param: copies live in the worker and in the host's hands, under their nonce.
 *
 *   joining ──nobody ahead, or state adopted──▶ training ──budget spent──▶ settling ──agreed──▶ done
 *      └───────────────────────── leave, at any time ──────────────────────────▶ leaving ▶ stopped
 */
export interface Peer {
  /** Takes in one event at time `now` (milliseconds, monotonic); the effects are to be run in order. */
  handle(event: PeerEvent, now: number): PeerEffect[]
  /** What a host shows and a test asserts; borrowed, changed by the next handle(). */
  readonly view: Readonly<PeerView>
}

/** Links are tended this often. */
const TEND_MS = 1000

export function createPeer(options: PeerOptions): Peer {
  const links = newLinks(options.linkLimit)
  const swaps = newSwaps(options.resumed?.outcomes)
  const pulls = newPulls()
  const context: SwapContext = { ...options, links }
  const view: PeerView = {
    stage: 'joining',
    round: options.resumed?.rounds ?? 0,
    steps: options.resumed?.steps ?? 0,
    swaps: 0,
    failedSwaps: 0,
    lostDoubts: 0,
    inDoubt: 0,
    isSwapping: false,
    bytesUp: 0,
    bytesDown: 0,
    links: 0,
  }
  const state: State = {
    options,
    links,
    swaps,
    pulls,
    context,
    view,
    joining: undefined,
    settling: undefined,
    leaving: undefined,
    training: false,
    workedAt: Number.POSITIVE_INFINITY,
    isStale: false,
    paused: options.paused ?? false,
    swapping: options.swapping ?? true,
    finishing: false,
    reachable: 0,
    msPerStep: 0,
    meetings: { lateAt: 0, until: 0, awaited: new Set(), turn: 0, pairedUntil: 0 },
    roundsLeft: options.rounds === undefined ? undefined : Math.max(0, options.rounds - view.round),
    retryAt: Number.POSITIVE_INFINITY,
    tendAt: 0,
    cardAt: Number.POSITIVE_INFINITY,
    servedMs: [],
    phase: undefined,
    said: { count: -1, direct: -1 },
  }
  return { view, handle: (event, now) => handle(state, event, now) }
}

function handle(state: State, event: PeerEvent, now: number): PeerEffect[] {
  if (state.view.stage === 'stopped') return []
  const effects: PeerEffect[] = []
  noticeAbsence(state, now)
  // First what time has ended: a message that comes after its deadline finds nothing to answer to.
  effects.push(...after(state, expire(state.swaps, state.context, now), now))
  effects.push(...expireRound(state.pulls, state.links, now, state.options.random))
  effects.push(...react(state, event, now))
  effects.push(...advance(state, now))
  effects.push(...refresh(state, now))
  state.view.isSwapping = state.swaps.current !== undefined
  effects.push({ type: 'timer', at: nextTick(state, now) })
  return effects
}

function react(state: State, event: PeerEvent, now: number): PeerEffect[] {
  switch (event.type) {
    case 'joined':
      return joined(state, now)
    case 'card':
      return heard(state, event, now)
    case 'linked':
      linked(state.links, event.peer, event.path, now)
      return []
    case 'unlinked':
      unlinked(state.links, event.peer)
      return []
    case 'unreached':
      unreached(state.links, event.peer, now)
      return []
    case 'reachable':
      state.reachable = event.count
      return []
    case 'introduced':
      return introduced(state, now)
    case 'trained':
      return trained(state, event, now)
    case 'offered':
      return answerOffer(state, event, now)
    case 'pull-asked':
      return answerPull(state, event, now)
    case 'gave':
      return gave(state, event, now)
    case 'granted':
      return granted(state, event)
    case 'received':
      return received(state, event, now)
    case 'declined':
      return refused(state, event, now)
    case 'broken':
      return brokenOff(state, event, now)
    case 'settled':
      if (event.nonce === state.pulls.round?.nonce) return pullSettled(state, event)
      return after(state, progress(state.swaps, state.context, event, now), now)
    case 'adopted':
      return adopted(state, event, now)
    case 'pause':
      state.paused = true
      return []
    case 'resume':
      state.paused = false
      noticeAbsence(state, now)
      return []
    case 'swapping':
      state.swapping = event.allowed
      return []
    case 'finish':
      state.finishing = true
      state.paused = false // who is to end goes on first, and settles with the others
      noticeAbsence(state, now)
      return []
    case 'leave':
      return leave(state, event.reason, now)
    case 'tick':
      return []
    default:
      return after(state, progress(state.swaps, state.context, event, now), now)
  }
}

/** Whatever may now start, starts: joining, the next round, the next gossip-only swap, the end. */
function advance(state: State, now: number): PeerEffect[] {
  const effects: PeerEffect[] = []
  const { view } = state
  if (state.leaving) return depart(state, now)
  if (state.isStale && maySwap(state)) effects.push(...joinAgain(state, now))
  if (state.joining) effects.push(...tryToJoin(state, now))
  if (view.stage === 'training') effects.push(...trainOn(state, now))
  if (view.stage === 'settling' || view.stage === 'done') effects.push(...settle(state, now))
  return effects
}

/** Housekeeping after every event: links, card, phase sentence, peer count. */
function refresh(state: State, now: number): PeerEffect[] {
  const effects: PeerEffect[] = []
  if (state.view.stage === 'stopped') return effects
  if (now >= state.tendAt) {
    state.tendAt = now + TEND_MS
    if (!state.training) state.pulls.copiesServed = 0
    effects.push(
      ...tend(state.links, now, state.options.random).filter(
        (effect) => !hangsUpOnSwap(state, effect),
      ),
    )
  }
  if (now >= state.cardAt) effects.push(publish(state, now))
  return [...effects, ...sayPeers(state), ...sayPhase(state)]
}

function hangsUpOnSwap({ swaps }: State, effect: PeerEffect): boolean {
  if (effect.type !== 'hang-up') return false
  return [swaps.current, ...swaps.doubts.values()].some((swap) => swap?.with === effect.peer)
}

function nextTick(state: State, now: number): number {
  const { joining, settling, leaving, pulls } = state
  let next = Math.min(nextDeadline(state.swaps), state.tendAt, state.cardAt, state.retryAt)
  if (joining) next = Math.min(next, joiningTick(joining, now))
  if (pulls.round && !pulls.round.settling) next = Math.min(next, pulls.round.deadline + 1)
  if (settling) next = Math.min(next, now + TEND_MS)
  if (leaving) next = Math.min(next, leaving.until)
  return Math.max(next, now + 1)
}
