import { pick } from '../../../protocol/random.ts'
import { living } from '../metrics.ts'
import { everyday, type Scenario } from './scenario.ts'

/** Share of the peers that freezes, and that dies for good, each second. */
const FROZEN = 0.01
const KILLED = 0.002
const FROZEN_MS = 30_000

export const faults: Scenario = {
  name: 'faults',
  tells:
    'peers freeze for 30 s (1 % a second) or die (0.2 %), and streams break (0.5 % of messages)',
  options: { ...everyday, lossRate: 0.005 },
  happens(fleet, { from, until, random }) {
    const size = fleet.members.length
    const each = (share: number, strike: (index: number) => void) => {
      for (let at = from; at < until; at += 1000 / (share * size)) {
        fleet.at(at + 500 * random(), () => {
          const victim = pick(random, living(fleet))
          if (victim) strike(victim.index)
        })
      }
    }
    each(FROZEN, (index) => fleet.freeze(index, FROZEN_MS))
    each(KILLED, (index) => fleet.kill(index))
  },
}
