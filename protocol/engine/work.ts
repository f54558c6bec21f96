import { tensorSize } from '../params.ts'
import { type Graph, type Node, weightsOf } from './graph.ts'
import { layers } from './layers/table.ts'

/**
 * Multiply-adds of one example's forward pass, node by node: by the layer's own rule, or each weight of two or more axes once
 * for every place of the output. A layer without such weights touches each of its values once. Training takes three times as
 * many at most: forward, and the gradients of inputs and weights.
 */
export function multiplyAddsOf(graph: Pick<Graph, 'nodes' | 'tensors' | 'frozen'>): number[] {
  const tensors = weightsOf(graph)
  return graph.nodes.map((node) => {
    const rule = layers[node.className]
    if (rule?.work) return rule.work(node)
    const { weights, inputShapes, outputShape } = node
    const matrices = Object.values(weights)
      .map((index) => tensors[index]!)
      .filter(({ shape }) => shape.length >= 2)
    if (matrices.length === 0) return Math.max(...[outputShape, ...inputShapes].map(sizeOf))
    const places = sizeOf(outputShape.slice(0, -1))
    return places * matrices.reduce((sum, tensor) => sum + tensorSize(tensor), 0)
  })
}

function sizeOf(shape: Node['outputShape']): number {
  return shape.reduce((size, length) => size * length, 1)
}
