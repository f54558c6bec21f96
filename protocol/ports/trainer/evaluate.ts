import type { Examples } from '../examples.ts'
import { type Affine, fillInto } from '../preprocess.ts'
import type { Metrics, Trainer } from './trainer.ts'

/** Examples per forward pass. A fixed number: float32 sums depend on it in their last digit, and two peers compare theirs. */
const EVALUATED_AT_ONCE = 250
/** A label given no probability at all costs −ln of this, as in Keras. */
const LEAST_PROBABILITY = 1e-7

/**
 * Measures `params` on `examples`: the one way that training, `mlstore eval` and the page do it, so that they print the same
 * number. `params` are read once, at the start. `pause` is awaited between passes and told how many examples are done; when it
 * answers false we stop and return undefined. Without examples accuracy and loss are 0.
 */
export async function evaluate(
  trainer: Trainer,
  params: Float32Array,
  examples: Examples,
  rows: Uint32Array,
  affine: Affine,
  pause: (done: number) => Promise<boolean>,
): Promise<Metrics | undefined> {
  trainer.load(params)
  const batch = {
    inputs: new Float32Array(EVALUATED_AT_ONCE * examples.width),
    labels: new Int32Array(EVALUATED_AT_ONCE),
  }
  let right = 0
  let loss = 0
  for (let from = 0; from < rows.length; from += EVALUATED_AT_ONCE) {
    const to = Math.min(rows.length, from + EVALUATED_AT_ONCE)
    fillInto(batch, examples, rows, from, to, affine)
    const probabilities = trainer.predict(batch.inputs, to - from)
    for (let i = 0; i < to - from; i++) {
      const row = probabilities.subarray(i * trainer.outputSize, (i + 1) * trainer.outputSize)
      const label = batch.labels[i]!
      if (largestAt(row) === label) right++
      loss -= Math.log(Math.max(LEAST_PROBABILITY, row[label]!))
    }
    if (!(await pause(to))) return undefined
  }
  const count = Math.max(1, rows.length)
  return { accuracy: right / count, loss: loss / count }
}

/** The index of the largest value; the first of equals. */
export function largestAt(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i
  return best
}

/** All rows of a set, in order. */
export function allRows({ size }: Examples): Uint32Array {
  return Uint32Array.from({ length: size }, (_, row) => row)
}
