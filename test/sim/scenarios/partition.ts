import { everyday, type Scenario } from './scenario.ts'

export const partition: Scenario = {
  name: 'partition',
  tells: 'for the middle third of the run two halves cannot reach each other',
  options: everyday,
  happens(fleet, { from, until }) {
    const third = (until - from) / 3
    fleet.at(from + third, () => fleet.partition((index) => index % 2))
    fleet.at(from + 2 * third, () => fleet.heal())
  },
}
