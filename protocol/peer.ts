import type { CodecName } from './codec/codec.ts'
import type { BusyReason, Card, Nonce, PeerId } from './message.ts'
import { CARD_LIFETIME_MS } from './message.ts'
import { allowanceMs, usualMs } from './peer/deadline.ts'
import type { CardState, PeerEffect, PeerEvent } from './peer/events.ts'
import {
  hear,
  type Links,
  linked,
  live,
  meanSteps,
  newLinks,
  tend,
  unlinked,
} from './peer/links.ts'
import {
  chooseDonor,
  copyFailed,
  copyReceived,
  expireRound,
  newPulls,
  type Pulls,
  served,
  servePull,
  startRound,
} from './peer/pulls.ts'
import {
  answer,
  type Ending,
  expire,
  knows,
  newSwaps,
  nextDeadline,
  offer,
  progress,
  type Step,
  type SwapContext,
  type Swaps,
} from './peer/swaps.ts'
import type { Random } from './random.ts'
import { type Phase, phaseReport, type Report } from './report.ts'

export type { CardState, PeerEffect, PeerEvent } from './peer/events.ts'

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

export interface PeerView {
  stage: Stage
  round: number
  /** Steps behind the params: our own and those of the state we adopted. */
  steps: number
  swaps: number
  failedSwaps: number
  lostDoubts: number
  inDoubt: number
  bytesUp: number
  bytesDown: number
  /** Neighbours that we could swap with now. */
  links: number
}

type Stage = 'joining' | 'training' | 'settling' | 'done' | 'leaving' | 'stopped'

export interface PeerOptions {
  self: PeerId
  codec: CodecName
  /** Bytes of one encoded copy, and of the whole state a newcomer pulls: they plan the first deadlines. */
  copyBytes: number
  stateBytes: number
  meets: 'swap' | 'pull'
  /** Neighbours read per round by a rule that pulls. */
  pullFrom: number
  /** The recipe's H, a floor unless `strict`, when it is exact and the next round waits for the meeting. */
  stepsPerRound: number
  strict: boolean
  /** Swaps offered and accepted in one round. */
  swapsPerRound: number
  /** Rounds of our own budget; then settle. Undefined trains until told to finish. */
  rounds: number | undefined
  /** False never averages: the `--no-swap` control. */
  swap: boolean
  random: Random
  freshNonce: () => Nonce
  /** A run that goes on from its checkpoint; `adopt` asks it to pull a live peer's state first (away for long). */
  resumed?:
    | { steps: number; rounds: number; outcomes: readonly Nonce[]; adopt: boolean }
    | undefined
}

/** A round is lengthened until it lasts this long, unless strict. */
const ROUND_MS = 250
/** A newcomer waits this long for anybody who has trained. */
const JOIN_MS = 5000
/** With donors in sight but busy or out of reach, it goes on trying this long, then starts from its version. */
const JOIN_LIMIT_MS = 65_000
/** Cards that arrive together are compared before a donor is chosen. */
const DONOR_GATHER_MS = 300
/** A donor that was busy is asked again after this. */
const DONOR_AGAIN_MS = 5000
/** Settling: until the swarm's mean steps reach ours or this has passed, then so many gossip-only swaps. */
const SETTLE_LIMIT_MS = 60_000
const SETTLE_SWAPS = 8
/** Pace of offers while not training, jittered by as much again. */
const SETTLE_PACE_MS = 40
/** When our gossip-only swaps are done we answer the others, at most this long. */
const LINGER_MS = 20_000
/** A leaving peer finishes the swap in flight within this. */
const LEAVE_MS = 3000
/** Cards: at least this far apart for each peer of the swarm, and never closer than a minute but for news. */
const CARD_EVERY_MS = 60_000
const CARD_PER_PEER_MS = 1000
/** Links are tended this often. */
const TEND_MS = 1000
/** Serving others is measured over this window. */
const LOAD_WINDOW_MS = 60_000

export function createPeer(options: PeerOptions): Peer {
  const links = newLinks()
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
    paused: false,
    finishing: false,
    reachable: 0,
    msPerStep: 0,
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

interface State {
  options: PeerOptions
  links: Links
  swaps: Swaps
  pulls: Pulls
  context: SwapContext
  view: PeerView
  joining: Joining | undefined
  settling: Settling | undefined
  leaving: { reason: string; until: number } | undefined
  /** A round is running in the worker. */
  training: boolean
  paused: boolean
  finishing: boolean
  reachable: number
  msPerStep: number
  roundsLeft: number | undefined
  /** When to offer again outside the end of a round. */
  retryAt: number
  tendAt: number
  cardAt: number
  servedMs: { at: number; ms: number }[]
  phase: Phase | undefined
  said: { count: number; direct: number }
}

interface Joining {
  since: number
  tried: Set<PeerId>
  firstDonorAt: number
  /** When donors that were busy are asked again. */
  againAt: number
  pull:
    | { nonce: Nonce; from: PeerId; deadline: number; steps: number; received: boolean }
    | undefined
}

interface Settling {
  since: number
  /** Set when the swarm caught up: how many swaps we had settled then. */
  gossipFrom: number | undefined
  agreedAt: number | undefined
}

function handle(state: State, event: PeerEvent, now: number): PeerEffect[] {
  if (state.view.stage === 'stopped') return []
  const effects: PeerEffect[] = []
  // First what time has ended: a message that comes after its deadline finds nothing to answer to.
  effects.push(...after(state, expire(state.swaps, state.context, now), now))
  effects.push(...expireRound(state.pulls, state.links, now, state.options.random))
  effects.push(...react(state, event, now))
  effects.push(...advance(state, now))
  effects.push(...refresh(state, now))
  effects.push({ type: 'timer', at: nextTick(state, now) })
  return effects
}

function react(state: State, event: PeerEvent, now: number): PeerEffect[] {
  switch (event.type) {
    case 'joined':
      return joined(state, now)
    case 'card':
      return heard(state, event.card, now)
    case 'linked':
      linked(state.links, event.peer, event.path, now)
      return []
    case 'unlinked':
      unlinked(state.links, event.peer)
      return []
    case 'reachable':
      state.reachable = event.count
      return []
    case 'trained':
      return trained(state, event, now)
    case 'offered':
      // Rounds are over, and with them their budget: others may still need us to agree.
      if (state.settling) state.swaps.budget = Math.max(state.swaps.budget, 1)
      return after(
        state,
        answer(state.swaps, state.context, event, refusal(state, event), state.view.steps, now),
        now,
      )
    case 'pull-asked':
      return servePull(
        state.pulls,
        event,
        pullRefusal(state, event),
        2 * state.options.pullFrom,
        now,
      )
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
      return []
    case 'finish':
      state.finishing = true
      return []
    case 'leave':
      return leave(state, event.reason, now)
    case 'tick':
      return []
    default:
      return after(state, progress(state.swaps, state.context, event, now), now)
  }
}

// Joining ------------------------------------------------------------------------------------------------------------

function joined(state: State, now: number): PeerEffect[] {
  state.tendAt = now
  state.joining = {
    since: now,
    tried: new Set(),
    firstDonorAt: Number.POSITIVE_INFINITY,
    againAt: Number.POSITIVE_INFINITY,
    pull: undefined,
  }
  return [publish(state, now)]
}

/** A newcomer adopts; a run that goes on, or that never averages, starts as it is. */
function wantsState({ options }: State): boolean {
  if (!options.swap) return false
  return options.resumed ? options.resumed.adopt : true
}

function tryToJoin(state: State, now: number): PeerEffect[] {
  const joining = state.joining!
  if (!wantsState(state)) return begin(state)
  if (joining.pull) return expirePull(state, now)
  const waited = now - joining.since
  const ahead = [...state.links.known.values()].some(
    ({ steps, phase }) => steps > 0 && phase !== 'joining',
  )
  if (waited >= (ahead ? JOIN_LIMIT_MS : JOIN_MS)) return begin(state)
  if (now >= joining.againAt) joining.tried.clear()
  const donor = chooseDonor(state.links, joining.tried)
  if (donor) joining.firstDonorAt = Math.min(joining.firstDonorAt, now)
  return donor && now >= joining.firstDonorAt + DONOR_GATHER_MS
    ? pullFrom(state, donor.peer, now)
    : []
}

function pullFrom(state: State, from: PeerId, now: number): PeerEffect[] {
  const { options } = state
  const joining = state.joining!
  const nonce = options.freshNonce()
  const deadline = now + allowanceMs(state.pulls.pace, options.stateBytes)
  joining.tried.add(from)
  joining.pull = { nonce, from, deadline, steps: 0, received: false }
  const message = { type: 'pull', nonce, what: 'state', codec: 'float32' } as const
  return [{ type: 'send', to: from, message }]
}

function expirePull(state: State, now: number): PeerEffect[] {
  const { pull } = state.joining!
  if (!pull || pull.received || now <= pull.deadline) return []
  return pullFailed(state, now)
}

function pullFailed(state: State, now: number): PeerEffect[] {
  const joining = state.joining!
  const { nonce } = joining.pull!
  joining.pull = undefined
  joining.againAt = now + DONOR_AGAIN_MS
  return [
    { type: 'close', nonce },
    { type: 'release', nonce },
  ]
}

function granted(state: State, event: Extract<PeerEvent, { type: 'granted' }>): PeerEffect[] {
  const pull = state.joining?.pull
  if (pull?.nonce === event.nonce && pull.from === event.from) pull.steps = event.steps
  return []
}

function adopted(
  state: State,
  event: Extract<PeerEvent, { type: 'adopted' }>,
  now: number,
): PeerEffect[] {
  const nonce = state.joining?.pull?.nonce
  if (!nonce || nonce !== event.nonce) return []
  addSteps(state.view, event.steps - state.view.steps)
  return [
    { type: 'close', nonce },
    { type: 'release', nonce },
    ...begin(state),
    publish(state, now),
  ]
}

/** From here on we train, and every swap is half and half. */
function begin(state: State): PeerEffect[] {
  state.joining = undefined
  state.view.stage = 'training'
  return []
}

// Rounds -------------------------------------------------------------------------------------------------------------

function trained(
  state: State,
  event: Extract<PeerEvent, { type: 'trained' }>,
  now: number,
): PeerEffect[] {
  const { view, options } = state
  const first = view.steps === 0
  state.training = false
  view.round += 1
  addSteps(view, event.steps)
  if (state.roundsLeft !== undefined) state.roundsLeft -= 1
  learnPace(state, event.ms / Math.max(1, event.steps))
  // A bucket, so that a round nobody was free in is made up for by the next.
  state.swaps.budget = Math.min(
    2 * options.swapsPerRound,
    state.swaps.budget + options.swapsPerRound,
  )
  state.swaps.tried.clear()
  state.pulls.copiesServed = 0
  const { steps, loss, samples } = event
  const report: Report = { ev: 'round', round: view.round, steps, loss, samples }
  const effects: PeerEffect[] = [
    { type: 'report', report },
    { type: 'evaluate', at: 'trained', round: view.round },
  ]
  // Now that there is something to pull, newcomers should know.
  if (first) effects.push(publish(state, now))
  return [...effects, ...meet(state, now)]
}

/** A donor may have claimed any count; ours stays one that neighbours can read. */
function addSteps(view: PeerView, steps: number): void {
  view.steps = Math.min(Number.MAX_SAFE_INTEGER, view.steps + steps)
}

function learnPace(state: State, ms: number): void {
  state.msPerStep = state.msPerStep === 0 ? ms : 0.7 * state.msPerStep + 0.3 * ms
}

/** Offers once, or pulls once, where the rule and the budget let us. */
function meet(state: State, now: number): PeerEffect[] {
  const { options, view } = state
  state.retryAt = Number.POSITIVE_INFINITY
  if (!options.swap || state.paused) return []
  if (options.meets === 'pull') {
    return startRound(state.pulls, state.links, { ...options, from: options.pullFrom }, now)
  }
  const step = offer(state.swaps, state.context, view.steps, now)
  return step ? after(state, step, now) : []
}

/** Whatever may now start, starts: joining, the next round, the next gossip-only swap, the end. */
function advance(state: State, now: number): PeerEffect[] {
  const effects: PeerEffect[] = []
  const { view } = state
  if (state.leaving) return depart(state, now)
  if (state.joining) effects.push(...tryToJoin(state, now))
  if (view.stage === 'training') effects.push(...trainOn(state, now))
  if (view.stage === 'settling' || view.stage === 'done') effects.push(...settle(state, now))
  return effects
}

function trainOn(state: State, now: number): PeerEffect[] {
  const effects = now >= state.retryAt ? meet(state, now) : []
  if (state.training || state.paused) return effects
  // Strict rounds wait for their meeting, so that each round has one and H is exact.
  if (state.options.strict && isMeeting(state)) return effects
  if (state.finishing || state.roundsLeft === 0) return [...effects, ...startSettling(state, now)]
  state.training = true
  return [...effects, { type: 'train', steps: stepsNow(state) }]
}

function isMeeting(state: State): boolean {
  return (
    state.swaps.current !== undefined ||
    state.pulls.round !== undefined ||
    state.retryAt < Number.POSITIVE_INFINITY
  )
}

function stepsNow({ options, msPerStep }: State): number {
  if (options.strict || msPerStep === 0) return options.stepsPerRound
  return Math.max(options.stepsPerRound, Math.ceil(ROUND_MS / msPerStep))
}

// Settling -----------------------------------------------------------------------------------------------------------

function startSettling(state: State, now: number): PeerEffect[] {
  state.settling = { since: now, gossipFrom: undefined, agreedAt: undefined }
  state.view.stage = 'settling'
  return [publish(state, now)]
}

/** Gossip-only swaps until the peers agree; alone there is nobody to agree with. */
function settle(state: State, now: number): PeerEffect[] {
  const settling = state.settling!
  const { view, options } = state
  if (!options.swap || (live(state.links).length === 0 && !state.swaps.current))
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

/** The swarm's mean steps have reached ours, or will not: nobody that we know of still trains. */
function caughtUp({ settling, links, view }: State, now: number): boolean {
  if (now - settling!.since > SETTLE_LIMIT_MS) return true
  if (meanSteps(links, view.steps) >= view.steps) return true
  return ![...links.known.values()].some(({ phase }) => phase === 'training')
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

// Leaving ------------------------------------------------------------------------------------------------------------

function leave(state: State, reason: string, now: number): PeerEffect[] {
  state.leaving ??= { reason, until: now + LEAVE_MS }
  state.view.stage = 'leaving'
  return []
}

/** The swap in flight is finished, not the round. */
function depart(state: State, now: number): PeerEffect[] {
  const { reason, until } = state.leaving!
  if (state.swaps.current && now < until) return []
  return stop(state, reason)
}

function stop(state: State, reason: string): PeerEffect[] {
  state.view.stage = 'stopped'
  return [
    { type: 'publish', card: cardState(state, 'leaving', 0) },
    { type: 'stop', reason },
  ]
}

// Meetings -----------------------------------------------------------------------------------------------------------

function refusal(
  { options, view, paused, joining, pulls }: State,
  { nonce }: Extract<PeerEvent, { type: 'offered' }>,
): BusyReason | undefined {
  if (!options.swap || options.meets !== 'swap') return 'no-swap'
  if (paused) return 'paused'
  if (pulls.serving.has(nonce)) return 'busy'
  if (joining || view.stage === 'joining' || view.stage === 'leaving') return 'busy'
  return undefined
}

function pullRefusal(
  { options, view, joining, swaps, pulls }: State,
  { nonce }: Extract<PeerEvent, { type: 'pull-asked' }>,
): BusyReason | undefined {
  if (!options.swap) return 'no-swap'
  if (knows(swaps, nonce) || pulls.round?.asked.has(nonce)) return 'busy'
  return joining || view.stage === 'leaving' || view.steps === 0 ? 'busy' : undefined
}

/** Reports how swaps ended and goes on: a declined offer is tried elsewhere, a settled one is measured. */
function after(state: State, step: Step, now: number): PeerEffect[] {
  state.view.inDoubt = state.swaps.doubts.size
  state.view.lostDoubts = state.swaps.lostDoubts
  return [...step.effects, ...step.endings.flatMap((ending) => ended(state, ending, now))]
}

function ended(state: State, ending: Ending, now: number): PeerEffect[] {
  const { view } = state
  if (ending.type === 'declined') {
    tryAnother(state, now)
    return []
  }
  if (ending.type === 'failed') {
    view.failedSwaps += 1
    const report: Report = {
      ev: 'swap-failed',
      round: view.round,
      with: ending.with,
      reason: ending.reason,
    }
    tryAnother(state, now)
    return [{ type: 'report', report }]
  }
  const { swap, distance, late } = ending
  view.swaps += 1
  view.bytesUp += swap.bytesUp
  view.bytesDown += swap.bytesDown
  if (!late && 'role' in swap && swap.role === 'accepter')
    countServed(state, now, now - swap.startedAt)
  // What is left of the budget is offered now, to three links again; both of us have just become free, so not in step.
  state.swaps.tried.clear()
  if (state.swaps.budget >= 1) state.retryAt = now + SETTLE_PACE_MS * state.options.random()
  return [{ type: 'report', report: swapReport(state, swap, distance) }, evaluateAveraged(state)]
}

function tryAnother(state: State, now: number): void {
  // Who is busy is free after a swap's time at most; chance keeps crowds that find each other busy from staying in step.
  state.retryAt = now + Math.max(SETTLE_PACE_MS, usualMs(state.swaps.pace)) * state.options.random()
}

function swapReport(
  state: State,
  swap: { with: PeerId; bytesUp: number; bytesDown: number },
  distance: number,
): Report {
  const path = state.links.known.get(swap.with)?.path ?? 'tcp'
  const { bytesUp, bytesDown } = swap
  return {
    ev: 'swap',
    round: state.view.round,
    with: swap.with,
    path,
    bytesUp,
    bytesDown,
    distance,
  }
}

function evaluateAveraged({ view }: State): PeerEffect {
  return { type: 'evaluate', at: 'averaged', round: view.round }
}

function gave(
  state: State,
  event: Extract<PeerEvent, { type: 'gave' }>,
  now: number,
): PeerEffect[] {
  const serving = state.pulls.serving.get(event.nonce)
  if (!serving) return after(state, progress(state.swaps, state.context, event, now), now)
  countServed(state, now, now - serving.since)
  state.view.bytesUp += event.bytes
  return served(state.pulls, event)
}

function received(
  state: State,
  event: Extract<PeerEvent, { type: 'received' }>,
  now: number,
): PeerEffect[] {
  const pull = state.joining?.pull
  if (pull?.nonce === event.nonce) {
    pull.received = true
    state.view.bytesDown += event.bytes
    return [{ type: 'adopt', nonce: event.nonce, steps: pull.steps }]
  }
  if (state.pulls.round?.asked.has(event.nonce)) {
    state.view.bytesDown += event.bytes
    return copyReceived(state.pulls, event.nonce, event.bytes, now)
  }
  return after(state, progress(state.swaps, state.context, event, now), now)
}

function refused(
  state: State,
  event: Extract<PeerEvent, { type: 'declined' }>,
  now: number,
): PeerEffect[] {
  if (state.joining?.pull?.nonce === event.nonce) return pullFailed(state, now)
  const { random } = state.options
  if (state.pulls.round?.asked.has(event.nonce)) {
    return copyFailed(state.pulls, state.links, event.nonce, now, random, false)
  }
  return after(state, progress(state.swaps, state.context, event, now), now)
}

function brokenOff(
  state: State,
  event: Extract<PeerEvent, { type: 'broken' }>,
  now: number,
): PeerEffect[] {
  const pull = state.joining?.pull
  if (pull?.nonce === event.nonce) return pull.received ? [] : pullFailed(state, now)
  const { random } = state.options
  state.pulls.serving.delete(event.nonce)
  if (state.pulls.round?.asked.has(event.nonce)) {
    return copyFailed(state.pulls, state.links, event.nonce, now, random, true)
  }
  return after(state, progress(state.swaps, state.context, event, now), now)
}

function pullSettled(
  state: State,
  { distance }: Extract<PeerEvent, { type: 'settled' }>,
): PeerEffect[] {
  const { asked } = state.pulls.round!
  state.pulls.round = undefined
  const effects: PeerEffect[] = []
  for (const [nonce, copy] of asked) {
    state.view.swaps += 1
    effects.push({ type: 'close', nonce }, { type: 'release', nonce })
    const swap = { with: copy.with, bytesUp: 0, bytesDown: copy.bytes }
    effects.push({ type: 'report', report: swapReport(state, swap, distance) })
  }
  return [...effects, evaluateAveraged(state)]
}

// Cards, links, phases ------------------------------------------------------------------------------------------------

function heard(state: State, card: Card, now: number): PeerEffect[] {
  if (card.peer === state.options.self) return []
  const isNew = hear(state.links, card, now, CARD_LIFETIME_MS)
  if (isNew) state.tendAt = now
  return []
}

function publish(state: State, now: number): PeerEffect {
  const size = state.links.known.size + 1
  const every = Math.max(CARD_EVERY_MS, CARD_PER_PEER_MS * size)
  state.cardAt = now + every * (0.75 + 0.5 * state.options.random())
  const { stage } = state.view
  const phase = stage === 'stopped' ? 'leaving' : stage
  return { type: 'publish', card: cardState(state, phase, loadOf(state, now)) }
}

function cardState({ view }: State, phase: Card['phase'], load: number): CardState {
  return { phase, round: view.round, steps: view.steps, load }
}

/** The share of the last minute spent serving others. */
function loadOf(state: State, now: number): number {
  state.servedMs = state.servedMs.filter(({ at }) => now - at < LOAD_WINDOW_MS)
  const sum = state.servedMs.reduce((total, { ms }) => total + ms, 0)
  return Math.min(1, sum / LOAD_WINDOW_MS)
}

function countServed(state: State, now: number, ms: number): void {
  state.servedMs.push({ at: now, ms })
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

function sayPeers(state: State): PeerEffect[] {
  const direct = live(state.links).length
  const count = state.links.known.size
  state.view.links = direct
  if (count === state.said.count && direct === state.said.direct) return []
  state.said = { count, direct }
  return [{ type: 'report', report: { ev: 'peers', count, direct } }]
}

function sayPhase(state: State): PeerEffect[] {
  const phase = phaseOf(state)
  if (phase === state.phase) return []
  state.phase = phase
  return [{ type: 'report', report: phaseReport(phase) }]
}

function phaseOf({ view, paused, reachable, leaving, options }: State): Phase {
  if (leaving) return 'leaving'
  if (paused) return 'paused'
  if (view.stage === 'joining') return 'connecting'
  if (view.stage === 'settling' || view.stage === 'done') return 'settling'
  if (view.links > 0 && options.swap) return 'training'
  return reachable > 0 ? 'training-alone' : 'offline-training'
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

function joiningTick({ since, pull, firstDonorAt, againAt }: Joining, now: number): number {
  if (pull) return pull.received ? Number.POSITIVE_INFINITY : pull.deadline + 1
  const marks = [since + JOIN_MS, since + JOIN_LIMIT_MS, firstDonorAt + DONOR_GATHER_MS, againAt]
  return Math.min(...marks.filter((at) => at > now))
}
