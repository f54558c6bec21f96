import type { Examples } from '../examples.ts'
import { type Affine, fillInto } from '../preprocess.ts'
import { allRows } from './evaluate.ts'
import type { Features } from './trainer.ts'

/** What features of a set may take at most, bytes; beyond it they are computed anew in each step. */
const KEPT_BYTES = 2 ** 29
/** Examples whose features are computed at once. */
const AT_ONCE = 250
const FLOAT_BYTES = 4

/** Whether the features of so many examples are worth their memory. */
export function fits({ size, spareBytes }: Features, examples: number): boolean {
  return FLOAT_BYTES * size * examples <= Math.min(KEPT_BYTES, spareBytes)
}

/**
 * Examples as the frozen layers leave them, prepared for the rest of the model: each is computed once. `pause` is awaited
 * between passes, and told how many are done.
 */
export async function featuresOf(
  features: Features,
  examples: Examples,
  affine: Affine,
  pause: (done: number) => Promise<unknown>,
): Promise<Examples> {
  const { size, labels } = examples
  const rows = allRows(examples)
  const inputs = new Float32Array(size * features.size)
  const batch = {
    inputs: new Float32Array(AT_ONCE * examples.width),
    labels: new Int32Array(AT_ONCE),
  }
  for (let from = 0; from < size; from += AT_ONCE) {
    const to = Math.min(size, from + AT_ONCE)
    fillInto(batch, examples, rows, from, to, affine)
    inputs.set(features.of(batch.inputs, to - from), from * features.size)
    await pause(to)
  }
  return { size, width: features.size, inputs, labels }
}

/** Values as they are: what prepares examples that are prepared. */
export const unchanged: Affine = { multiply: new Float64Array([1]), add: new Float64Array(1) }
