import { everyday, type Scenario } from './scenario.ts'

export const lossy: Scenario = {
  name: 'lossy',
  tells: 'one message in fifty is lost with its stream; peers are far apart',
  options: { ...everyday, lossRate: 0.02, latencyMs: [20, 100] },
}
