import { type Graph, isFrozen, type Node } from './graph.ts'

/** A model in two: what makes the same of an example in every step, and the rest. */
export interface Cut {
  /** Frozen layers, from the input to the one value that the rest reads. It has no tensors of its own. */
  start: Graph
  /** The rest; its input is the start's output. */
  rest: Graph
}

/** Examples that a start takes at once: all its values lie in memory, and more at once are no faster. */
export const START_BATCH = 8

/**
 * Cuts a graph behind the last node before which nothing learns and nothing is drawn, and through which all goes. Undefined
 * where no frozen layer lies before such a node. Both parts keep the graph's list of frozen weights, or have none.
 */
export function cutOf(graph: Graph): Cut | undefined {
  const { nodes, tensors, frozen = [] } = graph
  const steady: boolean[] = []
  for (const node of nodes) {
    const own = isFrozen(graph, node) || Object.keys(node.weights).length === 0
    steady.push(own && !draws(node) && node.inputs.every((input) => steady[input]))
  }
  const last = nodes.length - 1
  for (let at = last - 1; at > 0; at--) {
    const before = ancestorsOf(nodes, at)
    const passes = nodes.every(
      ({ inputs }, i) =>
        before.has(i) || inputs.every((input) => input === at || !before.has(input)),
    )
    if (!steady[at] || !passes || ![...before].some((i) => isFrozen(graph, nodes[i]!))) continue
    const { outputShape } = nodes[at]!
    const input = inputOf(outputShape)
    const others = nodes.map((_, i) => i).filter((i) => !before.has(i))
    const own = [...before].sort((a, b) => a - b)
    const feeds = new Map(others.map((i, place) => [i, place + 1])).set(at, 0)
    const restNodes = others.map((i) => moved(nodes[i]!, feeds, 0))
    const places = new Map(own.map((i, place) => [i, place]))
    const isHeld = others.some((i) => isFrozen(graph, nodes[i]!))
    return {
      start: {
        nodes: own.map((i) => moved(nodes[i]!, places, tensors.length)),
        ...{ tensors: [], frozen, inputShape: graph.inputShape },
        outputUnits: outputShape.reduce((a, b) => a * b, 1),
      },
      rest: {
        nodes: [input, ...restNodes],
        ...{ tensors, frozen: isHeld ? frozen : [], inputShape: outputShape },
        outputUnits: graph.outputUnits,
      },
    }
  }
  return undefined
}

/** Whether a layer draws anew in each step. */
function draws({ className, config }: Node): boolean {
  return className === 'Dropout' && config.rate !== 0
}

function ancestorsOf(nodes: readonly Node[], at: number): Set<number> {
  const found = new Set([at])
  for (let i = at; i >= 0; i--) {
    if (found.has(i)) for (const input of nodes[i]!.inputs) found.add(input)
  }
  return found
}

/** A node in another list: where its inputs lie there, and how many weights less come before its own. */
function moved(node: Node, places: ReadonlyMap<number, number>, fewer: number): Node {
  const weights = Object.entries(node.weights).map(([name, index]) => [name, index - fewer])
  return {
    ...node,
    inputs: node.inputs.map((input) => places.get(input)!),
    weights: Object.fromEntries(weights),
  }
}

function inputOf(shape: Node['outputShape']): Node {
  return {
    ...{ className: 'InputLayer', name: 'features', config: {}, inputs: [] },
    ...{ inputShapes: [shape], outputShape: shape, weights: {} },
  }
}
