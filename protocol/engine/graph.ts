import type { TensorSpec } from '../params.ts'
import type { Config } from './layers/rule.ts'

/** A model as the plan takes it: checked layers in an order in which each comes after what it reads. */
export interface Graph {
  /** Node 0 is the input; the last one gives the logits, whose softmax belongs to the loss. */
  nodes: Node[]
  /** All weights in the order of the flat params. */
  tensors: readonly TensorSpec[]
  /** Weights of frozen layers, in the order of an array of their own that nothing moves; none unless given. */
  frozen?: readonly TensorSpec[]
  /** Without the batch. */
  inputShape: readonly number[]
  /** Classes. */
  outputUnits: number
}

export interface Node {
  className: string
  name: string
  /** Checked settings, as the layer's shape rule left them. */
  config: Config
  /** What it reads, as indices of earlier nodes. */
  inputs: number[]
  /** Without the batch. */
  inputShapes: (readonly number[])[]
  outputShape: readonly number[]
  /** Its weights, as indices in `tensors` and on into `frozen`, by their last name (`kernel`, `bias`, `gamma` ...). */
  weights: Record<string, number>
}

/** Whether a node's weights never move; a layer is frozen as a whole. */
export function isFrozen({ tensors }: Pick<Graph, 'tensors'>, { weights }: Node): boolean {
  return Object.values(weights).some((index) => index >= tensors.length)
}

/** All weights, as nodes count them. */
export function weightsOf({ tensors, frozen = [] }: Pick<Graph, 'tensors' | 'frozen'>) {
  return [...tensors, ...frozen]
}
