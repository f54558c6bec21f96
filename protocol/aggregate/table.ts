import type { Aggregator, RuleName } from './aggregator.ts'
import { mean } from './mean.ts'
import { swap } from './swap.ts'

/** Every averaging rule a manifest may name. A new one is a file and a line here. */
export const aggregators: Record<RuleName, Aggregator> = { swap, mean }
