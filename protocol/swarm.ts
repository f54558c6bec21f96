import type { PrivateKey } from '@libp2p/interface'
import { toString } from 'uint8arrays'
import { aggregators } from './aggregate/table.ts'
import type { CodecName } from './codec/codec.ts'
import { stateBytes } from './codec/state.ts'
import { codecs } from './codec/table.ts'
import { Fault, type Rejection } from './errors.ts'
import { type Listing, readListing } from './listing.ts'
import { compareVersions, type Manifest } from './manifest.ts'
import {
  type Card,
  isRejection,
  type Message,
  type Nonce,
  type PeerId,
  readCard,
  signCard,
} from './message.ts'

import {
  createPeer,
  type PeerEffect,
  type PeerEvent,
  type PeerOptions,
  type PeerView,
} from './peer.ts'
import type { Clock } from './ports/clock.ts'
import type { Node } from './ports/libp2p.ts'
import { joinNetwork, type NetworkEvent } from './ports/network.ts'
import type { Command, WorkerEvent } from './ports/trainer/commands.ts'
import type { Random } from './random.ts'
import { phaseReport, type Report } from './report.ts'

/**
 * joinSwarm(): one Peer and its ports. Events come in from the network, the learner and the clock; effects go out to
 * them. It holds the encoded copies of swaps under way, and nothing else of its own.
 */
export interface Swarm {
  /** What happened, in order; ends after the last. Reading it is how the host follows and how a fault reaches it. */
  readonly reports: AsyncIterable<Report>
  readonly view: Readonly<PeerView>
  /** Bytes of copies that crossed the network, this run. */
  readonly traffic: { readonly up: number; readonly down: number }
  pause(): void
  resume(): void
  /** Stops training; settles with the others, then ends by itself. */
  finish(): void
  /** Steps take this share of the time from now on, 0 < share <= 1. */
  pace(share: number): void
  /** Whether copies may travel; while not, it trains alone and answers offers as busy. A swap under way is finished. */
  allowSwaps(allowed: boolean): void
  /** Ends after the swap in flight. Idempotent; resolves when the last timer and stream are gone. */
  leave(reason: string): Promise<void>
}

/** The worker that holds params and data, as the host started it. */
export interface Learner {
  send(command: Command): void
  /** Called with each event, in order; one listener. */
  listen(listener: (event: WorkerEvent) => void): void
}

/** Who knows whom: the registries in reach, and where to tell them who we are. */
export interface Introductions {
  /** Signed cards of peers of this swarm, and which registries told. */
  cards(genesis: string): Promise<{ cards: { card: Card }[]; answered: readonly string[] }>
  putCard(bytes: Uint8Array): Promise<unknown>
  /** Cards we heard, our own too: a peer that answers the listing protocol introduces others by them. */
  keepCard?(bytes: Uint8Array): Promise<unknown>
  /** How many registries can be asked now. */
  reachable(): number
}

export interface SwarmOptions {
  manifest: Manifest
  genesis: string
  /** CID of the version we hold; releases that are kept follow it. */
  version: string
  libp2p: Node
  introductions: Introductions
  learner: Learner
  /** The `ready` event of the learner. It may still load its data while we join: messages wait for it. */
  ready: Ready | Promise<Ready>
  /** Called once we are subscribed to the swarm's topic, which does not wait for the learner. */
  onSubscribed?: () => void
  /** Where others reach us, the best first; default: every address libp2p knows. */
  addresses?: () => readonly string[]
  clock: Clock
  random: Random
  freshNonce: () => Nonce
  key: PrivateKey
  /** Rounds of our own, with those that a checkpoint has already; or train until told to finish. */
  rounds?: number | undefined | ((ready: Ready) => number | undefined)
  /** False is the control: train alone. */
  swap?: boolean
  /** False begins without swaps, until allowSwaps(true). */
  swapping?: boolean
  /** Begins paused, until resume(). */
  paused?: boolean
  /** As PeerOptions has it; no limit unless given. */
  linkLimit?: number
  /** Whether there is room for one more connection: without it no peer is dialled, as if it had not answered. There is unless told. */
  hasRoom?: () => boolean
  /** The share of the time that steps take, until pace(); all of it unless given. */
  pace?: number
  /** A resumed run that was away for long pulls the state of a live peer. */
  adopt?: boolean | ((ready: Ready) => boolean)
  /** Whether to do so too after a long sleep or pause; it does unless told not to. */
  catchUp?: boolean
  /** Swaps per round, where not the manifest's. */
  swapsPerRound?: number | undefined
  /** Rounds end exactly after the recipe's H steps, whatever the manifest says. */
  strict?: boolean
  /** Sequence of the owner's newest listing that the host knows: what is announced counts as a release above it alone. */
  released?: number | undefined
  /**
   * A release of this model was announced, signed by its owner. True says that it is kept and served here from now on, and
   * our card names it.
   */
  onRelease?: (listing: Listing, bytes: Uint8Array) => undefined | Promise<boolean>
}

export type Ready = Extract<WorkerEvent, { type: 'ready' }>

/** Introductions are asked this often while links are few, and else rarely. */
const INTRODUCE_MS = 2000
const INTRODUCE_LATER_MS = 60_000
const FEW_LINKS = 3
/** Evaluations may take this share of the time; more is skipped. */
const EVALUATION_SHARE = 0.1
/** The learner's answer to a stop, its checkpoint written. */
const STOP_MS = 30_000

/** Resolves when the learner is ready; what it rejects with is thrown, and the topic left. */
export async function joinSwarm(options: SwarmOptions): Promise<Swarm> {
  const { manifest, genesis, libp2p, learner, clock, introductions } = options
  const { tensors } = manifest
  const codec = codecs[manifest.gossip.codec]
  const self = libp2p.peerId.toString()
  const queue = reportQueue()
  const given = new Map<Nonce, Uint8Array>()
  const received = new Map<Nonce, Uint8Array>()
  const addresses = new Map<PeerId, string[]>()
  const sequences = new Map<PeerId, number>()
  const closing = new AbortController()
  const evaluation = { spentMs: 0, since: clock.now(), rounds: [] as number[], last: () => {} }
  const events: PeerEvent[] = []
  let isPumping = true // until there is a Peer to handle them
  let sequence = Math.round(clock.date())
  let released = options.released ?? -1
  let newest = manifest.version
  let held = options.version
  let said: Extract<PeerEffect, { type: 'publish' }> | undefined
  let callOff = () => {}
  let stopReason: string | undefined
  let over = false

  const whenReady = Promise.resolve(options.ready)
  whenReady.catch(() => {}) // thrown below; not unhandled before that
  const network = await joinNetwork({
    libp2p,
    genesis,
    tensors,
    codec: codec.name,
    onEvent: onNetwork,
    judge,
  })
  options.onSubscribed?.()
  const ready = await whenReady.catch(async (error: unknown) => {
    await network.leave()
    throw error
  })
  const peer = createPeer({
    self,
    codec: codec.name,
    copyBytes: codec.sizeBytes(tensors),
    stateBytes: stateBytes(tensors),
    meets: aggregators[manifest.gossip.rule].meets,
    pullFrom: manifest.gossip.pullFrom ?? 2,
    stepsPerRound: manifest.train.stepsPerRound,
    strict: options.strict ?? manifest.train.strict ?? false,
    swapsPerRound: options.swapsPerRound ?? manifest.gossip.swapsPerRound,
    rounds: typeof options.rounds === 'function' ? options.rounds(ready) : options.rounds,
    swap: options.swap ?? true,
    swapping: options.swapping ?? true,
    paused: options.paused ?? false,
    catchUp: options.catchUp ?? true,
    linkLimit: options.linkLimit,
    random: options.random,
    freshNonce: options.freshNonce,
    resumed: resumedFrom(ready, options),
  })
  const stopped = Promise.withResolvers<void>()
  learner.listen(onLearner)
  if (options.pace !== undefined) setPace(options.pace)
  const introducing = keepIntroducing()
  isPumping = false
  events.unshift({ type: 'joined' })
  pump()

  return {
    reports: queue.reports,
    view: peer.view,
    traffic: network.traffic,
    pause: () => dispatch({ type: 'pause' }),
    resume: () => dispatch({ type: 'resume' }),
    finish: () => dispatch({ type: 'finish' }),
    pace: setPace,
    allowSwaps: (allowed) => dispatch({ type: 'swapping', allowed }),
    leave(reason) {
      dispatch({ type: 'leave', reason })
      return stopped.promise
    },
  }

  // The pump ---------------------------------------------------------------------------------------------------------

  /** Events wait for the effects of those before them: an effect may answer at once. */
  function dispatch(event: PeerEvent): void {
    events.push(event)
    pump()
  }

  function pump(): void {
    if (isPumping) return
    isPumping = true
    for (let next = events.shift(); next && !over; next = events.shift()) {
      for (const effect of peer.handle(next, clock.now())) run(effect)
    }
    isPumping = false
  }

  function run(effect: PeerEffect): void {
    switch (effect.type) {
      case 'send':
        return network.send(effect.to, effect.message, given.get(effect.message.nonce))
      case 'train':
        return learner.send({ type: 'train', steps: effect.steps })
      case 'give':
        if (effect.what === 'state')
          return learner.send({ type: 'give-state', nonce: effect.nonce })
        return learner.send({ type: 'give', nonce: effect.nonce, codec: effect.codec })
      case 'settle':
        return settle(effect)
      case 'adopt':
        return adopt(effect.nonce, effect.steps)
      case 'evaluate':
        return evaluate(effect.at, effect.round)
      case 'close':
        return network.close(effect.nonce)
      case 'release':
        given.delete(effect.nonce)
        received.delete(effect.nonce)
        return
      case 'dial':
        if (options.hasRoom?.() === false) return dispatch({ type: 'unreached', peer: effect.peer })
        void network.dial(effect.peer, addresses.get(effect.peer) ?? [], closing.signal)
        return
      case 'hang-up':
        return network.hangUp(effect.peer)
      case 'publish':
        void publish(effect)
        return
      case 'timer':
        callOff()
        callOff = clock.alarm(effect.at, () => dispatch({ type: 'tick' }))
        return
      case 'report':
        return queue.push(effect.report)
      case 'stop':
        stopReason ??= effect.reason
        void close()
    }
  }

  // The learner ------------------------------------------------------------------------------------------------------

  function settle(effect: Extract<PeerEffect, { type: 'settle' }>): void {
    const { nonce, role, codec, received: from } = effect
    const sent = role === 'puller' ? undefined : given.get(nonce)
    const copies = from.map((source) => received.get(source)!)
    given.delete(nonce)
    for (const source of from) received.delete(source)
    learner.send({ type: 'settle', nonce, role, codec, ...(sent && { sent }), received: copies })
  }

  function adopt(nonce: Nonce, steps: number): void {
    const bytes = received.get(nonce)
    received.delete(nonce)
    if (bytes) learner.send({ type: 'adopt', nonce, bytes, steps })
  }

  function setPace(share: number): void {
    learner.send({ type: 'pace', share })
  }

  function onLearner(event: WorkerEvent): void {
    switch (event.type) {
      case 'trained':
        return dispatch(event)
      case 'gave':
      case 'gave-state': {
        given.set(event.nonce, event.bytes)
        const digest = toString(event.digest, 'hex')
        const steps = event.type === 'gave-state' ? event.steps : peer.view.steps
        return dispatch({
          type: 'gave',
          nonce: event.nonce,
          digest,
          bytes: event.bytes.length,
          steps,
        })
      }
      case 'settled':
        return dispatch(event)
      case 'adopted':
        return dispatch(event)
      case 'evaluated':
        return evaluated(event)
      case 'progress': {
        const { of, done, total } = event
        if (of === 'round' || of === 'evaluation') queue.push({ ev: 'progress', of, done, total })
        return
      }
      case 'failed':
        return fail(event)
      case 'stopped':
        return stopped.resolve()
      default:
        return
    }
  }

  function fail({ detail }: Extract<WorkerEvent, { type: 'failed' }>): void {
    over = true
    queue.fail(new Fault(detail))
    stopped.resolve()
    void network.leave()
    closing.abort()
    callOff()
  }

  /** Evaluations run in the worker between rounds; a large model skips some rather than slow its training. */
  function evaluate(at: 'trained' | 'averaged', round: number): void {
    const now = clock.now()
    const isDue = evaluation.spentMs <= EVALUATION_SHARE * (now - evaluation.since)
    if (!isDue && evaluation.rounds.length === 0 && at === 'trained') return
    if (!isDue || evaluation.rounds.length > 1) return
    evaluation.rounds.push(round)
    learner.send({ type: 'evaluate', at })
  }

  function evaluated({
    at,
    metrics,
    examples,
    ms,
  }: Extract<WorkerEvent, { type: 'evaluated' }>): void {
    const round = evaluation.rounds.shift() ?? peer.view.round
    evaluation.spentMs += ms
    queue.push({ ev: 'eval', round, at, metrics, examples })
    if (evaluation.rounds.length === 0) evaluation.last()
  }

  // The network ------------------------------------------------------------------------------------------------------

  function onNetwork(event: NetworkEvent): void {
    switch (event.type) {
      case 'message':
        return onMessage(event.from, event.message)
      case 'copy':
        received.set(event.nonce, event.bytes)
        return dispatch({
          type: 'received',
          nonce: event.nonce,
          digest: event.digest,
          bytes: event.bytes.length,
        })
      case 'moved': {
        const { peer, done, total } = event
        if (over) return
        return queue.push({ ev: 'progress', of: 'swap', with: peer, done, total })
      }
      case 'announced':
        void onAnnounced(event.bytes)
        return
      default:
        return dispatch(event)
    }
  }

  function onMessage(from: PeerId, message: Message): void {
    const event = eventOf(from, message)
    if (event) dispatch(event)
  }

  // Cards ------------------------------------------------------------------------------------------------------------

  async function judge(_from: PeerId, bytes: Uint8Array): Promise<'accept' | 'ignore' | 'reject'> {
    const card = await readCard(bytes, clock.date())
    if (!isRejection(card)) return isNews(card) ? 'accept' : 'ignore'
    if (isMisdated(card)) return 'ignore'
    const listing = await readListing(bytes, clock.date())
    if (isRejection(listing)) return isMisdated(listing) ? 'ignore' : 'reject'
    return isRelease(listing) ? 'accept' : 'ignore'
  }

  /** A card of this swarm that is newer than what we have of its peer. */
  function isNews({ peer: from, genesis: swarm, sequence: said }: Card): boolean {
    return swarm === genesis && (sequences.get(from) ?? -1) < said
  }

  /**
   * The owner's word about this model, newer than the last, of a version above ours. Anything else would let one listing be
   * said for ever: old ones are at hand for everybody.
   */
  function isRelease({ genesis: model, owner, sequence: said, manifestVersion }: Listing): boolean {
    const isOwners = model === genesis && owner === manifest.owner
    return isOwners && said > released && compareVersions(manifestVersion, newest) > 0
  }

  async function onAnnounced(bytes: Uint8Array): Promise<void> {
    const card = await readCard(bytes, clock.date())
    if (!isRejection(card)) {
      void introductions.keepCard?.(bytes).catch(() => {})
      return hear(card)
    }
    const listing = await readListing(bytes, clock.date())
    if (isRejection(listing) || !isRelease(listing)) return
    released = listing.sequence
    newest = listing.manifestVersion
    queue.push({ ev: 'release', version: listing.manifestVersion, cid: listing.version })
    if (!(await options.onRelease?.(listing, bytes)) || closing.signal.aborted) return
    held = listing.version
    if (said) void publish(said)
  }

  function hear(card: Card): void {
    if (card.peer === self || !isNews(card)) return
    keep(sequences, card.peer, card.sequence)
    keep(addresses, card.peer, card.addresses)
    dispatch({ type: 'card', card, livesMs: card.expiresAt - clock.date() })
    network.admit(card.peer)
  }

  async function publish(effect: Extract<PeerEffect, { type: 'publish' }>): Promise<void> {
    said = effect
    const { card: state, livesMs } = effect
    // Above what this peer said before the run, in another role.
    sequence = Math.max(sequence + 1, Math.round(clock.date()))
    const card: Card = {
      ...state,
      peer: self,
      genesis,
      version: held,
      codecs: Object.keys(codecs),
      addresses: (options.addresses?.() ?? libp2p.getMultiaddrs().map(String)).slice(
        0,
        ADDRESSES_SAID,
      ),
      sequence,
      expiresAt: Math.round(clock.date() + livesMs),
    }
    const bytes = await signCard(card, options.key)
    await Promise.all([
      network.publish(bytes).catch(() => {}),
      introductions.putCard(bytes).catch(() => {}),
      introductions.keepCard?.(bytes).catch(() => {}),
    ])
  }

  async function keepIntroducing(): Promise<void> {
    while (!closing.signal.aborted) {
      const found = await introductions.cards(genesis).catch(() => undefined)
      for (const { card } of found?.cards ?? []) hear(card)
      if (found && found.answered.length > 0) dispatch({ type: 'introduced' })
      dispatch({ type: 'reachable', count: introductions.reachable() })
      await nextIntroduction()
    }
  }

  /** Links may all be lost while there seemed to be enough: how many there are is looked at as often as they are asked for. */
  async function nextIntroduction(): Promise<void> {
    const askedAt = clock.now()
    do await sleep(clock, INTRODUCE_MS, closing.signal)
    while (
      !closing.signal.aborted &&
      peer.view.links >= FEW_LINKS &&
      clock.now() - askedAt < INTRODUCE_LATER_MS
    )
  }

  // The end ----------------------------------------------------------------------------------------------------------

  /** What the run came to, measured after its last swap. */
  async function lastEvaluation(): Promise<void> {
    queue.push(phaseReport('evaluating'))
    const { promise, resolve } = Promise.withResolvers<void>()
    evaluation.last = resolve
    evaluation.rounds.push(peer.view.round)
    learner.send({ type: 'evaluate', at: 'averaged' })
    await Promise.race([promise, stopped.promise, sleep(clock, STOP_MS, closing.signal)])
  }

  async function close(): Promise<void> {
    if (over) return
    over = true
    callOff()
    const view = peer.view
    if (stopReason !== 'interrupted') await lastEvaluation()
    learner.send({ type: 'stop' })
    await Promise.race([stopped.promise, sleep(clock, STOP_MS, new AbortController().signal)])
    closing.abort()
    await introducing
    await network.leave()
    queue.push({
      ev: 'stopped',
      reason: stopReason ?? 'left',
      rounds: view.round,
      bytesUp: network.traffic.up,
      bytesDown: network.traffic.down,
      ...(view.lostDoubts > 0 && { lostDoubts: view.lostDoubts }),
    })
    queue.end()
    stopped.resolve()
  }
}

function resumedFrom(ready: Ready, { adopt = false }: SwarmOptions): PeerOptions['resumed'] {
  if (!ready.resumed) return undefined
  const { steps, rounds, outcomes } = ready
  return { steps, rounds, outcomes, adopt: typeof adopt === 'function' ? adopt(ready) : adopt }
}

/** Clocks differ: who passed it on may have judged it well by its own. */
function isMisdated({ type }: Rejection): boolean {
  return type === 'expired' || type === 'wrong-dates'
}

/** Addresses a card has room for. */
const ADDRESSES_SAID = 8
/** Peers whose card is remembered; a flood of identities pushes out the oldest. */
const CARDS_KEPT = 8192

function keep<T>(heard: Map<PeerId, T>, peer: PeerId, value: T): void {
  heard.delete(peer)
  heard.set(peer, value)
  if (heard.size <= CARDS_KEPT) return
  const [oldest] = heard.keys()
  heard.delete(oldest!)
}

/** What a received message means to the Peer; `params` means nothing by itself, the copy that follows does. */
export function eventOf(from: PeerId, message: Message): PeerEvent | undefined {
  const { nonce } = message
  switch (message.type) {
    case 'offer':
      return {
        type: 'offered',
        from,
        nonce,
        codec: message.codec as CodecName,
        steps: message.steps,
      }
    case 'accept':
      return { type: 'accepted', from, nonce, steps: message.steps }
    case 'busy':
      return { type: 'declined', from, nonce, reason: message.reason }
    case 'ready':
      return { type: 'ready', from, nonce, digest: message.digest }
    case 'commit':
      return { type: 'committed', from, nonce, digest: message.digest }
    case 'ask':
      return { type: 'asked', from, nonce }
    case 'told':
      return { type: 'told', from, nonce, outcome: message.outcome }
    case 'pull':
      return {
        type: 'pull-asked',
        from,
        nonce,
        what: message.what,
        codec: message.codec as CodecName,
      }
    case 'grant':
      return { type: 'granted', from, nonce, steps: message.steps }
    case 'params':
      return undefined
  }
}

function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const callOff = clock.alarm(clock.now() + ms, done)
    function done() {
      callOff()
      signal.removeEventListener('abort', done)
      resolve()
    }
    signal.addEventListener('abort', done)
  })
}

/** Reports wait here for their reader; a fault is thrown at it after what came before. */
function reportQueue() {
  const waiting: Report[] = []
  let wake = () => {}
  let over = false
  let fault: Fault | undefined
  const close = (why?: Fault) => {
    fault = why
    over = true
    wake()
  }
  async function* reports(): AsyncGenerator<Report> {
    for (;;) {
      while (waiting.length > 0) yield waiting.shift()!
      if (fault) throw fault
      if (over) return
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
  return {
    reports: reports(),
    push(report: Report) {
      waiting.push(report)
      wake()
    },
    end: () => close(),
    fail: (why: Fault) => close(why),
  }
}
