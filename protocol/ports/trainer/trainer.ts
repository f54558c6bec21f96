import type { Optimizer, OptimizerRecipe } from '../../optimizer.ts'
import type { TensorSpec } from '../../params.ts'

/**
 * A trainer: params and a batch → a gradient. It keeps no params of its own between calls: the one live copy belongs
 * to the learner, which moves it by this gradient and by neighbours. It says where that copy lies (`floats`), so that
 * nobody copies it.
 *
 *   params, gradient   Float32Array[d]  in the order of `tensors`
 *   d = sizeOf(tensors)
 */
export interface Trainer {
  /** What really computes, e.g. `engine`: the backend asked for may be missing. */
  readonly backend: string
  /** Threads on one batch. */
  readonly threads: number
  /** Why it is not what was asked for, or who was tried beside it and passed over: a sentence each. */
  readonly remarks?: readonly string[]
  readonly tensors: readonly TensorSpec[]
  /** Values per example. */
  readonly inputSize: number
  /** Classes. */
  readonly outputSize: number
  /**
   * An array of zeros where this trainer computes fastest; whoever asks keeps it until the trainer closes. Ask for the live
   * params, the gradient and what else has their size; all functions here take other arrays too, and copy them.
   */
  floats(length: number): Float32Array
  /** The optimizer of a recipe over `tensors`. */
  createOptimizer(recipe: OptimizerRecipe): Optimizer
  /**
   * Writes the gradient of the batch's mean loss at `params` to `gradient` (zero for BatchNorm statistics) and returns
   * that loss. The new BatchNorm statistics, if the model has any, go straight into `params`.
   */
  gradientInto(gradient: Float32Array, params: Float32Array, batch: Batch): number
  /** Takes a copy of `params` for the `predict` calls that follow; the next gradient ends its life. */
  load(params: Float32Array): void
  /** Probabilities Float32Array[size × outputSize] of `size` examples, by the params last loaded; a fresh array. */
  predict(inputs: Float32Array, size: number): Float32Array
  /** There where the model begins with frozen layers: what they make of an example is the same in every step. */
  readonly features?: Features
  /** Frees everything it holds; idempotent. */
  close(): void
}

/** The frozen start of a model, and the rest of it. */
export interface Features {
  /** Values per example. */
  size: number
  /** What kept features may take here. */
  spareBytes: number
  /** Float32Array[count × size] of so many examples; a fresh array. */
  of(inputs: Float32Array, count: number): Float32Array
  /** The trainer of the rest: it takes features for inputs. Its params are those of the whole; closing the whole closes it. */
  rest: Trainer
}

/** Examples as the model takes them. Arrays may be longer than `size` needs: they are reused. */
export interface Batch {
  /** Float32Array[size × inputSize], row by row. */
  inputs: Float32Array
  /** Int32Array[size], the index of each example's class. */
  labels: Int32Array
  size: number
  /** What dropout draws from: the same seed drops the same units. */
  seed: number
}

export interface Metrics {
  /** Share of examples whose largest probability is at their label, 0 to 1. */
  accuracy: number
  /** Mean categorical cross-entropy in nats. */
  loss: number
}
