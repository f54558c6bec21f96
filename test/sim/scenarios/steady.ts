import { everyday, type Scenario } from './scenario.ts'

export const steady: Scenario = {
  name: 'steady',
  tells: 'nothing goes wrong',
  options: everyday,
}
