import type { LayerRule, ReferenceContext } from './rule.ts'
import { absent, finite, only, product } from './settings.ts'

/**
 * Drops each value with probability `rate` and scales the others by 1 / (1 − rate), in training alone.
 * Source: Srivastava et al. 2014. What is dropped follows from the step's seed, the node and the value's place, so the
 * backward call draws the same again and nothing is kept.
 */
export const dropout: LayerRule = {
  settings: ['rate', 'noise_shape'],

  read(config, inputs, where) {
    absent(config, where, ['noise_shape'])
    const rate = finite(config.rate, 0, MAX_RATE, where('rate'))
    return { config: { rate }, outputShape: [...only(inputs)], weights: [] }
  },

  plan({ config, outputShape }, planner) {
    const rate = config.rate as number
    if (!planner.training || rate === 0) return planner.view()
    const width = product(outputShape)
    const size = planner.batch * width
    const { seed, salt } = planner
    const limit = limitOf(rate)
    planner.forward(
      'dropout',
      planner.input(0),
      planner.output(),
      size,
      limit,
      1 / (1 - rate),
      seed,
      salt,
      width,
    )
    const to = planner.inputGradient(0)
    if (to === 0) return
    planner.backward(
      'dropout',
      planner.outputGradient(),
      to,
      size,
      limit,
      1 / (1 - rate),
      seed,
      salt,
      width,
    )
  },

  reference({ config }, [x], { tape, training, seed, salt }) {
    const rate = config.rate as number
    if (!training || rate === 0) return x!
    const scale = tape.constant(1 / (1 - rate))
    const nothing = tape.constant(0)
    const kept = (at: number, i: number) =>
      isKept({ seed, salt }, rate, i) ? tape.multiply(at, scale) : nothing
    return { shape: x!.shape, at: Array.from(x!.at, kept) }
  },
}

/** More would leave values a thousand times their size. */
export const MAX_RATE = 0.999

/** Draws of 31 bits below this are dropped. */
export const limitOf = (rate: number): number => Math.floor(rate * 2 ** 31)

/** Whether the value at place i of the batch is kept. */
export const isKept = (
  { seed, salt }: Pick<ReferenceContext, 'seed' | 'salt'>,
  rate: number,
  i: number,
): boolean => drawOf(seed, salt, i) >= limitOf(rate)

/** The draw for the value at place i: 31 bits (kernels/dropout.ts has the same). */
function drawOf(seed: number, salt: number, i: number): number {
  const key = mixed((seed | 0) ^ Math.imul(salt, 0x9e3779b1))
  return mixed((Math.imul(i, 0x9e3779b1) + key) | 0) >>> 1
}

/** A hash of 32 bits. Source: Wellons 2018, lowbias32. */
function mixed(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d)
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b)
  return x ^ (x >>> 16)
}
