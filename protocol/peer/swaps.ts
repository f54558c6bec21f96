import type { CodecName } from '../codec/codec.ts'
import { invariant } from '../errors.ts'
import type { BusyReason, Digest, MessageOf, Nonce, Outcome, PeerId } from '../message.ts'
import type { Random } from '../random.ts'
import { allowanceMs, newPace, type Pace, remember } from './deadline.ts'
import type { PeerEffect, PeerEvent } from './events.ts'
import {
  backOff,
  choose,
  codecFor,
  type Links,
  met,
  type Neighbour,
  succeeded,
  toldSteps,
} from './links.ts'

/**
 * One swap at a time, and the few that are in doubt.
 *
 *   offerer    offering ──ACCEPT──▶ exchanging ──READY──▶ settling ──settled──▶ COMMIT, done
 *   accepter              OFFER ──▶ exchanging ──both copies──▶ READY, ready ──COMMIT──▶ settling ──settled──▶ done
 *
 * The offerer decides: it applies and then says COMMIT. An accepter that said READY and hears nothing in time is in
 * doubt; it keeps both copies and asks. Everybody else who hears nothing in time drops the swap, and nothing changed.
 * Source: DESIGN.md section 4; two-phase commit with one participant, Gray 1978.
 */
export interface Swaps {
  current: Swap | undefined
  /** Accepted, READY said, COMMIT not heard: by nonce. */
  doubts: Map<Nonce, Doubt>
  /** Swaps that we offered and applied, newest last; the worker keeps the newest 64 in its checkpoint. */
  outcomes: Set<Nonce>
  /** What may still be offered or accepted in this round. */
  budget: number
  /** Links tried since the last round ended, and those of them that were busy: free again in a moment. */
  tried: Set<PeerId>
  busy: Set<PeerId>
  pace: Pace
  /** Doubts given up after DOUBT_LIMIT_MS: each may have moved the sum of params. */
  lostDoubts: number
}

interface SwapBase {
  with: PeerId
  nonce: Nonce
  /** How both copies are encoded: as the offer says. */
  codec: CodecName
  startedAt: number
  deadline: number
}
interface Exchange extends SwapBase {
  given: Digest | undefined
  received: Digest | undefined
  bytesUp: number
  bytesDown: number
}
export type Swap =
  | (SwapBase & { state: 'offering'; role: 'offerer' })
  | (Exchange & { state: 'exchanging'; role: 'offerer'; ready: Digest | undefined })
  | (Exchange & { state: 'exchanging' | 'ready'; role: 'accepter' })
  | (Exchange & { state: 'settling'; role: 'offerer' | 'accepter' })

interface Doubt extends Exchange {
  since: number
  askAt: number
  asks: number
  settling: boolean
}

/** A settled or failed swap, for the caller to report and go on. */
export type Ending =
  | { type: 'settled'; swap: Exchange; distance: number; late: boolean }
  | { type: 'failed'; with: PeerId; nonce: Nonce; reason: string }
  | { type: 'declined'; with: PeerId; reason: BusyReason }

export interface Step {
  effects: PeerEffect[]
  endings: Ending[]
}

/** What a swap needs to know of its peer. */
export interface SwapContext {
  self: PeerId
  codec: CodecName
  /** Bytes of one encoded copy. */
  copyBytes: number
  random: Random
  /** 16 fresh unguessable bytes, hex. */
  freshNonce: () => Nonce
  links: Links
}

/** First link and two others. */
export const LINKS_TRIED = 3
/** Offers that we applied, remembered for longer than any accepter asks: ten minutes at four swaps a second and more. */
export const OUTCOMES_KEPT = 4096
const DOUBTS_AT_ONCE = 4
/** An accepter in doubt asks this long, then drops the swap and counts it. */
const DOUBT_LIMIT_MS = 10 * 60_000
/** First wait between two questions, doubled each time up to the second. */
const ASK_MS = 500
const ASK_MAX_MS = 15_000

export function newSwaps(outcomes: readonly Nonce[] = []): Swaps {
  return {
    current: undefined,
    doubts: new Map(),
    outcomes: new Set(outcomes),
    budget: 0,
    tried: new Set(),
    busy: new Set(),
    pace: newPace(),
    lostDoubts: 0,
  }
}

/**
 * Offers to one of `among`, or else to a random live neighbour, if a swap may start at all. Returns undefined when there is nobody
 * to ask.
 */
export function offer(
  swaps: Swaps,
  context: SwapContext,
  steps: number,
  now: number,
  among?: readonly Neighbour[],
): Step | undefined {
  const { links, random } = context
  const isSpent = swaps.budget < 1 || (!among && swaps.tried.size >= LINKS_TRIED)
  if (swaps.current || isSpent) return undefined
  const neighbour = choose(links, random, now, swaps.tried, among)
  if (!neighbour) return undefined
  swaps.tried.add(neighbour.peer)
  const nonce = context.freshNonce()
  const codec = codecFor([neighbour], context.codec)
  swaps.current = {
    state: 'offering',
    role: 'offerer',
    ...begin(swaps, context, { with: neighbour.peer, nonce, codec }, now),
  }
  const message = { type: 'offer', nonce, codec, steps } as const
  return { effects: [{ type: 'send', to: neighbour.peer, message }], endings: [] }
}

/** Answers an offer at once. `refuse` is the caller's own reason to say no. */
export function answer(
  swaps: Swaps,
  context: SwapContext,
  event: Extract<PeerEvent, { type: 'offered' }>,
  refuse: BusyReason | undefined,
  steps: number,
  now: number,
): Step {
  const { from, nonce } = event
  toldSteps(context.links, from, event.steps)
  const reason = refuse ?? (knows(swaps, nonce) ? 'busy' : whyNot(swaps, context, from))
  if (reason) return { effects: [busy(from, nonce, reason)], endings: [] }
  const voided = swaps.current ? voidOffer(swaps) : []
  swaps.budget -= 1
  swaps.current = {
    state: 'exchanging',
    role: 'accepter',
    ...begin(swaps, context, { with: from, nonce, codec: event.codec }, now),
    ...nothingYet,
  }
  return {
    effects: [
      ...voided,
      { type: 'send', to: from, message: { type: 'accept', nonce, steps } },
      { type: 'give', nonce, what: 'copy', codec: event.codec },
    ],
    endings: [],
  }
}

/** Every other event of a swap. Events of no swap that we know are answered or ignored, never an error. */
export function progress(swaps: Swaps, context: SwapContext, event: PeerEvent, now: number): Step {
  switch (event.type) {
    case 'accepted':
      return accepted(swaps, context, event)
    case 'declined':
      return declined(swaps, event)
    case 'gave':
    case 'received':
      return copied(swaps, event)
    case 'ready':
      return readied(swaps, event)
    case 'committed':
      return committed(swaps, event)
    case 'settled':
      return settled(swaps, context, event, now)
    case 'broken':
      return broken(swaps, context, event.nonce, event.reason, now)
    case 'asked':
      return asked(swaps, event)
    case 'told':
      return told(swaps, context, event, now)
    default:
      return nothing()
  }
}

/** Ends what is past its deadline and asks after what is in doubt. Called before any event is looked at. */
export function expire(swaps: Swaps, context: SwapContext, now: number): Step {
  const step = nothing()
  const { current } = swaps
  // The offerer's own settling has no deadline: its worker answers, sooner or later, and then it says COMMIT.
  if (current && current.state !== 'settling' && now > current.deadline) {
    append(step, broken(swaps, context, current.nonce, 'no answer before its deadline', now))
  }
  for (const doubt of swaps.doubts.values())
    append(step, tendDoubt(swaps, context.links, doubt, now))
  return step
}

/** When expire() has something to do next. */
export function nextDeadline(swaps: Swaps): number {
  let next = Number.POSITIVE_INFINITY
  if (swaps.current && swaps.current.state !== 'settling') next = swaps.current.deadline + 1
  for (const doubt of swaps.doubts.values()) if (!doubt.settling) next = Math.min(next, doubt.askAt)
  return next
}

function begin(
  swaps: Swaps,
  context: SwapContext,
  named: Pick<SwapBase, 'with' | 'nonce' | 'codec'>,
  now: number,
): SwapBase {
  const deadline = now + allowanceMs(swaps.pace, context.copyBytes)
  return { ...named, startedAt: now, deadline }
}

/** A nonce is used once; a second swap or pull of that name could undo the first. */
export function knows(swaps: Swaps, nonce: Nonce): boolean {
  return isHeld(swaps, nonce) || swaps.outcomes.has(nonce)
}

/** Whether copies under this nonce are still needed. */
function isHeld(swaps: Swaps, nonce: Nonce): boolean {
  return swaps.current?.nonce === nonce || swaps.doubts.has(nonce)
}

const nothingYet = { given: undefined, received: undefined, bytesUp: 0, bytesDown: 0 }

function whyNot(swaps: Swaps, context: SwapContext, from: PeerId): BusyReason | undefined {
  const { current } = swaps
  if (current) {
    const crossing = current.state === 'offering' && current.with === from
    if (!crossing) return 'busy'
    // Both offered to each other: the lower peer id's offer stands.
    if (context.self < from) return 'crossed'
  }
  if (swaps.doubts.size >= DOUBTS_AT_ONCE) return 'in-doubt'
  // A void offer gives its share of the budget back.
  if (swaps.budget + (current ? 1 : 0) < 1) return 'budget'
  return undefined
}

function voidOffer(swaps: Swaps): PeerEffect[] {
  const { nonce } = swaps.current!
  swaps.current = undefined
  return [
    { type: 'close', nonce },
    { type: 'release', nonce },
  ]
}

function accepted(
  swaps: Swaps,
  context: SwapContext,
  { from, nonce, steps }: Extract<PeerEvent, { type: 'accepted' }>,
): Step {
  const { current } = swaps
  toldSteps(context.links, from, steps)
  if (current?.state !== 'offering' || current.nonce !== nonce || current.with !== from)
    return close(nonce)
  swaps.budget -= 1
  const { codec } = current
  swaps.current = { ...current, state: 'exchanging', ready: undefined, ...nothingYet }
  return { effects: [{ type: 'give', nonce, what: 'copy', codec }], endings: [] }
}

function declined(
  swaps: Swaps,
  { from, nonce, reason }: Extract<PeerEvent, { type: 'declined' }>,
): Step {
  const { current } = swaps
  if (current?.state !== 'offering' || current.nonce !== nonce || current.with !== from)
    return close(nonce)
  swaps.current = undefined
  return { ...close(nonce), endings: [{ type: 'declined', with: from, reason }] }
}

function copied(swaps: Swaps, event: Extract<PeerEvent, { type: 'gave' | 'received' }>): Step {
  const { current } = swaps
  if (!current || current.nonce !== event.nonce || current.state !== 'exchanging') {
    if (isHeld(swaps, event.nonce)) return nothing()
    return { effects: [{ type: 'release', nonce: event.nonce }], endings: [] }
  }
  const step = nothing()
  if (event.type === 'received') {
    current.received = event.digest
    current.bytesDown = event.bytes
  } else {
    current.given = event.digest
    current.bytesUp = event.bytes
    const { nonce, digest, bytes } = event
    step.effects.push({
      type: 'send',
      to: current.with,
      message: { type: 'params', nonce, bytes, digest },
    })
  }
  return append(step, current.role === 'offerer' ? maybeSettle(swaps) : maybeReady(swaps))
}

/** The accepter holds both copies whole: it says so, and from here on only the offerer may end the swap. */
function maybeReady(swaps: Swaps): Step {
  const { current } = swaps
  if (current?.role !== 'accepter' || !current.given || !current.received) return nothing()
  swaps.current = { ...current, state: 'ready' } as Swap
  const message = { type: 'ready', nonce: current.nonce, digest: current.received } as const
  return { effects: [{ type: 'send', to: current.with, message }], endings: [] }
}

function readied(
  swaps: Swaps,
  { from, nonce, digest }: Extract<PeerEvent, { type: 'ready' }>,
): Step {
  const { current } = swaps
  if (current?.nonce !== nonce || current.with !== from) return close(nonce)
  if (current.state !== 'exchanging' || current.role !== 'offerer') return nothing()
  current.ready = digest
  return maybeSettle(swaps)
}

/** The offerer holds both copies and knows that the accepter does: it decides. */
function maybeSettle(swaps: Swaps): Step {
  const { current } = swaps
  if (current?.role !== 'offerer' || current.state !== 'exchanging') return nothing()
  const { given, received, ready, nonce, codec } = current
  if (!given || !received || !ready) return nothing()
  if (ready !== given) return fail(swaps, 'READY names another copy than the one we sent')
  swaps.current = { ...current, state: 'settling' }
  return {
    effects: [{ type: 'settle', nonce, role: 'offerer', codec, received: [nonce] }],
    endings: [],
  }
}

function committed(
  swaps: Swaps,
  { from, nonce, digest }: Extract<PeerEvent, { type: 'committed' }>,
): Step {
  const { current } = swaps
  if (current?.nonce !== nonce || current.with !== from || current.state !== 'ready')
    return close(nonce)
  // A COMMIT of another copy than ours is no answer: the swap goes on being in doubt, and we ask.
  if (digest !== current.given) return close(nonce)
  swaps.current = { ...current, state: 'settling' }
  const { codec } = current
  return {
    effects: [{ type: 'settle', nonce, role: 'accepter', codec, received: [nonce] }],
    endings: [],
  }
}

function settled(
  swaps: Swaps,
  context: SwapContext,
  { nonce, distance }: Extract<PeerEvent, { type: 'settled' }>,
  now: number,
): Step {
  const doubt = swaps.doubts.get(nonce)
  if (doubt) return settledLate(swaps, doubt, distance)
  const { current } = swaps
  if (current?.nonce !== nonce) return nothing()
  invariant(current.state === 'settling', 'a settled swap was settling')
  swaps.current = undefined
  remember(swaps.pace, now - current.startedAt)
  succeeded(context.links, current.with)
  met(context.links, current.with, now)
  const step = nothing()
  if (current.role === 'offerer') {
    keepOutcome(swaps, nonce)
    const message = { type: 'commit', nonce, digest: current.received! } as const
    step.effects.push({ type: 'send', to: current.with, message })
  }
  step.effects.push({ type: 'close', nonce }, { type: 'release', nonce })
  step.endings.push({ type: 'settled', swap: current, distance, late: false })
  return step
}

function broken(
  swaps: Swaps,
  context: SwapContext,
  nonce: Nonce,
  reason: string,
  now: number,
): Step {
  const { current } = swaps
  // While settling the stream no longer matters: the offerer's record answers the accepter's question.
  if (current?.nonce !== nonce || current.state === 'settling') return nothing()
  if (current.state === 'ready') return doubt(swaps, current, now)
  backOff(context.links, current.with, now, context.random)
  return fail(swaps, reason)
}

function fail(swaps: Swaps, reason: string): Step {
  const { nonce, with: peer } = swaps.current!
  swaps.current = undefined
  return {
    effects: [
      { type: 'close', nonce },
      { type: 'release', nonce },
    ],
    endings: [{ type: 'failed', with: peer, nonce, reason }],
  }
}

function doubt(swaps: Swaps, current: Exchange, now: number): Step {
  swaps.current = undefined
  const held = { ...current, since: now, askAt: now + ASK_MS, asks: 0, settling: false }
  swaps.doubts.set(current.nonce, held)
  return {
    effects: [{ type: 'close', nonce: current.nonce }],
    endings: [
      {
        type: 'failed',
        with: current.with,
        nonce: current.nonce,
        reason: 'in doubt: READY was sent, COMMIT did not come',
      },
    ],
  }
}

/** Asks how it ended, or reaches out to whom we could ask. */
function tendDoubt(swaps: Swaps, links: Links, held: Doubt, now: number): Step {
  if (held.settling || now < held.askAt) return nothing()
  if (now - held.since > DOUBT_LIMIT_MS) {
    swaps.doubts.delete(held.nonce)
    swaps.lostDoubts += 1
    return { effects: [{ type: 'release', nonce: held.nonce }], endings: [] }
  }
  held.askAt = now + Math.min(ASK_MAX_MS, ASK_MS * 2 ** held.asks)
  held.asks += 1
  const { with: peer, nonce } = held
  if (!links.known.get(peer)?.path) return { effects: [{ type: 'dial', peer }], endings: [] }
  return { effects: [{ type: 'send', to: peer, message: { type: 'ask', nonce } }], endings: [] }
}

/** Who leaves has no time for long pauses. */
export function askNow({ doubts }: Swaps, now: number): void {
  for (const doubt of doubts.values()) doubt.askAt = Math.min(doubt.askAt, now)
}

/** Who leaves will ask no more: what is in doubt, or said READY and heard nothing yet, is dropped and counted. */
export function loseDoubts(swaps: Swaps): PeerEffect[] {
  const { current } = swaps
  const effects = forgetDoubts(swaps)
  if (current?.state !== 'ready') return effects
  swaps.current = undefined
  swaps.lostDoubts += 1
  return [...effects, { type: 'release', nonce: current.nonce }]
}

/** After another state was taken over, no swap of the old one can be made good: they are dropped and counted. */
export function forgetDoubts(swaps: Swaps): PeerEffect[] {
  const held = [...swaps.doubts.values()].filter(({ settling }) => !settling)
  for (const { nonce } of held) swaps.doubts.delete(nonce)
  swaps.lostDoubts += held.length
  return held.map(({ nonce }) => ({ type: 'release', nonce }))
}

/** Asked by an accepter in doubt. What we have not applied by now, we never will. */
function asked(swaps: Swaps, { from, nonce }: Extract<PeerEvent, { type: 'asked' }>): Step {
  const { current } = swaps
  const ours = current?.nonce === nonce && current.with === from && current.role === 'offerer'
  const outcome = outcomeOf(swaps, nonce, ours)
  const step =
    ours && outcome === 'aborted' ? fail(swaps, 'the other side lost the stream') : nothing()
  step.effects.push({ type: 'send', to: from, message: { type: 'told', nonce, outcome } })
  return step
}

function outcomeOf(swaps: Swaps, nonce: Nonce, ours: boolean): Outcome {
  if (swaps.outcomes.has(nonce)) return 'committed'
  return ours && swaps.current?.state === 'settling' ? 'pending' : 'aborted'
}

function told(
  swaps: Swaps,
  context: SwapContext,
  { from, nonce, outcome }: Extract<PeerEvent, { type: 'told' }>,
  now: number,
): Step {
  const held = swaps.doubts.get(nonce)
  if (!held || held.with !== from || held.settling || outcome === 'pending') return close(nonce)
  if (outcome === 'committed') {
    held.settling = true
    return {
      effects: [
        { type: 'close', nonce },
        { type: 'settle', nonce, role: 'accepter', codec: held.codec, received: [nonce] },
      ],
      endings: [],
    }
  }
  swaps.doubts.delete(nonce)
  backOff(context.links, from, now, context.random)
  return {
    effects: [
      { type: 'close', nonce },
      { type: 'release', nonce },
    ],
    endings: [],
  }
}

function settledLate(swaps: Swaps, held: Doubt, distance: number): Step {
  swaps.doubts.delete(held.nonce)
  return {
    effects: [{ type: 'release', nonce: held.nonce }],
    endings: [{ type: 'settled', swap: held, distance, late: true }],
  }
}

function keepOutcome(swaps: Swaps, nonce: Nonce): void {
  swaps.outcomes.add(nonce)
  if (swaps.outcomes.size <= OUTCOMES_KEPT) return
  const [oldest] = swaps.outcomes
  swaps.outcomes.delete(oldest!)
}

function busy(to: PeerId, nonce: Nonce, reason: BusyReason): PeerEffect {
  const message: MessageOf<'busy'> = { type: 'busy', nonce, reason }
  return { type: 'send', to, message }
}

function nothing(): Step {
  return { effects: [], endings: [] }
}

function close(nonce: Nonce): Step {
  return { effects: [{ type: 'close', nonce }], endings: [] }
}

function append(step: Step, more: Step): Step {
  step.effects.push(...more.effects)
  step.endings.push(...more.endings)
  return step
}
