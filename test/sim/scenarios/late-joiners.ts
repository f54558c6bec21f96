import { everyday, type Scenario } from './scenario.ts'

export const lateJoiners: Scenario = {
  name: 'late-joiners',
  tells: 'half as many again come when the others are half done',
  options: everyday,
  happens(fleet, { from, until, random }) {
    const newcomers = Math.ceil(fleet.members.length / 2)
    const middle = (from + until) / 2
    for (let index = 0; index < newcomers; index++) {
      fleet.at(middle + 2000 * random(), () => fleet.join())
    }
  },
}
