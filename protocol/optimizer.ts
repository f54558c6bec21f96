import { forEachTensor, sizeOf, type TensorSpec } from './params.ts'

/**
 * Optimizers over one flat array: params −= rate · (what the gradient asks for), for trainable tensors alone.
 *
 *   params, gradient, direction   Float32Array[d]
 *   direction   quasi-global momentum's m (aggregate/momentum.ts); the gradient followed is gradient + mu · direction
 *
 * sgd     x −= rate · g                                                      weightDecay adds weightDecay · x to g
 * adam    Kingma and Ba 2015, algorithm 1, with bias correction              as above
 * adamw   Loshchilov and Hutter 2019, algorithm 2: x −= rate · weightDecay · x besides, out of the moments
 */
export interface Optimizer {
  readonly name: OptimizerName
  readonly rate: number
  /** Steps taken, which bias correction needs; saved with `slots`. */
  steps: number
  /** Float32Array[d] each: first and second moment of adam and adamw, none of sgd. */
  readonly slots: readonly Float32Array[]
  /** Moves `params` in place. */
  step(params: Float32Array, gradient: Float32Array, direction?: Float32Array, mu?: number): void
}

export type OptimizerName = 'sgd' | 'adam' | 'adamw'

/** As the manifest's recipe has it. */
export interface OptimizerRecipe {
  name: OptimizerName
  learningRate: number
  beta1?: number | undefined
  beta2?: number | undefined
  epsilon?: number | undefined
  weightDecay?: number | undefined
}

const BETA_1 = 0.9
const BETA_2 = 0.999
/** Keras' choice, which tfjs shares; PyTorch has 1e-8. */
const EPSILON = 1e-7
/** PyTorch's choice for adamw; the others decay nothing unless told. */
const ADAMW_DECAY = 0.01

/** `floats` makes the slots. */
export function createOptimizer(
  recipe: OptimizerRecipe,
  tensors: readonly TensorSpec[],
  floats: (length: number) => Float32Array = (length) => new Float32Array(length),
): Optimizer {
  const ranges = trainableRanges(tensors)
  if (recipe.name === 'sgd') return sgd(recipe, ranges)
  const size = sizeOf(tensors)
  return adam(recipe, ranges, [floats(size), floats(size)])
}

/** The numbers of adam and adamw, with what a recipe leaves open filled in. */
export function adamNumbers({ name, learningRate: rate, weightDecay, ...recipe }: OptimizerRecipe) {
  const { beta1 = BETA_1, beta2 = BETA_2, epsilon = EPSILON } = recipe
  const decay = weightDecay ?? (name === 'adamw' ? ADAMW_DECAY : 0)
  return {
    ...{ beta1, beta2, epsilon },
    /** What the gradient gets of the params. */
    inGradient: name === 'adam' ? decay : 0,
    /** What a step leaves of the params. */
    keep: name === 'adamw' ? 1 - rate * decay : 1,
    /** The rate, and the factor of the second moment, at a step counted from 1. */
    correctionsAt: (step: number) => ({
      stepRate: rate / (1 - beta1 ** step),
      correction: 1 / (1 - beta2 ** step),
    }),
  }
}

function sgd({ learningRate: rate, weightDecay = 0 }: OptimizerRecipe, ranges: Range[]): Optimizer {
  return {
    name: 'sgd',
    rate,
    steps: 0,
    slots: [],
    step(params, gradient, direction, mu = 0) {
      this.steps++
      for (const [start, end] of ranges) {
        if (direction && mu > 0)
          followInto(params, rate, gradient, mu, direction, weightDecay, start, end)
        else descendInto(params, rate, gradient, weightDecay, start, end)
      }
    },
  }
}

function adam(
  recipe: OptimizerRecipe,
  ranges: Range[],
  [first, second]: [Float32Array, Float32Array],
): Optimizer {
  const { beta1, beta2, epsilon, inGradient, keep, correctionsAt } = adamNumbers(recipe)
  return {
    name: recipe.name,
    rate: recipe.learningRate,
    steps: 0,
    slots: [first, second],
    step(params, gradient) {
      this.steps++
      const { stepRate, correction } = correctionsAt(this.steps)
      for (const [start, end] of ranges) {
        for (let i = start; i < end; i++) {
          const g = gradient[i]! + inGradient * params[i]!
          const m = beta1 * first[i]! + (1 - beta1) * g
          const v = beta2 * second[i]! + (1 - beta2) * g * g
          first[i] = m
          second[i] = v
          params[i] = keep * params[i]! - (stepRate * m) / (Math.sqrt(v * correction) + epsilon)
        }
      }
    },
  }
}

export type Range = [start: number, end: number]

/** Where params are trainable; neighbouring tensors make one range. */
export function trainableRanges(tensors: readonly TensorSpec[]): Range[] {
  const ranges: Range[] = []
  forEachTensor(tensors, (tensor, start, end) => {
    if (tensor.role !== 'trainable') return
    const last = ranges.at(-1)
    if (last?.[1] === start) last[1] = end
    else ranges.push([start, end])
  })
  return ranges
}

/** Over parts that begin at 0, two fifths less time than with bounds: this is an eighth of a dense step on TensorFlow.js. */
function descendInto(
  params: Float32Array,
  rate: number,
  gradient: Float32Array,
  decay: number,
  start: number,
  end: number,
): void {
  const [x, g] = [params.subarray(start, end), gradient.subarray(start, end)]
  const keep = 1 - rate * decay
  for (let i = 0; i < x.length; i++) x[i] = keep * x[i]! - rate * g[i]!
}

function followInto(
  params: Float32Array,
  rate: number,
  gradient: Float32Array,
  mu: number,
  direction: Float32Array,
  decay: number,
  start: number,
  end: number,
): void {
  for (let i = start; i < end; i++) {
    params[i] = params[i]! - rate * (gradient[i]! + mu * direction[i]! + decay * params[i]!)
  }
}
