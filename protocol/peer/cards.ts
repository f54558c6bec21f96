import { CARD_LIFETIME_MS, type Card } from '../message.ts'
import { type Phase, phaseReport } from '../report.ts'
import type { CardState, PeerEffect, PeerEvent } from './events.ts'
import { cardEveryMs, cardLifetimeMs } from './lifetime.ts'
import { hear, live } from './links.ts'
import { maySwap, type State } from './state.ts'

/** What a Peer says of itself, to the swarm in its card and to its host in reports, and what it hears of others. */

/** Serving others is measured over this window. */
const LOAD_WINDOW_MS = 60_000

export function heard(
  state: State,
  { card, livesMs = CARD_LIFETIME_MS }: Extract<PeerEvent, { type: 'card' }>,
  now: number,
): PeerEffect[] {
  if (card.peer === state.options.self) return []
  const isNew = hear(state.links, card, now, livesMs)
  if (isNew) state.tendAt = now
  return []
}

export function publish(state: State, now: number): PeerEffect {
  const size = state.links.known.size + 1
  state.cardAt = now + cardEveryMs(size) * (0.75 + 0.5 * state.options.random())
  const { stage } = state.view
  const phase = stage === 'stopped' ? 'leaving' : stage
  const card = cardState(state, phase, loadOf(state, now))
  return { type: 'publish', card, livesMs: cardLifetimeMs(size) }
}

export function cardState({ view }: State, phase: Card['phase'], load: number): CardState {
  return { phase, round: view.round, steps: view.steps, load }
}

/** The share of the last minute spent serving others. */
function loadOf(state: State, now: number): number {
  state.servedMs = state.servedMs.filter(({ at }) => now - at < LOAD_WINDOW_MS)
  const sum = state.servedMs.reduce((total, { ms }) => total + ms, 0)
  return Math.min(1, sum / LOAD_WINDOW_MS)
}

export function countServed(state: State, now: number, ms: number): void {
  state.servedMs.push({ at: now, ms })
}

export function sayPeers(state: State): PeerEffect[] {
  const direct = live(state.links).length
  const count = state.links.known.size
  state.view.links = direct
  if (count === state.said.count && direct === state.said.direct) return []
  state.said = { count, direct }
  return [{ type: 'report', report: { ev: 'peers', count, direct } }]
}

export function sayPhase(state: State): PeerEffect[] {
  const phase = phaseOf(state)
  if (phase === state.phase) return []
  state.phase = phase
  return [{ type: 'report', report: phaseReport(phase) }]
}

function phaseOf(state: State): Phase {
  const { view, paused, reachable, leaving } = state
  if (leaving) return 'leaving'
  if (paused) return 'paused'
  if (view.stage === 'joining') return 'connecting'
  if (view.stage === 'settling' || view.stage === 'done') return 'settling'
  if (view.links > 0 && maySwap(state)) return 'training'
  return reachable > 0 ? 'training-alone' : 'offline-training'
}
