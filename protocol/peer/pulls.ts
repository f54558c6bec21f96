import type { CodecName } from '../codec/codec.ts'
import type { BusyReason, Nonce, PeerId } from '../message.ts'
import type { Random } from '../random.ts'
import { shuffle } from '../random.ts'
import { allowanceMs, newPace, type Pace, remember } from './deadline.ts'
import type { PeerEffect, PeerEvent } from './events.ts'
import { backOff, codecFor, type Links, live, type Neighbour } from './links.ts'

/**
 * Reading other peers' params without giving ours: a newcomer's whole state from one donor, or the copies of k
 * neighbours for a rule that pulls. And the other side of it: what we serve, and how often.
 */
export interface Pulls {
  /** Copies asked for this round, by nonce; settled together when each has come or failed. */
  round: PullRound | undefined
  /** Copies that we are encoding or sending for others, by nonce. */
  serving: Map<Nonce, { to: PeerId; what: 'state' | 'copy'; since: number }>
  /** A newcomer's pull is served once in stateEveryMs(). */
  stateServedAt: number
  /** Copies served since the last round of ours, bounded as our own pulls are. */
  copiesServed: number
  pace: Pace
}

interface PullRound {
  nonce: Nonce
  codec: CodecName
  asked: Map<Nonce, PulledCopy>
  startedAt: number
  deadline: number
  settling: boolean
}

interface PulledCopy {
  with: PeerId
  received: boolean
  bytes: number
}

/** One whole-state pull per donor in this time (DESIGN.md section 4, rule 5), or sooner where it costs little. */
const STATE_EVERY_MS = 30_000
/** What a donor gives to newcomers on average, at most: who opens a page with a small model need not wait for the one before. */
const STATE_BYTES_PER_MS = 100
/** What serves longer than this was abandoned by its puller. */
const SERVE_LIMIT_MS = 120_000

export function newPulls(): Pulls {
  return {
    round: undefined,
    serving: new Map(),
    stateServedAt: Number.NEGATIVE_INFINITY,
    copiesServed: 0,
    pace: newPace(),
  }
}

/** Asks up to `from` random live neighbours for a copy. */
export function startRound(
  pulls: Pulls,
  links: Links,
  options: {
    from: number
    codec: CodecName
    copyBytes: number
    random: Random
    freshNonce: () => Nonce
  },
  now: number,
): PeerEffect[] {
  if (pulls.round) return []
  const near = live(links).filter(({ notBefore }) => notBefore <= now)
  const chosen = shuffle(options.random, near).slice(0, options.from)
  if (chosen.length === 0) return []
  // They settle together, so one codec is for all.
  const codec = codecFor(chosen, options.codec)
  const asked = new Map<Nonce, PulledCopy>()
  const effects: PeerEffect[] = chosen.map(({ peer }) => {
    const nonce = options.freshNonce()
    asked.set(nonce, { with: peer, received: false, bytes: 0 })
    const message = { type: 'pull', nonce, what: 'copy', codec } as const
    return { type: 'send', to: peer, message }
  })
  const deadline = now + allowanceMs(pulls.pace, options.copyBytes)
  pulls.round = {
    nonce: options.freshNonce(),
    codec,
    asked,
    startedAt: now,
    deadline,
    settling: false,
  }
  return effects
}

/** A copy of the round came. */
export function copyReceived(pulls: Pulls, nonce: Nonce, bytes: number, now: number): PeerEffect[] {
  const copy = pulls.round?.asked.get(nonce)
  if (!copy || pulls.round!.settling) return []
  copy.received = true
  copy.bytes = bytes
  return maybeSettle(pulls, now)
}

/** A copy of the round will not come: declined, broken. */
export function copyFailed(
  pulls: Pulls,
  links: Links,
  nonce: Nonce,
  now: number,
  random: Random,
  fault: boolean,
): PeerEffect[] {
  const copy = pulls.round?.asked.get(nonce)
  if (!copy || copy.received || pulls.round!.settling) return []
  if (fault) backOff(links, copy.with, now, random)
  pulls.round!.asked.delete(nonce)
  return [{ type: 'close', nonce }, { type: 'release', nonce }, ...maybeSettle(pulls, now)]
}

/** Past the deadline the round settles with what it has. */
export function expireRound(pulls: Pulls, links: Links, now: number, random: Random): PeerEffect[] {
  const { round } = pulls
  for (const [nonce, { since }] of pulls.serving)
    if (now - since > SERVE_LIMIT_MS) pulls.serving.delete(nonce)
  if (!round || round.settling || now <= round.deadline) return []
  const late = [...round.asked].filter(([, copy]) => !copy.received)
  return late.flatMap(([nonce]) => copyFailed(pulls, links, nonce, now, random, true))
}

/** Whether the copies now settle; with none at all the round is over. */
function maybeSettle(pulls: Pulls, now: number): PeerEffect[] {
  const round = pulls.round!
  if ([...round.asked.values()].some(({ received }) => !received)) return []
  if (round.asked.size === 0) {
    pulls.round = undefined
    return []
  }
  round.settling = true
  remember(pulls.pace, now - round.startedAt)
  const { nonce, codec, asked } = round
  return [{ type: 'settle', nonce, role: 'puller', codec, received: [...asked.keys()] }]
}

/** What a donor is ready to serve. */
interface Served {
  copiesPerRound: number
  stateBytes: number
}

/** How often a donor serves a newcomer. */
export function stateEveryMs(stateBytes: number): number {
  return Math.min(STATE_EVERY_MS, stateBytes / STATE_BYTES_PER_MS)
}

/** Answers a pull: why not, or the effects that serve it. */
export function servePull(
  pulls: Pulls,
  event: Extract<PeerEvent, { type: 'pull-asked' }>,
  refuse: BusyReason | undefined,
  { copiesPerRound, stateBytes }: Served,
  now: number,
): PeerEffect[] {
  const { from, nonce, what, codec } = event
  const reason = refuse ?? whyNot(pulls, event, { copiesPerRound, stateBytes }, now)
  if (reason) return [{ type: 'send', to: from, message: { type: 'busy', nonce, reason } }]
  if (what === 'state') pulls.stateServedAt = now
  else pulls.copiesServed += 1
  pulls.serving.set(nonce, { to: from, what, since: now })
  return [{ type: 'give', nonce, what, codec }]
}

/** Our copy for a puller is encoded: off it goes. */
export function served(pulls: Pulls, event: Extract<PeerEvent, { type: 'gave' }>): PeerEffect[] {
  const serving = pulls.serving.get(event.nonce)
  if (!serving) return []
  const { nonce, digest, bytes, steps } = event
  pulls.serving.delete(nonce)
  return [
    { type: 'send', to: serving.to, message: { type: 'grant', nonce, steps } },
    { type: 'send', to: serving.to, message: { type: 'params', nonce, bytes, digest } },
    { type: 'close', nonce },
    { type: 'release', nonce },
  ]
}

function whyNot(
  pulls: Pulls,
  { nonce, what }: Extract<PeerEvent, { type: 'pull-asked' }>,
  { copiesPerRound, stateBytes }: Served,
  now: number,
): BusyReason | undefined {
  if (pulls.serving.has(nonce)) return 'busy'
  if (what === 'state')
    return now - pulls.stateServedAt < stateEveryMs(stateBytes) ? 'busy' : undefined
  return pulls.copiesServed >= copiesPerRound ? 'budget' : undefined
}

/** The live donor with the lowest load among those that trained and are not in `tried`. */
export function chooseDonor(links: Links, tried: ReadonlySet<PeerId>): Neighbour | undefined {
  return live(links)
    .filter(({ steps, peer, phase }) => steps > 0 && phase !== 'joining' && !tried.has(peer))
    .sort((a, b) => a.load - b.load || (a.peer < b.peer ? -1 : 1))[0]
}
