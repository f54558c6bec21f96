import type { Random } from '../../../protocol/random.ts'
import type { Fleet, FleetOptions } from '../fleet.ts'

/** A story about a fleet: what it is built with, and what happens to it while it trains. */
export interface Scenario {
  name: string
  /** One line for `npm run sim -- --help`. */
  tells: string
  options: Partial<FleetOptions>
  /** Schedules what goes wrong between `from` and `until` (milliseconds of virtual time). */
  happens?: (fleet: Fleet, span: { from: number; until: number; random: Random }) => void
}

/** Rounds of about a second over home connections: what scenarios share unless they say otherwise. */
export const everyday: Partial<FleetOptions> = {
  stepMs: [20, 30],
  latencyMs: [10, 50],
  peer: { stepsPerRound: 40 },
}
