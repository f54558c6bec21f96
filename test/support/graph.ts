import type { Graph, Node } from '../../protocol/engine/graph.ts'
import type { Config } from '../../protocol/engine/layers/rule.ts'
import { layers } from '../../protocol/engine/layers/table.ts'
import type { TensorSpec } from '../../protocol/params.ts'

/** Graphs made by hand, for tests and benches of the engine. */

/** A layer of a little graph: its class, its settings, and what it reads: the one before it unless `inputs` names others. */
export interface LayerSpec {
  layer: string
  config?: Config
  /** Indices of earlier nodes; node 0 is the input. */
  inputs?: number[]
  /** Its weights never move. */
  frozen?: true
}

/** Added to the index of a frozen weight until it is known how many others there are. */
const FROZEN = 2 ** 20

/** A graph of these layers, by their own shape rules. */
export function graphOf(inputShape: readonly number[], specs: readonly LayerSpec[]): Graph {
  const nodes: Node[] = [
    {
      ...{ className: 'InputLayer', name: 'input', config: {}, inputs: [] },
      ...{ inputShapes: [inputShape], outputShape: inputShape, weights: {} },
    },
  ]
  const tensors: TensorSpec[] = []
  const frozen: TensorSpec[] = []
  for (const { layer, config = {}, inputs = [nodes.length - 1], ...rest } of specs) {
    const name = `layer${nodes.length}`
    const inputShapes = inputs.map((i) => nodes[i]!.outputShape)
    const read = layers[layer]!.read(config, inputShapes, (key) => `${name} ${key}`)
    const weights: Record<string, number> = {}
    for (const weight of read.weights) {
      const list = rest.frozen ? frozen : tensors
      weights[weight.name] = rest.frozen ? FROZEN + list.length : list.length
      list.push({ ...weight, name: `${name}/${weight.name}` })
    }
    const { outputShape } = read
    nodes.push({
      className: layer,
      name,
      config: read.config,
      inputs,
      inputShapes,
      outputShape,
      weights,
    })
  }
  const outputUnits = nodes.at(-1)!.outputShape.reduce((a, b) => a * b, 1)
  for (const { weights } of nodes) {
    for (const [key, index] of Object.entries(weights))
      if (index >= FROZEN) weights[key] = index - FROZEN + tensors.length
  }
  return { nodes, tensors, frozen, inputShape, outputUnits }
}
