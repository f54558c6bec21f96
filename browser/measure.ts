import type { Examples } from '../protocol/ports/examples.ts'

/** What a model says of many examples, beside what they are. */
export interface Judged {
  size: number
  right: number
  /** Uint32Array[classes × classes]: row is what it is, column what the model says. */
  matrix: Uint32Array
  classes: number
  /** Per example. */
  said: Uint16Array
  shares: Float32Array
  labels: Uint16Array
}

/** Examples predicted at once. */
const BATCH = 256

/** `predict` gives Float32Array[size × classes] of examples at rows from ..< to. */
export async function judge(
  examples: Examples,
  classes: number,
  predict: (part: Examples) => Promise<Float32Array>,
): Promise<Judged> {
  const { size, width, inputs, labels } = examples
  const said = new Uint16Array(size)
  const shares = new Float32Array(size)
  const matrix = new Uint32Array(classes * classes)
  let right = 0
  for (let from = 0; from < size; from += BATCH) {
    const to = Math.min(size, from + BATCH)
    const part = {
      size: to - from,
      width,
      inputs: inputs.subarray(from * width, to * width),
      labels: labels.subarray(from, to),
    }
    const probabilities = await predict(part)
    for (let row = from; row < to; row++) {
      const start = (row - from) * classes
      const best = largest(probabilities.subarray(start, start + classes))
      said[row] = best
      shares[row] = probabilities[start + best]!
      matrix[labels[row]! * classes + best]! += 1
      if (best === labels[row]) right++
    }
  }
  return { size, right, matrix, classes, said, shares, labels }
}

function largest(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i
  return best
}
