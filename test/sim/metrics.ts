import { createHash } from 'node:crypto'
import type { Fleet, Member } from './fleet.ts'

/** What a run is judged by; none of it feeds back into the run. All sums are float64. */

export function living(fleet: Fleet): Member[] {
  return fleet.members.filter(({ alive }) => alive)
}

/** Sum over peers of each param: swaps alone never change it. */
export function sumOfParams(members: readonly Member[]): Float64Array {
  return sumOf(members.map(({ state }) => state.params))
}

/** Mean over peers of ‖params − swarm average‖². */
export function consensusDistance(members: readonly Member[]): number {
  const params = members.map(({ state }) => state.params)
  return meanDistance(params, averageOf(params))
}

/**
 * How far the peers are from what they could agree on: mean over peers of ‖params − mean of the targets‖², a loss whose
 * least value belongs to centralised training. Targets are those of the peers that live.
 */
export function loss(members: readonly Member[]): number {
  const best = averageOf(members.map(({ target }) => target))
  return meanDistance(
    members.map(({ state }) => state.params),
    best,
  )
}

/** The squared distance of one peer from the average of others. */
export function distanceFrom(member: Member, others: readonly Member[]): number {
  return meanDistance([member.state.params], averageOf(others.map(({ state }) => state.params)))
}

/**
 * Swaps that happened, over those that were possible: the budgets of all rounds but each peer's last, which it has
 * not had the whole time to spend (what it did spend of it lifts the share a little above 1). A swap takes two shares.
 */
export function swapShare(fleet: Fleet, swapsPerRound: number): number {
  let settled = 0
  let possible = 0
  for (const { peer } of fleet.members) {
    settled += peer.view.swaps / 2
    possible += (Math.max(0, peer.view.round - 1) * swapsPerRound) / 2
  }
  return possible === 0 ? 0 : settled / possible
}

/** Bytes of copies that a peer sent in one of its rounds, on average. */
export function bytesPerRound(fleet: Fleet): number {
  let bytes = 0
  let rounds = 0
  for (const { peer } of fleet.members) {
    bytes += peer.view.bytesUp
    rounds += peer.view.round
  }
  return rounds === 0 ? 0 : bytes / rounds
}

/** What swaps moved that only one side has applied, summed: all that may change the sum of params beside training. */
export function halfDone(fleet: Fleet): Float64Array {
  return sumOf([new Float32Array(fleet.members[0]!.state.params.length), ...fleet.halves.values()])
}

/** SHA-256 over all params and counts of all peers: two runs that agree in it agree to the last bit. */
export function fingerprint(fleet: Fleet): string {
  const hash = createHash('sha256')
  for (const { state, peer, alive } of fleet.members) {
    hash.update(new Uint8Array(state.params.buffer)).update(JSON.stringify([peer.view, alive]))
  }
  return hash.digest('hex')
}

function sumOf(vectors: readonly Float32Array[]): Float64Array {
  const sum = new Float64Array(vectors[0]!.length)
  for (const vector of vectors) for (let i = 0; i < sum.length; i++) sum[i]! += vector[i]!
  return sum
}

function averageOf(vectors: readonly Float32Array[]): Float64Array {
  return sumOf(vectors).map((value) => value / vectors.length)
}

function meanDistance(vectors: readonly Float32Array[], centre: Float64Array): number {
  let sum = 0
  for (const vector of vectors) {
    for (let i = 0; i < centre.length; i++) sum += (vector[i]! - centre[i]!) ** 2
  }
  return sum / vectors.length
}
