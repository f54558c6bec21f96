import type { Engine } from './engine.ts'
import type { Address } from './planner.ts'

/** A part of a batch: what one thread computes of a step. Without threads there is one, the whole. */
export interface Part {
  /** Float32Array[at least size × inputSize], row by row. */
  inputs: Float32Array
  /** Int32Array[at least size] */
  labels: Int32Array
  size: number
  /** Where it begins in the whole batch, and how many examples that has: the loss is the mean over those. */
  first: number
  whole: number
  /** What dropout draws from, by each example's place in the whole batch. */
  seed: number
}

/**
 * Writes the part's share of the gradient and gives its share of the mean loss: all parts' shares add up to the batch's.
 * BatchNorm takes the part's own statistics, and lets the moving ones in `params` follow them.
 */
export function gradientOf(engine: Engine, part: Part, params: Address, gradient: Address): number {
  const { inputs, labels, size, first, whole, seed } = part
  const { plan, forward, loss, backward } = engine.program({
    ...{ batch: size, whole, training: true, params, gradient },
  })
  const width = inputSizeOf(engine)
  engine.floatsAt(plan.input, size * width).set(inputs.subarray(0, size * width))
  engine.labels(size).set(labels.subarray(0, size))
  engine.setSeed(seed, first)
  forward()
  loss()
  backward()
  return engine.lossValue()
}

/** Writes the probabilities, or the logits, of `size` examples. */
export function predictInto(
  values: Float32Array,
  engine: Engine,
  inputs: Float32Array,
  size: number,
  params: Address,
  wanted: 'probabilities' | 'logits' = 'probabilities',
): void {
  const { plan, forward, loss } = engine.program({
    ...{ batch: size, training: false, params, gradient: 0 },
  })
  const width = inputSizeOf(engine)
  engine.floatsAt(plan.input, size * width).set(inputs.subarray(0, size * width))
  forward()
  if (wanted === 'probabilities') loss()
  values.set(engine.floatsAt(plan[wanted], size * engine.graph.outputUnits))
}

/** Values of one example. */
export function inputSizeOf({ graph }: Engine): number {
  return graph.inputShape.reduce((a, b) => a * b, 1)
}
