import { churn } from './churn.ts'
import { faults } from './faults.ts'
import { lateJoiners } from './late-joiners.ts'
import { lossy } from './lossy.ts'
import { partition } from './partition.ts'
import type { Scenario } from './scenario.ts'
import { steady } from './steady.ts'

/** Every scenario that `npm run sim` knows. A new one is a file and a line here. */
export const scenarios: readonly Scenario[] = [steady, churn, lossy, lateJoiners, partition, faults]
