import type { BusyReason, PeerId } from '../message.ts'
import type { Report } from '../report.ts'
import { countServed } from './cards.ts'
import { usualMs } from './deadline.ts'
import type { PeerEffect, PeerEvent } from './events.ts'
import { pullFailed } from './joining.ts'
import { behind, excuse, groupOf, isSlow, live, type Neighbour, refuseCodec } from './links.ts'
import { copyFailed, copyReceived, served, servePull, startRound } from './pulls.ts'
import { partnerAt } from './schedule.ts'
import { maySwap, type PeerView, ROUND_MS, type State } from './state.ts'
import { answer, type Ending, knows, offer, progress, type Step } from './swaps.ts'

/** Meetings: when to offer or to pull, whom to refuse, and what follows when a swap or a round of pulls has ended. */

/** Pace of offers while not training, jittered by as much again. */
export const SETTLE_PACE_MS = 40
/** A strict round waits for peers that are behind by no more than so many rounds. */
const LAG_ROUNDS = 4

/** Offers once, or pulls once, where the rule and the budget let us. */
export function meet(state: State, now: number): PeerEffect[] {
  const { options, view } = state
  state.retryAt = Number.POSITIVE_INFINITY
  if (!maySwap(state) || state.paused) return []
  if (options.meets === 'pull') {
    return startRound(state.pulls, state.links, { ...options, from: options.pullFrom }, now)
  }
  const step = offer(state.swaps, state.context, view.steps, now, candidates(state, now))
  return step ? after(state, step, now) : []
}

/** Undefined: anybody who is live. */
function candidates(state: State, now: number): readonly Neighbour[] | undefined {
  if (state.settling) return live(state.links).filter((other) => !isTooLate(state, other))
  const partner = partnerNow(state, now)
  return partner && [partner]
}

/**
 * Whose rounds are over does not meet one that still trains, but to agree: who trains on alone, with the others standing
 * still, would draw them all to its own data.
 */
function isTooLate({ settling, view }: State, { phase }: Pick<Neighbour, 'phase'>): boolean {
  const isAgreeing = view.stage === 'settling' && settling?.gossipFrom !== undefined
  return settling !== undefined && !isAgreeing && phase === 'training'
}

/**
 * Whom we meet at this turn of a strict round, and nobody else until then; undefined where there is no such one, or no more:
 * after a while, or when it refused, we meet whom we can.
 */
function partnerNow(state: State, now: number): Neighbour | undefined {
  const { view, meetings, swaps, links } = state
  const hasTurn =
    hasTurns(state) && swaps.budget >= 1 && now < meetings.pairedUntil && !isFree(state, now)
  const partner = hasTurn && view.stage === 'training' ? partnerOf(state, now) : undefined
  if (partner === undefined) return undefined
  const hasRefused = swaps.tried.has(partner) && !swaps.busy.has(partner)
  return hasRefused ? undefined : links.known.get(partner)
}

function partnerOf(state: State, now: number): PeerId | undefined {
  const { options } = state
  const group = strictGroup(state, now)
  if (group === undefined) return undefined
  const ids = [options.self, ...group.map(({ peer }) => peer)].sort()
  return partnerAt(ids, options.self, turnOf(state))
}

/** Turns since the first step, the same number for all who go in step. */
function turnOf({ options, view, meetings }: State): number {
  const rounds = Math.round(view.steps / options.stepsPerRound)
  return rounds * options.swapsPerRound + meetings.turn
}

/**
 * Each second turn belongs to those who train at another pace, where there are any: quick and slow peers that met their like
 * alone would be two swarms.
 */
function isFree(state: State, now: number): boolean {
  if (turnOf(state) % 2 === 0) return false
  const group = strictGroup(state, now)
  const isAnother = (neighbour: Neighbour) =>
    neighbour.phase === 'training' && neighbour.notBefore <= now && !group?.includes(neighbour)
  return live(state.links).some(isAnother)
}

/** Those whose strict rounds go in step with ours; undefined where nobody's do, or not all are linked: then each goes on by itself. */
function strictGroup({ options, links, view }: State, now: number): Neighbour[] | undefined {
  if (!options.strict) return undefined
  // What we know of who we met long ago is as old as that.
  const most = (LAG_ROUNDS + links.known.size) * options.stepsPerRound
  return groupOf(links, view.steps, most, now)
}

function hasTurns({ options, meetings }: State): boolean {
  return meetings.turn < options.swapsPerRound
}

/** Passes over the turns at which an odd group leaves us out. */
export function findTurn(state: State, now: number): void {
  const { links, meetings } = state
  const isPaired = () => links.known.size > 0 && strictGroup(state, now)?.length
  while (hasTurns(state) && isPaired() && partnerOf(state, now) === undefined) meetings.turn += 1
}

/** How long a strict round's peers wait for the partner of a turn before they meet others. */
export function pairingMs(state: State): number {
  const { options, msPerStep, swaps } = state
  return Math.max(ROUND_MS, 2 * (options.stepsPerRound * msPerStep + usualMs(swaps.pace)))
}

/** Whom a strict round waits for, and asks: their answer says how far they are. */
export function awaitedBy(state: State, now: number): Neighbour[] {
  const { links, view, options } = state
  if (!hasTurns(state) || strictGroup(state, now) === undefined) return []
  return behind(links, view.steps, LAG_ROUNDS * options.stepsPerRound, now)
}

/** Offers again in a moment, if there is anybody who was busy, or whom we wait for and have not asked. */
export function askAgain(state: State, now: number): boolean {
  const { tried, busy } = state.swaps
  const isAsked = ({ peer }: Neighbour) => tried.has(peer)
  if (busy.size === 0 && awaitedBy(state, now).every(isAsked)) return false
  for (const peer of busy) tried.delete(peer)
  busy.clear()
  tryAnother(state, now)
  return true
}

export function isMeeting(state: State): boolean {
  return (
    state.swaps.current !== undefined ||
    state.pulls.round !== undefined ||
    state.retryAt < Number.POSITIVE_INFINITY
  )
}

export function answerOffer(
  state: State,
  event: Extract<PeerEvent, { type: 'offered' }>,
  now: number,
): PeerEffect[] {
  const { swaps, context, view } = state
  // Rounds are over, and with them their budget: others may still need us to agree.
  if (state.settling) swaps.budget = Math.max(swaps.budget, 1)
  return after(
    state,
    answer(swaps, context, event, refusal(state, event, now), view.steps, now),
    now,
  )
}

export function answerPull(
  state: State,
  event: Extract<PeerEvent, { type: 'pull-asked' }>,
  now: number,
): PeerEffect[] {
  const { pullFrom, stateBytes } = state.options
  const served = { copiesPerRound: 2 * pullFrom, stateBytes }
  return servePull(state.pulls, event, pullRefusal(state, event), served, now)
}

function refusal(
  state: State,
  { nonce, steps, from }: Extract<PeerEvent, { type: 'offered' }>,
  now: number,
): BusyReason | undefined {
  const { options, view, paused, swapping, joining, isStale, pulls, training, links } = state
  if (!options.swap || options.meets !== 'swap') return 'no-swap'
  if (paused) return 'paused'
  if (!swapping) return 'budget'
  if (pulls.serving.has(nonce)) return 'busy'
  if (joining || isStale || view.stage === 'joining' || view.stage === 'leaving') return 'busy'
  const offerer = links.known.get(from)
  if (offerer && isTooLate(state, offerer)) return 'budget'
  if (strictGroup(state, now) === undefined) return undefined
  const reason = outOfStep(view, options.stepsPerRound, training, steps)
  if (reason || training) return reason
  const partner = partnerNow(state, now)
  return partner && partner.peer !== from ? 'busy' : undefined
}

/**
 * Strict rounds meet between rounds: both did as many steps, and neither trains. Who is ahead is busy to wait for us; who is
 * behind need not wait for us, and trains first: on top of our round its own labels would weigh the most. Once our rounds
 * are over nobody's steps are a reason to refuse.
 */
function outOfStep(
  view: PeerView,
  stepsPerRound: number,
  training: boolean,
  steps: number,
): BusyReason | undefined {
  const rounds = Math.trunc((steps - view.steps) / stepsPerRound)
  if (view.stage !== 'training' || Math.abs(rounds) > LAG_ROUNDS) return undefined
  if (rounds > 0) return 'busy'
  return rounds < 0 || training ? 'budget' : undefined
}

function pullRefusal(
  { options, view, swapping, joining, swaps, pulls }: State,
  { nonce }: Extract<PeerEvent, { type: 'pull-asked' }>,
): BusyReason | undefined {
  if (!options.swap) return 'no-swap'
  if (!swapping) return 'budget'
  if (knows(swaps, nonce) || pulls.round?.asked.has(nonce)) return 'busy'
  return joining || view.stage === 'leaving' || view.steps === 0 ? 'busy' : undefined
}

/** Reports how swaps ended and goes on: a declined offer is tried elsewhere, a settled one is measured. */
export function after(state: State, step: Step, now: number): PeerEffect[] {
  state.view.inDoubt = state.swaps.doubts.size
  state.view.lostDoubts = state.swaps.lostDoubts
  return [...step.effects, ...step.endings.flatMap((ending) => ended(state, ending, now))]
}

function ended(state: State, ending: Ending, now: number): PeerEffect[] {
  const { view, options } = state
  if (ending.type === 'declined') {
    const isBusy = ending.reason === 'busy' || ending.reason === 'crossed'
    if (isBusy && !isSlow(state.links, ending.with, now)) state.swaps.busy.add(ending.with)
    else excuse(state.links, ending.with, view.steps)
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
  state.swaps.busy.clear()
  if (options.strict && view.stage === 'training') takeTurn(state, now)
  if (state.swaps.budget >= 1) {
    state.retryAt = now + Math.min(SETTLE_PACE_MS, retryMs(state)) * state.options.random()
  }
  return [{ type: 'report', report: swapReport(state, swap, distance) }, evaluateAveraged(state)]
}

function tryAnother(state: State, now: number): void {
  // Chance keeps crowds that find each other busy from staying in step.
  state.retryAt = now + retryMs(state) * state.options.random()
}

/** Who is busy is free after a swap's time at most. A strict round waits for its meeting, so it asks no later than that. */
function retryMs({ options, swaps }: State): number {
  const usual = usualMs(swaps.pace) || SETTLE_PACE_MS
  return options.strict ? usual : Math.max(SETTLE_PACE_MS, usual)
}

/** The next turn of a strict round. */
function takeTurn(state: State, now: number): void {
  state.meetings.turn += 1
  state.meetings.pairedUntil = now + pairingMs(state)
  findTurn(state, now)
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

export function gave(
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

export function received(
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

export function refused(
  state: State,
  event: Extract<PeerEvent, { type: 'declined' }>,
  now: number,
): PeerEffect[] {
  if (event.reason === 'unknown-codec') refuseCodec(state.links, event.from)
  if (state.joining?.pull?.nonce === event.nonce) return pullFailed(state, now)
  const { random } = state.options
  if (state.pulls.round?.asked.has(event.nonce)) {
    return copyFailed(state.pulls, state.links, event.nonce, now, random, false)
  }
  return after(state, progress(state.swaps, state.context, event, now), now)
}

export function brokenOff(
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

export function pullSettled(
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
