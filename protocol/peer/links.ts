import type { CodecName } from '../codec/codec.ts'
import { invariant } from '../errors.ts'
import type { Card, PeerId } from '../message.ts'
import { pick, type Random } from '../random.ts'
import type { Path } from '../report.ts'
import type { PeerEffect } from './events.ts'

/**
 * Who is near: the cards we heard, and which of their peers we hold a direct connection to.
 * Eight links mix as fast as all (research/decentralized-training.md section 3.1), so more are not dialled.
 */
export interface Links {
  known: Map<PeerId, Neighbour>
  /** What live() last found; undefined when a path or phase has changed since. */
  near: readonly Neighbour[] | undefined
  /** Settled swaps since a link was last exchanged for another. */
  swapsSinceRotation: number
  /** Above so many, those that others opened among them, links are given up one by one. */
  limit: number
}

export interface Neighbour {
  peer: PeerId
  phase: Card['phase']
  /** Steps behind its params, as it last said in a card or a swap. */
  steps: number
  /** When we last swapped with it (-Infinity: never). */
  metAt: number
  /** It need not be waited for until our own steps are more than these: it refused us for another reason than being busy. */
  excused: number
  /** Strict rounds that began late for its sake, and until when it is therefore taken for a slower device. */
  lateRounds: number
  slowUntil: number
  load: number
  /** What its card says it reads; empty where nobody has said. */
  codecs: readonly string[]
  /** It answered that it cannot read ours. */
  refusedCodec: boolean
  /** How we reach it directly; undefined while we do not. */
  path: Path | undefined
  expiresInMs: number
  heardAt: number
  /** Not offered to, nor dialled, before this. */
  notBefore: number
  /** A dial of ours is counted on as a link until then. */
  expectedUntil: number
  /** How often it was dialled since we last reached it. */
  dials: number
  failures: number
}

/** DESIGN.md section 4: every peer reads it. */
const READ_BY_ALL: CodecName = 'int8'
/** Direct connections that we open ourselves. */
export const LINK_TARGET = 8
/** One link is exchanged for another each so many swaps, if there are others. */
const ROTATE_SWAPS = 5
/** Back-off after a failure: first and longest wait, doubled between, with half as much jitter again. */
const BACKOFF_MS = 1000
const BACKOFF_MAX_MS = 60_000
/** A dial answers by `linked`; without that it is tried again after this. */
const DIAL_MS = 10_000
/** A dial that failed is tried again sooner: first after this, then each time after twice as long. */
const REDIAL_MS = 1000
/** Who has nobody else to meet waits no longer than this after any failure: there is nothing better to do. */
const ALONE_BACKOFF_MS = 10_000
/** After so many dials without a link nobody waits for a peer any more. */
const DIALS_IN_VAIN = 2
/** A dial that takes longer than this is no longer counted on: others are dialled beside it. */
const EXPECT_MS = 3000
/** More cards than this are not kept: a flood of identities ends here. */
const KNOWN_LIMIT = 4096

/** After so many late rounds nobody waits for a peer, for so long; each that was not late makes good for a part of one. */
const SLOW_ROUNDS = 8
const FORGIVEN = 0.25
const SLOW_MS = 60_000

export function newLinks(limit = Number.POSITIVE_INFINITY): Links {
  invariant(limit > LINK_TARGET, `a peer opens ${LINK_TARGET} links, got a limit of ${limit}`)
  return { known: new Map(), near: undefined, swapsSinceRotation: 0, limit }
}

/** Takes in a card. Returns whether its peer is new to us. */
export function hear(links: Links, card: Card, now: number, lifetimeMs: number): boolean {
  const before = links.known.get(card.peer)
  if (before?.path && before.phase !== card.phase) links.near = undefined
  if (card.phase === 'leaving') {
    if (before?.path) before.phase = 'leaving'
    else links.known.delete(card.peer)
    return false
  }
  if (!before && links.known.size >= KNOWN_LIMIT) return false
  const neighbour = before ?? stranger(card.peer, now)
  neighbour.phase = card.phase
  learnSteps(neighbour, card.steps)
  neighbour.load = card.load
  neighbour.codecs = card.codecs
  neighbour.heardAt = now
  neighbour.expiresInMs = lifetimeMs
  links.known.set(card.peer, neighbour)
  return !before
}

export function linked(links: Links, peer: PeerId, path: Path, now: number): void {
  const neighbour = links.known.get(peer) ?? stranger(peer, now)
  links.near = undefined
  neighbour.path = path
  neighbour.dials = 0
  neighbour.heardAt = now
  if (neighbour.failures === 0) neighbour.notBefore = now
  if (neighbour.phase === 'leaving') neighbour.phase = 'joining'
  links.known.set(peer, neighbour)
}

export function unlinked(links: Links, peer: PeerId): void {
  const neighbour = links.known.get(peer)
  if (!neighbour) return
  links.near = undefined
  neighbour.path = undefined
  if (neighbour.phase === 'leaving') links.known.delete(peer)
}

/** A dial failed: others are dialled in its place, and it again when its turn comes. */
export function unreached(links: Links, peer: PeerId, now: number): void {
  const neighbour = links.known.get(peer)
  if (!neighbour || neighbour.path) return
  const wait = REDIAL_MS * 2 ** Math.max(0, neighbour.dials - 1)
  neighbour.notBefore = Math.min(neighbour.notBefore, now + wait)
  neighbour.expectedUntil = 0
  neighbour.dials = Math.max(DIALS_IN_VAIN, neighbour.dials)
}

/** A neighbour told us its steps inside a swap. */
export function toldSteps(links: Links, peer: PeerId, steps: number): void {
  const neighbour = links.known.get(peer)
  if (!neighbour) return
  learnSteps(neighbour, steps)
  // Its card may have been lost: who swaps and has trained is in no other phase for long.
  if (neighbour.phase !== 'joining' || steps === 0) return
  neighbour.phase = 'training'
  links.near = undefined
}

/** It said `unknown-codec`: whatever its card says, it is offered another from now on. */
export function refuseCodec(links: Links, peer: PeerId): void {
  const neighbour = links.known.get(peer)
  if (neighbour) neighbour.refusedCodec = true
}

/** The codec for a copy that these peers read: ours, or the one that everybody reads. */
export function codecFor(neighbours: readonly Neighbour[], ours: CodecName): CodecName {
  const readsOurs = ({ codecs, refusedCodec }: Neighbour) =>
    !refusedCodec && (codecs.length === 0 || codecs.includes(ours))
  return neighbours.every(readsOurs) ? ours : READ_BY_ALL
}

function learnSteps(neighbour: Neighbour, steps: number): void {
  neighbour.steps = Math.max(neighbour.steps, steps)
}

/** It refused for another reason than being busy: nobody with `own` steps needs to wait for it. */
export function excuse(links: Links, peer: PeerId, own: number): void {
  const neighbour = links.known.get(peer)
  if (neighbour) neighbour.excused = own
}

/**
 * Those who train beside us and have not yet said that they did our `own` steps. Who is more than `most` behind is another
 * kind of device, or gone, and does not count; nor does anybody whom we leave alone after a failure.
 */
export function behind(links: Links, own: number, most: number, now: number): Neighbour[] {
  return live(links).filter(
    ({ phase, steps, excused, notBefore, slowUntil }) =>
      phase === 'training' &&
      Math.max(steps, excused) < own &&
      own - steps <= most &&
      Math.max(notBefore, slowUntil) <= now,
  )
}

/**
 * All who train at our pace, if we are linked to each of them; undefined where we are not yet, or they are many: then others
 * see another group than we do. Whom we dialled in vain is gone.
 */
export function groupOf(
  links: Links,
  own: number,
  most: number,
  now: number,
): Neighbour[] | undefined {
  const isOfIt = (neighbour: Neighbour) =>
    neighbour.phase === 'training' &&
    mayAnswer(neighbour) &&
    Math.abs(own - neighbour.steps) <= most &&
    Math.max(neighbour.path ? neighbour.notBefore : 0, neighbour.slowUntil) <= now
  const group = [...links.known.values()].filter(isOfIt)
  return group.length <= LINK_TARGET && group.every(canSwap) ? group : undefined
}

/** A round began late for the sake of these. Who is late again and again stands not still for once: it is slow, and holds nobody up for a while. */
export function countLate(links: Links, late: ReadonlySet<PeerId>, now: number): void {
  for (const neighbour of live(links)) {
    const { lateRounds } = neighbour
    neighbour.lateRounds = late.has(neighbour.peer)
      ? lateRounds + 1
      : Math.max(0, lateRounds - FORGIVEN)
    if (neighbour.lateRounds < SLOW_ROUNDS) continue
    neighbour.lateRounds = 0
    neighbour.slowUntil = now + SLOW_MS
  }
}

export function isSlow(links: Links, peer: PeerId, now: number): boolean {
  return (links.known.get(peer)?.slowUntil ?? 0) > now
}

/** Whether we reach it, or have not tried in vain. */
export function mayAnswer({ path, dials }: Neighbour): boolean {
  return path !== undefined || dials < DIALS_IN_VAIN
}

/** Peers we can swap with now; borrowed. Asked after every event, so it is kept until a link or phase changes. */
export function live(links: Links): readonly Neighbour[] {
  links.near ??= [...links.known.values()].filter(canSwap)
  return links.near
}

/**
 * A live peer that is not backed off and not among `tried`: of those we met longest ago, or never, one at random. A few
 * peers agree sooner when nobody meets the same one twice in a row.
 */
export function choose(
  links: Links,
  random: Random,
  now: number,
  tried: ReadonlySet<PeerId>,
  among: readonly Neighbour[] = live(links),
): Neighbour | undefined {
  const free = among.filter(({ peer, notBefore }) => notBefore <= now && !tried.has(peer))
  const oldest = free.reduce((least, { metAt }) => Math.min(least, metAt), now)
  return pick(
    random,
    free.filter(({ metAt }) => metAt <= oldest),
  )
}

/** After a failure the peer is left alone for a while, longer each time. */
export function backOff(links: Links, peer: PeerId, now: number, random: Random): void {
  const neighbour = links.known.get(peer)
  if (!neighbour) return
  const wait = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** neighbour.failures)
  neighbour.failures += 1
  neighbour.notBefore = now + wait * (1 + random() / 2)
}

export function met(links: Links, peer: PeerId, now: number): void {
  const neighbour = links.known.get(peer)
  if (neighbour) neighbour.metAt = now
}

export function succeeded(links: Links, peer: PeerId): void {
  const neighbour = links.known.get(peer)
  if (neighbour) neighbour.failures = 0
  links.swapsSinceRotation += 1
}

/** Forgets cards that ran out; dials strangers until there are enough links; gives one up where there are too many, and now and then exchanges one. */
export function tend(links: Links, now: number, random: Random): PeerEffect[] {
  for (const neighbour of links.known.values()) {
    if (!neighbour.path && now - neighbour.heardAt > neighbour.expiresInMs) {
      links.known.delete(neighbour.peer)
    }
  }
  const near = live(links)
  if (near.every(({ notBefore }) => notBefore > now)) forgive(links, now)
  if (near.length > links.limit) return leaveOne(near, random)
  const unlinked = [...links.known.values()].filter(
    ({ path, phase }) => !path && phase !== 'leaving',
  )
  const expected = unlinked.filter(({ expectedUntil }) => expectedUntil > now)
  const strangers = unlinked.filter(({ notBefore }) => notBefore <= now)
  const wanted = LINK_TARGET - near.length - expected.length
  if (wanted > 0) return dialSome(strangers, wanted, now, random)
  return rotate(links, near, strangers, now, random)
}

/** Long waits are for those who have others to meet. */
function forgive({ known }: Links, now: number): void {
  for (const neighbour of known.values())
    neighbour.notBefore = Math.min(neighbour.notBefore, now + ALONE_BACKOFF_MS)
}

/** The mean of what all known peers and we say is behind our params. */
export function meanSteps(links: Links, own: number): number {
  let sum = own
  let count = 1
  for (const { steps, phase } of links.known.values()) {
    if (phase === 'leaving' || phase === 'joining' || phase === 'seeding') continue
    sum += steps
    count += 1
  }
  return sum / count
}

function rotate(
  links: Links,
  near: readonly Neighbour[],
  strangers: Neighbour[],
  now: number,
  random: Random,
): PeerEffect[] {
  if (links.swapsSinceRotation < ROTATE_SWAPS || strangers.length === 0) return []
  links.swapsSinceRotation = 0
  const dial = dialSome(strangers, 1, now, random)
  return near.length > LINK_TARGET ? [...dial, ...leaveOne(near, random)] : dial
}

/** Not a newcomer, who may be pulling our state. */
function leaveOne(near: readonly Neighbour[], random: Random): PeerEffect[] {
  const old = pick(
    random,
    near.filter(({ phase }) => phase !== 'joining'),
  )
  return old ? [{ type: 'hang-up', peer: old.peer }] : []
}

function dialSome(
  strangers: Neighbour[],
  wanted: number,
  now: number,
  random: Random,
): PeerEffect[] {
  const effects: PeerEffect[] = []
  const left = [...strangers]
  while (effects.length < wanted && left.length > 0) {
    const at = Math.floor(random() * left.length)
    const [neighbour] = left.splice(at, 1)
    neighbour!.notBefore = now + DIAL_MS * (1 + random() / 2)
    neighbour!.expectedUntil = now + EXPECT_MS
    neighbour!.dials += 1
    effects.push({ type: 'dial', peer: neighbour!.peer })
  }
  return effects
}

/** Seeders hold versions and do not average. */
function canSwap({ path, phase }: Neighbour): boolean {
  return path !== undefined && path !== 'relay' && phase !== 'leaving' && phase !== 'seeding'
}

function stranger(peer: PeerId, now: number): Neighbour {
  return {
    peer,
    phase: 'joining',
    steps: 0,
    metAt: Number.NEGATIVE_INFINITY,
    excused: 0,
    lateRounds: 0,
    slowUntil: 0,
    load: 0,
    codecs: [],
    refusedCodec: false,
    path: undefined,
    expiresInMs: 120_000,
    heardAt: now,
    notBefore: 0,
    expectedUntil: 0,
    dials: 0,
    failures: 0,
  }
}
