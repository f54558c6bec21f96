import type { Report } from '../report.ts'
import { publish } from './cards.ts'
import type { PeerEffect, PeerEvent } from './events.ts'
import { lagOf } from './links.ts'
import { isMeeting, meet } from './meetings.ts'
import { startSettling } from './settling.ts'
import { addSteps, maySwap, ROUND_MS, type State } from './state.ts'

/** Rounds: so many local steps, then a meeting; each peer counts its own. */

/** A strict round waits for peers that are behind by more than this share of a round, and by no more than so many rounds. */
const LAG_SHARE = 0.1
const LAG_ROUNDS = 4
/** It waits for as long as so many of its rounds take. */
const WAIT_ROUNDS = 2

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
  state.training = true
  state.wait = undefined
  return [...effects, { type: 'train', steps: stepsNow(state) }]
}

/**
 * Strict rounds wait for those a little behind, for one round's time at most: who trains last, alone, draws the average to its
 * own labels. (Four label-skewed peers on shared cores, virtual time: 0.83 becomes 0.86.)
 */
function waitsForOthers(state: State, now: number): boolean {
  const { links, view, options, msPerStep } = state
  if (!maySwap(state) || view.round === 0 || msPerStep === 0) return false
  const { stepsPerRound } = options
  const lag = lagOf(links, view.steps, 1 / msPerStep, LAG_ROUNDS * stepsPerRound, now)
  const until = state.wait?.until ?? now + WAIT_ROUNDS * msPerStep * stepsPerRound
  if (lag < LAG_SHARE * stepsPerRound || now >= until) return false
  state.wait = { until, lookAt: Math.min(until, now + lag * msPerStep) }
  return true
}

function stepsNow({ options, msPerStep }: State): number {
  if (options.strict || msPerStep === 0) return options.stepsPerRound
  return Math.max(options.stepsPerRound, Math.ceil(ROUND_MS / msPerStep))
}
