import type { CodecName } from '../codec/codec.ts'
import type { Nonce, PeerId } from '../message.ts'
import type { Random } from '../random.ts'
import type { Phase } from '../report.ts'
import type { Links } from './links.ts'
import type { Pulls } from './pulls.ts'
import type { SwapContext, Swaps } from './swaps.ts'

/** What a Peer remembers between events, and what it was told at its start. No I/O, no clock, no chance in here. */

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
  /** Whether we pull a live peer's state after so long a sleep or pause that others made 20 rounds; false keeps our own. */
  catchUp?: boolean
  /** False never averages: the `--no-swap` control. */
  swap: boolean
  /** False begins without swaps, until they are allowed. */
  swapping?: boolean
  /** Begins paused: links are made and kept, nothing is trained or averaged until `resume`. */
  paused?: boolean
  /** Above so many direct connections, those that others opened among them, one after another is given up; more than 8. */
  linkLimit?: number | undefined
  random: Random
  freshNonce: () => Nonce
  /** A run that goes on from its checkpoint; `adopt` asks it to pull a live peer's state first (away for long). */
  resumed?:
    | { steps: number; rounds: number; outcomes: readonly Nonce[]; adopt: boolean }
    | undefined
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
  /** From the offer until our params have moved by it, or nothing will. */
  isSwapping: boolean
  bytesUp: number
  bytesDown: number
  /** Neighbours that we could swap with now. */
  links: number
}

type Stage = 'joining' | 'training' | 'settling' | 'done' | 'leaving' | 'stopped'

export interface State {
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
  /** When we last were at work: awake, and not paused. Infinity until our first round is over. */
  workedAt: number
  /** We missed many rounds: a live peer's state is pulled as soon as nothing of ours is under way. */
  isStale: boolean
  paused: boolean
  /** Copies may travel. */
  swapping: boolean
  finishing: boolean
  reachable: number
  msPerStep: number
  meetings: Meetings
  roundsLeft: number | undefined
  /** When to offer again outside the end of a round. */
  retryAt: number
  tendAt: number
  cardAt: number
  servedMs: { at: number; ms: number }[]
  phase: Phase | undefined
  said: { count: number; direct: number }
}

/** What stands between two strict rounds. */
interface Meetings {
  /** When the next round is late, and when it begins in any case. */
  lateAt: number
  until: number
  /** Who was waited for last. */
  awaited: ReadonlySet<PeerId>
  /** Swaps since the round ended, and until when the partner of this turn is waited for. */
  turn: number
  pairedUntil: number
}

export interface Joining {
  since: number
  /** When it starts from what it has, unless somebody ahead of it is in sight. */
  patience: number
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

/** A donor may have claimed any count; ours stays one that neighbours can read. */
export function addSteps(view: PeerView, steps: number): void {
  view.steps = Math.min(Number.MAX_SAFE_INTEGER, view.steps + steps)
}

/** Whether we average at all, and may now. */
export function maySwap({ options, swapping }: Pick<State, 'options' | 'swapping'>): boolean {
  return options.swap && swapping
}

/** A round is lengthened until it lasts this long, unless strict. */
export const ROUND_MS = 250

/** What a round of ours takes now, at least. */
export function roundMs({ options, msPerStep }: State): number {
  return Math.max(options.strict ? 0 : ROUND_MS, options.stepsPerRound * msPerStep)
}
