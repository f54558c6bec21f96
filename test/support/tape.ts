import type { Scalar, Tape } from '../../protocol/engine/layers/rule.ts'

/** A tape that can be read backward. */
export interface ReversibleTape extends Tape {
  /** d(output)/d(x) for the places asked for; `terms`: the sum of the sizes of what added up to it. */
  gradient(output: Scalar, of: ArrayLike<Scalar>): { gradient: Float64Array; terms: Float64Array }
  /** The sum of weight · value. */
  weighted(values: ArrayLike<Scalar>, weights: ArrayLike<number>): Scalar
}

/**
 * Reverse-mode differentiation, one Float64 at a time: each place has a value and up to three earlier places with the slope
 * towards each. Slow, short and exact: the kernels are compared with it.
 */
export function createTape(): ReversibleTape {
  let capacity = 1 << 12
  let size = 0
  let values = new Float64Array(capacity)
  let slopes = new Float64Array(3 * capacity)
  let parents = new Int32Array(3 * capacity)

  const grow = () => {
    capacity *= 2
    const [oldValues, oldSlopes, oldParents] = [values, slopes, parents]
    values = new Float64Array(capacity)
    slopes = new Float64Array(3 * capacity)
    parents = new Int32Array(3 * capacity)
    values.set(oldValues)
    slopes.set(oldSlopes)
    parents.set(oldParents)
  }
  const record = (value: number, p = 0, dp = 0, q = 0, dq = 0, r = 0, dr = 0): Scalar => {
    if (size === capacity) grow()
    values[size] = value
    parents[3 * size] = p
    slopes[3 * size] = dp
    parents[3 * size + 1] = q
    slopes[3 * size + 1] = dq
    parents[3 * size + 2] = r
    slopes[3 * size + 2] = dr
    return size++
  }
  const at = (x: Scalar): number => values[x]!
  const tape: ReversibleTape = {
    constant: (value) => record(value),
    valueOf: at,
    add: (a, b) => record(at(a) + at(b), a, 1, b, 1),
    subtract: (a, b) => record(at(a) - at(b), a, 1, b, -1),
    multiply: (a, b) => record(at(a) * at(b), a, at(b), b, at(a)),
    divide: (a, b) => record(at(a) / at(b), a, 1 / at(b), b, -at(a) / at(b) ** 2),
    multiplyAdd: (a, b, c) => record(at(a) * at(b) + at(c), a, at(b), b, at(a), c, 1),
    apply: (x, value, derivative) => record(value(at(x)), x, derivative(at(x))),
    exp: (x) => record(Math.exp(at(x)), x, Math.exp(at(x))),
    log: (x) => record(Math.log(at(x)), x, 1 / at(x)),
    sqrt: (x) => record(Math.sqrt(at(x)), x, 0.5 / Math.sqrt(at(x))),
    max: (a, b) => (at(a) >= at(b) ? record(at(a), a, 1) : record(at(b), b, 1)),

    weighted(places, weights) {
      let sum = tape.constant(0)
      for (let i = 0; i < places.length; i++)
        sum = tape.multiplyAdd(places[i]!, tape.constant(weights[i]!), sum)
      return sum
    },

    gradient(output, of) {
      const [gradients, terms] = [new Float64Array(size), new Float64Array(size)]
      gradients[output] = 1
      for (let i = output; i >= 0; i--) {
        const gradient = gradients[i]!
        if (gradient === 0) continue
        for (let j = 3 * i; j < 3 * i + 3; j++) {
          const term = slopes[j]! * gradient
          gradients[parents[j]!]! += term
          terms[parents[j]!]! += Math.abs(term)
        }
      }
      const asked = (all: Float64Array) => Float64Array.from(of, (place) => all[place]!)
      return { gradient: asked(gradients), terms: asked(terms) }
    },
  }
  return tape
}
