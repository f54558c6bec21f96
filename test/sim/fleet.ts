import type { AggregatorState } from '../../protocol/aggregate/aggregator.ts'
import { adoptMomentum, startRound, stepped, weightOf } from '../../protocol/aggregate/momentum.ts'
import { aggregators } from '../../protocol/aggregate/table.ts'
import type { CodecName } from '../../protocol/codec/codec.ts'
import { codecs } from '../../protocol/codec/table.ts'
import { invariant } from '../../protocol/errors.ts'
import type { Card } from '../../protocol/message.ts'
import type { TensorSpec } from '../../protocol/params.ts'
import {
  createPeer,
  type Peer,
  type PeerEffect,
  type PeerEvent,
  type PeerOptions,
} from '../../protocol/peer.ts'
import { integerBelow, normal, type Random, randomFrom } from '../../protocol/random.ts'
import type { Report } from '../../protocol/report.ts'
import { eventOf } from '../../protocol/swarm.ts'
import { Schedule } from './heap.ts'
import { carry, isLost, type LinkOptions, latencyOf } from './network.ts'

/**
 * A fleet of shipped Peers under virtual time. It is one more host: it runs their effects over virtual links, and the
 * shipped aggregators and codecs in place of a worker. Each peer descends towards a target of its own, so peers that
 * do not average drift apart and peers that do meet at the mean of the targets.
 */
export interface FleetOptions extends LinkOptions {
  peers: number
  params: number
  seed: number
  rule: 'swap' | 'mean'
  codec: CodecName
  momentum: number
  /** Milliseconds of one local step: the fastest and slowest peer. */
  stepMs: readonly [number, number]
  learningRate: number
  /** How far apart params start: standard deviation of each. */
  spread: number
  /** Peers that a card reaches by gossip. */
  cardReach: number
  /** Options of every Peer that a scenario changes. */
  peer: Partial<PeerOptions>
}

export interface Member {
  index: number
  id: string
  peer: Peer
  state: AggregatorState
  target: Float32Array
  alive: boolean
  stepMs: number
  random: Random
  reports: Report[]
  stopped: string | undefined
  timer: number
  card: Card | undefined
  given: Map<string, Uint8Array>
  received: Map<string, Uint8Array>
  linked: Set<number>
}

type Happening =
  | { type: 'event'; to: number; event: PeerEvent }
  | { type: 'tick'; to: number; timer: number }
  | { type: 'copy'; to: number; nonce: string; bytes: Uint8Array }
  | { type: 'stepped'; to: number; steps: number }
  | { type: 'give'; to: number; effect: Extract<PeerEffect, { type: 'give' }> }
  | { type: 'settle'; to: number; effect: Extract<PeerEffect, { type: 'settle' }> }
  | { type: 'adopt'; to: number; nonce: string; steps: number }
  | { type: 'effects'; to: number; effects: PeerEffect[] }
  | { type: 'call'; call: () => void }

/** H of every peer. */
const STEPS_PER_ROUND = 10

const defaults: FleetOptions = {
  peers: 2,
  params: 64,
  seed: 1,
  rule: 'swap',
  codec: 'int8',
  momentum: 0.9,
  stepMs: [20, 40],
  learningRate: 0.01,
  spread: 0,
  latencyMs: [20, 100],
  bandwidth: 1000,
  lossRate: 0,
  cardReach: 16,
  peer: {},
}

export interface Fleet {
  readonly members: readonly Member[]
  readonly now: number
  /** Events handled so far. */
  readonly handled: number
  /** What swaps moved that only one side has applied so far, by nonce: Float32Array[params] each. */
  readonly halves: ReadonlyMap<string, Float32Array>
  /** Runs until virtual time `ms`, or until nothing is left to happen. */
  runUntil(ms: number): void
  /** Runs until every living peer has done `rounds` rounds (at most `limitMs` of virtual time). */
  runRounds(rounds: number, limitMs?: number): void
  /** Stops a peer dead: it says nothing more, and its neighbours lose their links. */
  kill(index: number): void
  /** Freezes a peer: what comes to it waits until it thaws. */
  freeze(index: number, forMs: number): void
  /** Adds a newcomer now. */
  join(): Member
  /** Hands a peer an event of its host, such as `pause`. */
  tell(index: number, event: PeerEvent): void
  /** Cuts all links between peers of different groups, until healed; `groupOf` takes a peer's index. */
  partition(groupOf: (index: number) => number): void
  heal(): void
  /** Calls back at a time of the run. */
  at(ms: number, call: () => void): void
  /** Called before each effect of each peer; what it returns false for does not happen. It may kill or freeze the peer. */
  intercept: (member: Member, effect: PeerEffect) => boolean
}

export function simulate(changes: Partial<FleetOptions> = {}): Fleet {
  const options = { ...defaults, ...changes }
  const random = randomFrom(options.seed)
  const schedule = new Schedule<Happening>()
  const members: Member[] = []
  const byId = new Map<string, Member>()
  const streams = new Map<string, Set<number>>()
  const frozen = new Map<number, number>()
  const halves = new Map<string, Float32Array>()
  const tensors: TensorSpec[] = [{ name: 'w', shape: [options.params], role: 'trainable' }]
  const codec = codecs[options.codec]
  const rule = aggregators[options.rule]
  let reaches = (_a: Member, _b: Member) => true
  let now = 0
  let handled = 0

  const fleet: Fleet = {
    members,
    halves,
    get now() {
      return now
    },
    get handled() {
      return handled
    },
    runUntil: (ms) => runWhile(() => true, ms),
    runRounds(rounds, limitMs = 3_600_000) {
      // The first that lags: the others are looked at when it no longer does.
      let lagging: Member | undefined
      const lags = ({ alive, peer }: Member) => alive && peer.view.round < rounds
      const goOn = () => {
        if (!lagging || !lags(lagging)) lagging = members.find(lags)
        return lagging !== undefined
      }
      runWhile(goOn, now + limitMs)
    },
    kill: (index) => kill(members[index]!),
    freeze(index, forMs) {
      frozen.set(index, now + forMs)
    },
    join,
    tell: (index, event) => dispatch(members[index]!, event),
    partition(groupOf) {
      reaches = (a, b) => groupOf(a.index) === groupOf(b.index)
      for (const member of members) {
        for (const index of member.linked)
          if (!reaches(member, members[index]!)) unlink(member, members[index])
      }
    },
    heal() {
      reaches = () => true
    },
    at: (ms, call) => schedule.push(ms, { type: 'call', call }),
    intercept: () => true,
  }
  for (let index = 0; index < options.peers; index++) join()
  return fleet

  function join(): Member {
    const member = newMember(members.length)
    members.push(member)
    byId.set(member.id, member)
    schedule.push(now + member.random() * 100, {
      type: 'event',
      to: member.index,
      event: { type: 'joined' },
    })
    schedule.push(now + 100, {
      type: 'event',
      to: member.index,
      event: { type: 'reachable', count: 1 },
    })
    // What registries tell a newcomer: the cards of some who are there.
    schedule.push(now + 150 + member.random() * 50, { type: 'call', call: () => introduce(member) })
    return member
  }

  function newMember(index: number): Member {
    const own = randomFrom(options.seed * 1_000_003 + index)
    const params = new Float32Array(options.params)
    const target = Float32Array.from(params, () => 1 + normal(own))
    if (options.spread > 0) params.forEach((_, i) => (params[i] = options.spread * normal(own)))
    const id = `peer-${String(index).padStart(6, '0')}`
    const state = rule.init(params, {
      tensors,
      momentum: options.momentum,
      stepsPerRound: STEPS_PER_ROUND,
    })
    const [fastest, slowest] = options.stepMs
    return {
      index,
      id,
      state,
      target,
      alive: true,
      stepMs: fastest + (slowest - fastest) * own(),
      random: own,
      reports: [],
      stopped: undefined,
      timer: 0,
      card: undefined,
      given: new Map(),
      received: new Map(),
      linked: new Set(),
      peer: createPeer({
        self: id,
        codec: options.codec,
        copyBytes: codec.sizeBytes(tensors),
        stateBytes: 5 * options.params,
        meets: rule.meets,
        pullFrom: 2,
        stepsPerRound: STEPS_PER_ROUND,
        strict: false,
        swapsPerRound: 2,
        rounds: undefined,
        swap: true,
        random: own,
        freshNonce: () => hexOf(own, 16),
        ...options.peer,
      }),
    }
  }

  function introduce(member: Member): void {
    const known = members.filter(
      (other) => other.alive && other.card && other !== member && reaches(member, other),
    )
    for (const { card } of sample(member.random, known, options.cardReach)) {
      schedule.push(now, { type: 'event', to: member.index, event: cardEvent(card!, 0) })
    }
    schedule.push(now, { type: 'event', to: member.index, event: { type: 'introduced' } })
  }

  function runWhile(goOn: () => boolean, limit: number): void {
    while (schedule.size > 0 && goOn()) {
      const next = schedule.pop()!
      if (next.at > limit) {
        schedule.push(next.at, next.item)
        now = limit
        return
      }
      now = Math.max(now, next.at)
      happen(next.item)
    }
  }

  function happen(item: Happening): void {
    if (item.type === 'call') return item.call()
    const member = members[item.to]!
    if (!member.alive) return
    const thaw = frozen.get(item.to)
    if (thaw !== undefined && thaw > now) return schedule.push(thaw, item)
    frozen.delete(item.to)
    switch (item.type) {
      case 'tick':
        return item.timer === member.timer ? dispatch(member, { type: 'tick' }) : undefined
      case 'event':
        return dispatch(member, item.event)
      case 'effects':
        return runAll(member, item.effects)
      case 'copy':
        return takeCopy(member, item.nonce, item.bytes)
      case 'stepped':
        return step(member, item.steps)
      case 'give':
        return give(member, item.effect)
      case 'settle':
        return settle(member, item.effect)
      case 'adopt':
        return adopt(member, item.nonce, item.steps)
    }
  }

  function dispatch(member: Member, event: PeerEvent): void {
    handled++
    runAll(member, member.peer.handle(event, now))
  }

  /** Effects in order; a peer that dies or freezes before one of them never goes on, or does when it thaws. */
  function runAll(member: Member, effects: PeerEffect[]): void {
    for (const [done, effect] of effects.entries()) {
      const happens = fleet.intercept(member, effect)
      if (!member.alive) return
      const thaw = frozen.get(member.index)
      if (thaw !== undefined && thaw > now) {
        const rest = effects.slice(happens ? done : done + 1)
        return schedule.push(thaw, { type: 'effects', to: member.index, effects: rest })
      }
      if (happens) run(member, effect)
    }
  }

  function later(ms: number, item: Happening): void {
    schedule.push(now + ms, item)
  }

  function run(member: Member, effect: PeerEffect): void {
    const to = member.index
    switch (effect.type) {
      case 'send':
        return send(member, effect)
      case 'train':
        startRound(member.state)
        return later(effect.steps * member.stepMs, {
          type: 'stepped',
          to,
          steps: effect.steps,
        })
      case 'give':
        return later(member.stepMs * member.random(), { type: 'give', to, effect })
      case 'settle':
        return later(member.stepMs * member.random(), { type: 'settle', to, effect })
      case 'adopt':
        return later(1, { type: 'adopt', to, nonce: effect.nonce, steps: effect.steps })
      case 'close':
        return endStream(member, effect.nonce)
      case 'release':
        member.given.delete(effect.nonce)
        member.received.delete(effect.nonce)
        return
      case 'dial':
        return link(member, byId.get(effect.peer))
      case 'hang-up':
        return unlink(member, byId.get(effect.peer))
      case 'publish':
        return publish(member, effect)
      case 'timer':
        member.timer++
        return schedule.push(effect.at, { type: 'tick', to, timer: member.timer })
      case 'report':
        member.reports.push(effect.report)
        return
      case 'evaluate':
        return
      case 'stop':
        member.stopped = effect.reason
        kill(member)
    }
  }

  // The network ------------------------------------------------------------------------------------------------------

  function send(member: Member, { to, message }: Extract<PeerEffect, { type: 'send' }>): void {
    const other = byId.get(to)
    const { nonce } = message
    const opens = message.type === 'offer' || message.type === 'pull'
    const isQuestion = message.type === 'ask' || message.type === 'told'
    if (!other || !member.linked.has(other.index)) {
      if (opens) later(1, brokenFor(member, nonce, 'no direct connection'))
      return
    }
    if (opens) streams.set(nonce, new Set([member.index, other.index]))
    if (!isQuestion && !streams.get(nonce)?.has(other.index)) return
    if (isLost(options, random)) return isQuestion ? undefined : breakStream(nonce)
    const delay = latencyOf(options, options.seed, member.index, other.index)
    const event = eventOf(member.id, carry(message))
    if (event) later(delay, { type: 'event', to: other.index, event })
    const copy = message.type === 'params' ? member.given.get(nonce) : undefined
    if (copy)
      later(delay + copy.length / options.bandwidth, {
        type: 'copy',
        to: other.index,
        nonce,
        bytes: copy.slice(),
      })
  }

  function brokenFor({ index }: Member, nonce: string, reason: string): Happening {
    return { type: 'event', to: index, event: { type: 'broken', nonce, reason } }
  }

  /** Each end hears of it right behind what was said before. */
  function breakStream(nonce: string): void {
    const ends = [...(streams.get(nonce) ?? [])]
    streams.delete(nonce)
    for (const index of ends) {
      const delay = latencyOf(options, options.seed, ends[0]!, ends.at(-1)!) + 1
      schedule.push(now + delay, brokenFor(members[index]!, nonce, 'the stream was lost'))
    }
  }

  /** A close travels behind what was said before it. */
  function endStream(member: Member, nonce: string): void {
    const ends = streams.get(nonce)
    if (!ends?.delete(member.index)) return
    for (const index of ends) {
      const delay = latencyOf(options, options.seed, member.index, index) + 2000
      later(delay, brokenFor(members[index]!, nonce, 'closed by the other side'))
    }
    if (ends.size === 0) streams.delete(nonce)
  }

  function link(member: Member, other: Member | undefined): void {
    if (!other?.alive || member.linked.has(other.index) || !reaches(member, other)) return
    member.linked.add(other.index)
    other.linked.add(member.index)
    const delay = 3 * latencyOf(options, options.seed, member.index, other.index)
    for (const [a, b] of [
      [member, other],
      [other, member],
    ] as const) {
      later(delay, {
        type: 'event',
        to: a.index,
        event: { type: 'linked', peer: b.id, path: 'tcp' },
      })
      if (b.card) later(delay, { type: 'event', to: a.index, event: cardEvent(b.card, delay) })
    }
  }

  function unlink(member: Member, other: Member | undefined): void {
    if (!other || !member.linked.delete(other.index)) return
    other.linked.delete(member.index)
    for (const [nonce, ends] of streams)
      if (ends.has(member.index) && ends.has(other.index)) breakStream(nonce)
    later(1, {
      type: 'event',
      to: member.index,
      event: { type: 'unlinked', peer: other.id },
    })
    const delay = latencyOf(options, options.seed, member.index, other.index)
    later(delay, {
      type: 'event',
      to: other.index,
      event: { type: 'unlinked', peer: member.id },
    })
  }

  function kill(member: Member): void {
    member.alive = false
    for (const [nonce, ends] of streams) if (ends.has(member.index)) breakStream(nonce)
    for (const index of [...member.linked]) unlink(member, members[index])
  }

  function publish(
    member: Member,
    { card: said, livesMs }: Extract<PeerEffect, { type: 'publish' }>,
  ): void {
    const card: Card = {
      ...said,
      peer: member.id,
      genesis: 'simulated',
      version: 'simulated',
      codecs: [options.codec],
      addresses: [],
      sequence: handled,
      expiresAt: now + livesMs,
    }
    member.card = card
    const reached = sample(member.random, members, options.cardReach)
    for (const index of new Set([...reached.map((other) => other.index), ...member.linked])) {
      if (index === member.index || !reaches(member, members[index]!)) continue
      const delay = 2 * latencyOf(options, options.seed, member.index, index)
      later(delay, { type: 'event', to: index, event: cardEvent(card, delay) })
    }
  }

  function cardEvent(card: Card, delay: number): PeerEvent {
    return { type: 'card', card, livesMs: card.expiresAt - now - delay }
  }

  // The worker, in place ---------------------------------------------------------------------------------------------

  function step(member: Member, steps: number): void {
    const { params, momentum } = member.state
    const rate = options.learningRate
    for (let done = 0; done < steps; done++) {
      for (let i = 0; i < params.length; i++) {
        const gradient = params[i]! - member.target[i]! + 0.1 * (member.random() - 0.5)
        const direction = momentum ? weightOf(momentum) * momentum.direction[i]! : 0
        params[i] = params[i]! - rate * (gradient + direction)
      }
      stepped(member.state, rate)
    }
    const ms = steps * member.stepMs
    dispatch(member, { type: 'trained', steps, totalSteps: 0, loss: 0, samples: steps, ms })
  }

  function give(
    member: Member,
    { nonce, what, codec: name }: Extract<PeerEffect, { type: 'give' }>,
  ): void {
    const params = rule.give(member.state)
    const bytes = what === 'copy' ? codecs[name].encode(params, tensors) : encodeState(member)
    member.given.set(nonce, bytes)
    const { steps } = member.peer.view
    dispatch(member, {
      type: 'gave',
      nonce,
      digest: fingerprint(bytes),
      bytes: bytes.length,
      steps,
    })
  }

  function encodeState({ state }: Member): Uint8Array {
    const { float32 } = codecs
    const size = float32.sizeBytes(tensors)
    const bytes = new Uint8Array(2 * size)
    bytes.set(float32.encode(state.params, tensors))
    if (state.momentum) bytes.set(float32.encode(state.momentum.direction, tensors), size)
    return bytes
  }

  function takeCopy(member: Member, nonce: string, bytes: Uint8Array): void {
    if (!streams.get(nonce)?.has(member.index)) return
    member.received.set(nonce, bytes)
    dispatch(member, { type: 'received', nonce, digest: fingerprint(bytes), bytes: bytes.length })
  }

  function settle(member: Member, effect: Extract<PeerEffect, { type: 'settle' }>): void {
    const { nonce, role, received } = effect
    const codec = codecs[effect.codec]
    const { params } = member.state
    const before = params.slice()
    const sent = role === 'puller' ? undefined : { codec, bytes: member.given.get(nonce)! }
    const copies = received.map((source) => ({ codec, bytes: member.received.get(source)! }))
    const distance = rule.settle(member.state, sent, copies)
    if (sent && !halves.delete(nonce))
      halves.set(
        nonce,
        params.map((value, i) => value - before[i]!),
      )
    dispatch(member, { type: 'settled', nonce, distance })
  }

  function adopt(member: Member, nonce: string, steps: number): void {
    const bytes = member.received.get(nonce)
    invariant(bytes, 'a peer adopts a state that it has received')
    const values = new Float32Array(bytes.slice().buffer)
    member.state.params.set(values.subarray(0, options.params))
    adoptMomentum(member.state, values.subarray(options.params))
    dispatch(member, { type: 'adopted', nonce, steps })
  }
}

function sample<T>(random: Random, list: readonly T[], size: number): T[] {
  if (list.length <= size) return [...list]
  const chosen = new Set<T>()
  while (chosen.size < size) chosen.add(list[integerBelow(random, list.length)]!)
  return [...chosen]
}

function hexOf(random: Random, bytes: number): string {
  let hex = ''
  for (let i = 0; i < bytes; i++) hex += integerBelow(random, 256).toString(16).padStart(2, '0')
  return hex
}

/** Stands in for SHA-256, which is asynchronous: 64 hex digits that follow from the bytes (FNV-1a, four ways). */
function fingerprint(bytes: Uint8Array): string {
  let hex = ''
  for (let way = 0; way < 8; way++) {
    let hash = 0x811c9dc5 ^ way
    for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
    hex += (hash >>> 0).toString(16).padStart(8, '0')
  }
  return hex
}
