import type { Manifest } from '../../manifest.ts'
import { ROUND_MS } from '../../peer/state.ts'

/** What a round takes in steps, in milliseconds: one is lengthened where the manifest does not say exactly how many it has. */
export function roundMsOf({ train }: Pick<Manifest, 'train'>, msPerStep: number): number {
  return Math.max(train.strict ? 0 : ROUND_MS, train.stepsPerRound * msPerStep)
}

/** A run that was away for more rounds than this pulls a live peer's state. */
const ROUNDS_AWAY = 20

export function isLongAway(awayMs: number, manifest: Manifest, msPerStep: number): boolean {
  return awayMs > ROUNDS_AWAY * Math.max(ROUND_MS, roundMsOf(manifest, msPerStep))
}
