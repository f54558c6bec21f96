import type { Card, Message } from '../../protocol/message.ts'
import type { Draft } from '../../protocol/peer/events.ts'
import {
  createPeer,
  type Peer,
  type PeerEffect,
  type PeerEvent,
  type PeerOptions,
} from '../../protocol/peer.ts'
import { randomFrom } from '../../protocol/random.ts'

/** One Peer under a clock that a test turns by hand: events go in, effects come out as a list. */
export interface Bench {
  readonly peer: Peer
  now: number
  /** Hands in an event now, or after the clock moved on. */
  tell(event: PeerEvent, afterMs?: number): PeerEffect[]
  /** Lets time pass in ticks, as its timers ask for them. Returns all effects. */
  wait(ms: number): PeerEffect[]
  /** A neighbour's card arrives and a direct connection to it opens. */
  meet(peer: string, card?: Partial<Card>): PeerEffect[]
  /** A round ends after its steps. */
  endRound(steps?: number): PeerEffect[]
}

/** The tested peer's id lies between 'a...' and 'z...', which matters where offers cross. */
export const SELF = 'm-self'
const COPY_BYTES = 1000

export function startPeer(changes: Partial<PeerOptions> = {}): Bench {
  let drawn = 0
  const peer = createPeer({
    self: SELF,
    codec: 'int8',
    copyBytes: COPY_BYTES,
    stateBytes: 5 * COPY_BYTES,
    meets: 'swap',
    pullFrom: 2,
    stepsPerRound: 10,
    strict: false,
    swapsPerRound: 2,
    rounds: undefined,
    swap: true,
    random: randomFrom(1),
    freshNonce: () => nonceOf(`own-${drawn++}`),
    ...changes,
  })
  let timerAt = Number.POSITIVE_INFINITY
  const bench: Bench = {
    peer,
    now: 1000,
    tell(event, afterMs = 0) {
      bench.now += afterMs
      const effects = peer.handle(event, bench.now)
      for (const effect of effects) if (effect.type === 'timer') timerAt = effect.at
      return effects
    },
    wait(ms) {
      const end = bench.now + ms
      const effects: PeerEffect[] = []
      while (timerAt <= end) {
        bench.now = timerAt
        timerAt = Number.POSITIVE_INFINITY
        effects.push(...bench.tell({ type: 'tick' }))
      }
      bench.now = end
      return effects
    },
    meet(id, card = {}) {
      const heard = bench.tell({ type: 'card', card: cardOf(id, card) })
      return [...heard, ...bench.tell({ type: 'linked', peer: id, path: 'tcp' })]
    },
    endRound: (steps = 10) => bench.tell(trained(steps)),
  }
  return bench
}

/** A peer that joined, found `neighbours` linked and is in its first round. */
export function trainingPeer(changes: Partial<PeerOptions> = {}, neighbours = ['a']): Bench {
  const resumed = { steps: 10, rounds: 0, outcomes: [], adopt: false }
  const bench = startPeer({ resumed, ...changes })
  bench.tell({ type: 'joined' })
  for (const neighbour of neighbours) bench.meet(neighbour)
  return bench
}

export function trained(steps = 10, ms = 1000): PeerEvent {
  return { type: 'trained', steps, totalSteps: steps, loss: 1, samples: steps, ms }
}

export function cardOf(peer: string, changes: Partial<Card> = {}): Card {
  return {
    peer,
    genesis: 'bafytest',
    version: 'bafytest',
    phase: 'training',
    round: 1,
    steps: 10,
    codecs: ['int8'],
    addresses: [],
    load: 0,
    sequence: 1,
    expiresAt: 1e12,
    ...changes,
  }
}

/** 32 hex digits that follow from a name. */
export function nonceOf(name: string): string {
  return [...name]
    .map((letter) => letter.charCodeAt(0).toString(16).padStart(2, '0'))
    .join('')
    .padEnd(32, '0')
    .slice(-32)
}

/** 64 hex digits that follow from a name. */
export function digestOf(name: string): string {
  return nonceOf(name).repeat(2)
}

type Sent<T extends Message['type']> = { to: string } & Extract<Draft, { type: T }>

/** The messages of one type among effects, each with its receiver. */
export function sent<T extends Message['type']>(
  effects: readonly PeerEffect[],
  type: T,
): Sent<T>[] {
  return effects.flatMap((effect) =>
    effect.type === 'send' && effect.message.type === type
      ? [{ to: effect.to, ...effect.message } as Sent<T>]
      : [],
  )
}

/** The effects of one type. */
export function only<T extends PeerEffect['type']>(
  effects: readonly PeerEffect[],
  type: T,
): Extract<PeerEffect, { type: T }>[] {
  return effects.filter((effect) => effect.type === type) as Extract<PeerEffect, { type: T }>[]
}
