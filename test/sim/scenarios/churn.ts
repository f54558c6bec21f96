import { pick } from '../../../protocol/random.ts'
import { living } from '../metrics.ts'
import { everyday, type Scenario } from './scenario.ts'

/** Share of the peers that is replaced each second. */
const REPLACED = 0.02

export const churn: Scenario = {
  name: 'churn',
  tells: 'each second one peer in fifty dies and a newcomer takes its place',
  options: everyday,
  happens(fleet, { from, until, random }) {
    const every = 1000 / (REPLACED * fleet.members.length)
    for (let at = from; at < until; at += every) {
      fleet.at(at, () => {
        const victim = pick(random, living(fleet))
        if (victim) fleet.kill(victim.index)
        fleet.join()
      })
    }
  },
}
