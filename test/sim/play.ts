import { randomFrom } from '../../protocol/random.ts'
import { type Fleet, type FleetOptions, simulate } from './fleet.ts'
import {
  bytesPerRound,
  consensusDistance,
  fingerprint,
  living,
  loss,
  swapShare,
} from './metrics.ts'
import type { Scenario } from './scenarios/scenario.ts'

/** What a run comes to. Distances are squared, over all params. */
export interface Figures {
  /** Peers living at the end, and rounds each of them did on average. */
  living: number
  roundsEach: number
  consensusDistance: number
  loss: number
  swapShare: number
  bytesPerRound: number
  swapsFailed: number
  inDoubt: number
  lostDoubts: number
  fingerprint: string
}

/** Newcomers of an empty swarm begin a second after they were told who is there. */
const JOINING_MS = 1500
/** Rounds of the scenarios last about so long. */
const ROUND_MS = 1000

export interface Cast {
  peers: number
  seed: number
  rounds: number
}

/** Plays a scenario for so many rounds of virtual time. */
export function play(scenario: Scenario, cast: Cast, changes: Partial<FleetOptions> = {}): Fleet {
  const { peers, seed, rounds } = cast
  const peer = { ...scenario.options.peer, ...changes.peer }
  const fleet = simulate({ ...scenario.options, ...changes, peer, peers, seed })
  const until = JOINING_MS + rounds * ROUND_MS
  scenario.happens?.(fleet, { from: JOINING_MS, until, random: randomFrom(~seed) })
  fleet.runUntil(until)
  return fleet
}

export function figuresOf(fleet: Fleet, swapsPerRound: number): Figures {
  const members = living(fleet)
  const total = (count: (view: (typeof members)[number]['peer']['view']) => number) =>
    fleet.members.reduce((sum, { peer }) => sum + count(peer.view), 0)
  return {
    living: members.length,
    roundsEach: members.reduce((sum, { peer }) => sum + peer.view.round, 0) / members.length,
    consensusDistance: consensusDistance(members),
    loss: loss(members),
    swapShare: swapShare(fleet, swapsPerRound),
    bytesPerRound: bytesPerRound(fleet),
    swapsFailed: total(({ failedSwaps }) => failedSwaps),
    inDoubt: members.reduce((sum, { peer }) => sum + peer.view.inDoubt, 0),
    lostDoubts: total(({ lostDoubts }) => lostDoubts),
    fingerprint: fingerprint(fleet).slice(0, 16),
  }
}
