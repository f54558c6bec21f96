import type { TensorRole } from '../../params.ts'
import type { Node } from '../graph.ts'
import type { Planner } from '../planner.ts'

/**
 * A layer: what it does to a shape, which kernels train it, and a slow reference that says what they should compute.
 * One file a layer (or family), one row in table.ts.
 */
export interface LayerRule {
  /** Settings it takes in model.json, beside those of every layer (name, trainable ...). All others are refused. */
  settings: readonly string[]
  /** What it reads: one input unless this says more; names are those of the inputs after the first, the last may be absent. */
  inputs?: 'several' | readonly string[]
  /**
   * Shape rule: reads settings into clean ones, and says the output's shape and the weights.
   * Throws Fault verification (`wrong-model`) with the setting, what came and what was expected.
   */
  read(config: Config, inputs: readonly Shape[], where: Where): Read
  /** Plan rule: emits the kernel calls of both directions. Without it the layer trains on the fallback. */
  plan?(node: Node, planner: Planner): void
  /** Multiply-adds of one example's forward pass, where they are not each matrix once for every place of the output (work.ts). */
  work?(node: Node): number
  /**
   * The layer in plain loops over a Float64 tape, forward alone: its gradient is the tape's. Values have the batch as
   * their first axis. Tests compare the kernels with it.
   */
  reference?(node: Node, inputs: readonly Values[], context: ReferenceContext): Values
}

/** Without the batch. */
export type Shape = readonly number[]
export type Config = Record<string, unknown>
/** Names a setting in a message: `layer 3 (Dense) units`. */
export type Where = (key: string) => string

export interface Read {
  /** As it goes to the plan and to TensorFlow.js: checked settings alone, in Keras 2 notation. */
  config: Config
  outputShape: number[]
  weights: { name: string; shape: number[]; role: TensorRole }[]
}

export interface ReferenceContext {
  tape: Tape
  /** A weight's scalars, row-major; undefined when the layer goes without. */
  weight(name: string): Values | undefined
  training: boolean
  /** What Dropout draws from. */
  seed: number
  /** The node's own number, as the planner has it. */
  salt: number
}

/** A place on the tape. */
export type Scalar = number

/** Scalars, row-major. */
export interface Values {
  shape: readonly number[]
  at: ArrayLike<Scalar>
}

/** Float64 arithmetic that remembers how each number came about, for reverse-mode differentiation. */
export interface Tape {
  constant(value: number): Scalar
  valueOf(x: Scalar): number
  add(a: Scalar, b: Scalar): Scalar
  subtract(a: Scalar, b: Scalar): Scalar
  multiply(a: Scalar, b: Scalar): Scalar
  divide(a: Scalar, b: Scalar): Scalar
  /** a · b + c */
  multiplyAdd(a: Scalar, b: Scalar, c: Scalar): Scalar
  /** Any function of one number: its value and its derivative at x. */
  apply(x: Scalar, value: (x: number) => number, derivative: (x: number) => number): Scalar
  exp(x: Scalar): Scalar
  log(x: Scalar): Scalar
  sqrt(x: Scalar): Scalar
  /** The larger; the first of equals takes the gradient. */
  max(a: Scalar, b: Scalar): Scalar
}
