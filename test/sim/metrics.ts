import type { Fleet, Member } from './fleet.ts'

/** What a run is judged by; none of it feeds back into the run. All sums are float64. */

export function living(fleet: Fleet): Member[] {
  return fleet.members.filter(({ alive }) => alive)
}

/** Sum over living peers of each param: swaps alone never change it. */
export function sumOfParams(members: readonly Member[]): Float64Array {
  const sum = new Float64Array(members[0]!.state.params.length)
  for (const { state } of members) for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + state.params[i]!
  return sum
}

/** Mean over peers of ‖params − swarm average‖². */
export function consensusDistance(members: readonly Member[]): number {
  const mean = sumOfParams(members).map((value) => value / members.length)
  let sum = 0
  for (const { state } of members) {
    for (let i = 0; i < mean.length; i++) sum += (state.params[i]! - mean[i]!) ** 2
  }
  return sum / members.length
}

/**
 * Swaps that happened, over those that were possible: the budgets of all rounds but each peer's last, which it has
 * not had the time to spend, at two shares a swap.
 */
export function swapShare(fleet: Fleet, swapsPerRound: number): number {
  let settled = 0
  let possible = 0
  for (const { peer } of fleet.members) {
    settled += peer.view.swaps / 2
    possible += (Math.max(0, peer.view.round - 1) * swapsPerRound) / 2
  }
  return settled / possible
}

export function reportsOf(fleet: Fleet, ev: string): number {
  return fleet.members.reduce((count, { reports }) => count + reports.filter((report) => report.ev === ev).length, 0)
}
