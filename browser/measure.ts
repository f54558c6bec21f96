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

/**
 * Each who answers for all examples is judged by itself. `predict` gives Float32Array[size × classes] of each, of examples at
 * rows from ..< to; who has nothing to say gives undefined.
 */
export async function judge<Who extends string>(
  examples: Examples,
  classes: number,
  predict: (part: Examples) => Promise<Readonly<Record<Who, Float32Array | undefined>>>,
): Promise<Partial<Record<Who, Judged>>> {
  const { size, width, inputs, labels } = examples
  const judged: Partial<Record<Who, Judged>> = {}
  for (let from = 0; from < size; from += BATCH) {
    const to = Math.min(size, from + BATCH)
    const given = await predict({
      size: to - from,
      width,
      inputs: inputs.subarray(from * width, to * width),
      labels: labels.subarray(from, to),
    })
    if (from === 0) for (const who in given) judged[who] = unjudged(examples, classes)
    for (const who in judged) {
      const probabilities = given[who]
      if (probabilities) countInto(judged[who]!, probabilities, from, to)
      else delete judged[who] // it came or went meanwhile
    }
  }
  return judged
}

function unjudged({ size, labels }: Examples, classes: number): Judged {
  const matrix = new Uint32Array(classes * classes)
  const each = { said: new Uint16Array(size), shares: new Float32Array(size), labels }
  return { size, right: 0, matrix, classes, ...each }
}

/** `probabilities` of rows from ..< to. */
function countInto(judged: Judged, probabilities: Float32Array, from: number, to: number): void {
  const { classes, labels, said, shares, matrix } = judged
  for (let row = from; row < to; row++) {
    const start = (row - from) * classes
    const best = largest(probabilities.subarray(start, start + classes))
    said[row] = best
    shares[row] = probabilities[start + best]!
    matrix[labels[row]! * classes + best]! += 1
    if (best === labels[row]) judged.right++
  }
}

function largest(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i
  return best
}
