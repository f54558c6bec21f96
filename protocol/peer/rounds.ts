import type { Report } from '../report.ts'
import { publish } from './cards.ts'
import { usualMs } from './deadline.ts'
import type { PeerEffect, PeerEvent } from './events.ts'
import { countLate } from './links.ts'
import { askAgain, awaitedBy, findTurn, isMeeting, meet, pairingMs } from './meetings.ts'
import { startSettling } from './settling.ts'
import { addSteps, maySwap, ROUND_MS, type State } from './state.ts'

/** Rounds: so many local steps, then a meeting; each peer counts its own. */

/** A strict round waits for others, and for its meetings, as long as so many rounds take with their swaps. */
const WAIT_ROUNDS = 4
/** And no shorter than this: a process that shares its cores may stand still for so long. */
const WAIT_MS = 2000
/** A round that begins later than this, in rounds with their swaps, began late. */
const LATE_ROUNDS = 2

export function trained(
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
  state.swaps.busy.clear()
  if (options.strict) beginMeetings(state, now)
  state.pulls.copiesServed = 0
  const { steps, loss, samples } = event
  const report: Report = { ev: 'round', round: view.round, steps, loss, samples }
  const effects: PeerEffect[] = [
    { type: 'report', report },
    { type: 'evaluate', at: 'trained', round: view.round },
  ]
  // Now that there is something to pull, newcomers should know.
  if (first) effects.push(publish(state, now))
  if (state.workedAt === Number.POSITIVE_INFINITY) state.workedAt = now
  return state.isStale ? effects : [...effects, ...meet(state, now)]
}

function learnPace(state: State, ms: number): void {
  state.msPerStep = state.msPerStep === 0 ? ms : 0.7 * state.msPerStep + 0.3 * ms
}

export function trainOn(state: State, now: number): PeerEffect[] {
  if (state.isStale && maySwap(state)) return []
  const effects = now >= state.retryAt ? meet(state, now) : []
  if (state.training || state.paused) return effects
  // Strict rounds wait for their meeting, so that each round has one and H is exact.
  if (state.options.strict && isMeeting(state)) return effects
  if (state.finishing || state.roundsLeft === 0) return [...effects, ...startSettling(state, now)]
  if (state.options.strict && waitsForOthers(state, now)) return effects
  if (state.options.strict) endMeetings(state, now)
  state.training = true
  return [...effects, { type: 'train', steps: stepsNow(state) }]
}

/**
 * A strict round first has the meetings of its budget, and waits for those who have not yet done as many steps, for a while:
 * who trains last, alone, draws the average to its own labels.
 */
function waitsForOthers(state: State, now: number): boolean {
  const { meetings } = state
  if (!maySwap(state) || state.options.meets !== 'swap' || now >= meetings.until) return false
  const awaited = awaitedBy(state, now)
  if (awaited.length > 0) meetings.awaited = new Set(awaited.map(({ peer }) => peer))
  return state.swaps.budget >= 1 && askAgain(state, now)
}

function beginMeetings(state: State, now: number): void {
  const { options, msPerStep, swaps } = state
  const usual = options.stepsPerRound * msPerStep + options.swapsPerRound * usualMs(swaps.pace)
  const until = now + Math.max(WAIT_MS, WAIT_ROUNDS * usual)
  const pairedUntil = now + pairingMs(state)
  const lateAt = now + LATE_ROUNDS * usual
  state.meetings = { lateAt, until, awaited: new Set(), turn: 0, pairedUntil }
  findTurn(state, now)
}

/** Those whom it waited for last are why it is late, if it is. */
function endMeetings({ meetings, links }: State, now: number): void {
  countLate(links, now > meetings.lateAt ? meetings.awaited : new Set(), now)
}

function stepsNow({ options, msPerStep }: State): number {
  if (options.strict || msPerStep === 0) return options.stepsPerRound
  return Math.max(options.stepsPerRound, Math.ceil(ROUND_MS / msPerStep))
}
