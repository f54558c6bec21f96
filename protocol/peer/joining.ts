import type { PeerId } from '../message.ts'
import { publish } from './cards.ts'
import { allowanceMs } from './deadline.ts'
import type { PeerEffect, PeerEvent } from './events.ts'
import { mayAnswer } from './links.ts'
import { chooseDonor, stateEveryMs } from './pulls.ts'
import { addSteps, type Joining, maySwap, roundMs, type State } from './state.ts'
import { forgetDoubts } from './swaps.ts'

/** Joining: a newcomer pulls a live peer's state before its first step; alone, it starts from the version it fetched. */

/** A newcomer waits this long for anybody who has trained. */
const JOIN_MS = 5000
/** It need not wait longer than this once it was told who is there, and nobody of them has trained. */
const NOBODY_MS = 1000
/** With donors in sight but busy, it goes on trying this long, then starts from its version. */
const JOIN_LIMIT_MS = 65_000
/** Who has trained already loses more by waiting: it goes on from its own params. */
const REJOIN_LIMIT_MS = 10_000
/** Cards that arrive together are compared before a donor is chosen. */
const DONOR_GATHER_MS = 300
/** A donor that was busy is asked again so many times while it serves the newcomer before us, but not more often or rarely than this. */
const DONOR_TURNS = 4
const DONOR_AGAIN_MS = [1000, 5000] as const
/** Who slept or was paused for longer than so many rounds takes over a neighbour's state, as a newcomer does. */
const ROUNDS_AWAY = 20
/** A shorter gap is a busy machine, or a timer that a browser holds back; rounds may take a few milliseconds. */
const AWAY_MS = 10_000

export function joined(state: State, now: number): PeerEffect[] {
  state.tendAt = now
  if (!wantsState(state)) return [...begin(state), publish(state, now)]
  return lookForState(state, now)
}

function lookForState(state: State, now: number): PeerEffect[] {
  state.joining = {
    since: now,
    patience: now + JOIN_MS,
    tried: new Set(),
    firstDonorAt: Number.POSITIVE_INFINITY,
    againAt: Number.POSITIVE_INFINITY,
    pull: undefined,
  }
  return [publish(state, now)]
}

/**
 * Called before each event. Ours come every second at least while we are awake: a longer gap was a sleep, a closed lid or a
 * frozen tab, and half of our old params would undo what the others have learned meanwhile.
 */
export function noticeAbsence(state: State, now: number): void {
  if (state.paused) return
  const { options, workedAt } = state
  state.workedAt = workedAt === Number.POSITIVE_INFINITY ? workedAt : now
  if (!options.swap || options.catchUp === false || state.joining || !isAhead(state)) return
  const most = Math.max(AWAY_MS, ROUNDS_AWAY * roundMs(state))
  if (now - workedAt > most) state.isStale = true
}

/** Once our round and our swap are over. */
export function joinAgain(state: State, now: number): PeerEffect[] {
  if (state.training || state.swaps.current || state.pulls.round) return []
  state.isStale = false
  if (state.view.stage === 'done') return []
  state.settling = undefined
  state.view.stage = 'joining'
  return lookForState(state, now)
}

/** Whether anybody has trained who may still be there: cards outlive their peers by minutes. */
function isAhead({ links }: State): boolean {
  return [...links.known.values()].some(
    (neighbour) => neighbour.steps > 0 && neighbour.phase !== 'joining' && mayAnswer(neighbour),
  )
}

/** A newcomer adopts; a run that goes on, or that never averages, starts as it is. */
function wantsState(state: State): boolean {
  if (!maySwap(state)) return false
  const { resumed } = state.options
  return resumed ? resumed.adopt : true
}

export function tryToJoin(state: State, now: number): PeerEffect[] {
  const joining = state.joining!
  if (joining.pull) return expirePull(state, now)
  if (!maySwap(state)) return [...begin(state), ...news(state, now)]
  const limit = state.view.steps > 0 ? REJOIN_LIMIT_MS : JOIN_LIMIT_MS
  if (now >= (isAhead(state) ? joining.since + limit : joining.patience))
    return [...begin(state), ...news(state, now)]
  if (now >= joining.againAt) joining.tried.clear()
  const donor = chooseDonor(state.links, joining.tried)
  if (donor) joining.firstDonorAt = Math.min(joining.firstDonorAt, now)
  return donor && now >= joining.firstDonorAt + DONOR_GATHER_MS
    ? pullFrom(state, donor.peer, now)
    : []
}

export function introduced({ joining }: State, now: number): PeerEffect[] {
  if (joining) joining.patience = Math.min(joining.patience, now + NOBODY_MS)
  return []
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

export function pullFailed(state: State, now: number): PeerEffect[] {
  const joining = state.joining!
  const { nonce } = joining.pull!
  joining.pull = undefined
  joining.againAt = now + donorAgainMs(state.options.stateBytes)
  return [
    { type: 'close', nonce },
    { type: 'release', nonce },
  ]
}

function donorAgainMs(stateBytes: number): number {
  const [least, most] = DONOR_AGAIN_MS
  return Math.min(most, Math.max(least, stateEveryMs(stateBytes) / DONOR_TURNS))
}

export function granted(
  state: State,
  event: Extract<PeerEvent, { type: 'granted' }>,
): PeerEffect[] {
  const pull = state.joining?.pull
  if (pull?.nonce === event.nonce && pull.from === event.from) pull.steps = event.steps
  return []
}

export function adopted(
  state: State,
  event: Extract<PeerEvent, { type: 'adopted' }>,
  now: number,
): PeerEffect[] {
  const nonce = state.joining?.pull?.nonce
  if (!nonce || nonce !== event.nonce) return []
  addSteps(state.view, event.steps - state.view.steps)
  return [
    ...forgetDoubts(state.swaps),
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

/** Who was away for long and found nobody has something to pull after all. */
function news(state: State, now: number): PeerEffect[] {
  return state.view.steps > 0 ? [publish(state, now)] : []
}

export function joiningTick(joining: Joining, now: number): number {
  const { since, patience, pull, firstDonorAt, againAt } = joining
  if (pull) return pull.received ? Number.POSITIVE_INFINITY : pull.deadline + 1
  const limits = [REJOIN_LIMIT_MS, JOIN_LIMIT_MS].map((ms) => since + ms)
  const marks = [...limits, patience, firstDonorAt + DONOR_GATHER_MS, againAt]
  return Math.min(...marks.filter((at) => at > now))
}
