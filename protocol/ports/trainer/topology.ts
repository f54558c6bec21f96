/**
 * Topology: a peer's model.json read with limits, before anything is built from it.
 *
 * TensorFlow.js builds whatever a model.json says: 300 bytes can ask for gigabytes, an initialiser can run
 * for minutes. So model.json is parsed here first: bytes, depth, layer classes, their settings, shapes, params and
 * memory are checked against limits, initialisers become zeros (the params come from the shards), and what goes to
 * the trainer is the clean copy. Sequential and functional models of the layers in engine/layers/table.ts.
 */
import type { Graph, Node } from '../../engine/graph.ts'
import { product, wrong } from '../../engine/layers/settings.ts'
import { Fault } from '../../errors.ts'
import { sizeOf, type TensorSpec } from '../../params.ts'
import { readLayers } from './layer-graph.ts'
import { modelOf, parseModelJson, readWeights, writeModelJson } from './model-json.ts'

export interface TopologyLimits {
  /** What training may take; the host passes half of what is free. */
  memoryBytes: number
  /** Examples in a batch, for the activations. */
  batchSize: number
}

export interface Topology {
  /** Node 0 is the InputLayer; each node comes after what it reads; the last is the output. */
  layers: Layer[]
  /** All weights in the order of model.json's weightsManifest: the order of the flat params. */
  tensors: TensorSpec[]
  /** Without the batch. */
  inputShape: readonly number[]
  outputUnits: number
  /** The activation of the last layer; `linear` when it has none. */
  outputActivation: string
  /** What training takes at `batchSize`, estimated. */
  memoryBytes: number
  /** Shards in order, as names beside model.json. */
  paths: string[]
  /** model.json with nothing in it that was not checked. */
  cleanModelJson: string
}

/** A checked layer; its settings are allow-listed keys in Keras 2 notation. */
export type Layer = Node

/** params, gradient, momentum, anchor, two optimizer slots, and two copies in flight during a swap. */
const COPIES_OF_PARAMS = 8
/** Forward values, their gradients, and a kernel's scratch. */
const COPIES_OF_ACTIVATIONS = 3
const FLOAT_BYTES = 4

/**
 * Reads a model.json and refuses what does not fit the limits, before anything is allocated.
 *
 * Throws a Fault of kind verification: `wrong-model` names the field, what came and what was expected;
 * `unknown-layer` names the layer; `too-much-memory` gives both figures.
 */
export function readTopology(modelJson: Uint8Array | string, limits: TopologyLimits): Topology {
  const root = parseModelJson(modelJson)
  const { nodes: layers, weights } = readLayers(modelOf(root))
  const { order, paths } = readWeights(root.weightsManifest, weights, (name) => name)
  const tensors = order.map((name) => ({ name, ...weights.get(name)! }))
  const index = new Map(order.map((name, i) => [name, i]))
  for (const layer of layers) {
    for (const key of Object.keys(layer.weights))
      layer.weights[key] = index.get(`${layer.name}/${key}`)!
  }
  const { outputShape } = layers.at(-1)!
  if (outputShape.length !== 1)
    throw wrong('the output', `[${outputShape}]`, 'one axis: a value for each label')
  const memoryBytes = memoryOf(tensors, layers, limits.batchSize)
  if (memoryBytes > limits.memoryBytes) throw tooMuchMemory(memoryBytes, limits)
  return {
    layers,
    tensors,
    inputShape: layers[0]!.outputShape,
    outputUnits: outputShape[0]!,
    outputActivation: String(layers.at(-1)!.config.activation ?? 'linear'),
    memoryBytes,
    paths,
    cleanModelJson: writeModelJson({ layers, tensors, paths }),
  }
}

/** The tensors of a model.json in weightsManifest order, whatever memory they take. */
export function tensorsOf(modelJson: Uint8Array | string): TensorSpec[] {
  return readTopology(modelJson, { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }).tensors
}

/**
 * The layers up to the logits: the last one's softmax belongs to the loss.
 * Throws Fault `wrong-output` when the model ends in anything but a softmax.
 */
export function logitLayersOf({ layers }: Pick<Topology, 'layers'>): Layer[] {
  const last = layers.at(-1)!
  const activation = last.config.activation ?? 'nothing'
  if (activation !== 'softmax') {
    throw new Fault({
      kind: 'verification',
      type: 'wrong-output',
      message: `model.json ends in ${last.className} with activation ${activation}, expected softmax`,
      hint: 'end the model in a Dense or Activation layer with softmax: labels are classes',
    })
  }
  return [...layers.slice(0, -1), { ...last, config: { ...last.config, activation: 'linear' } }]
}

/**
 * The model up to its logits, as the engine takes it.
 * Throws Fault `wrong-output` when it ends in anything but a softmax.
 */
export function graphOf(topology: Topology): Graph {
  const { tensors, inputShape, outputUnits } = topology
  return { nodes: logitLayersOf(topology), tensors, inputShape, outputUnits }
}

/** What training takes: copies of the params, and of every layer's values for one batch. */
function memoryOf(tensors: TensorSpec[], layers: Layer[], batchSize: number): number {
  const values = layers.reduce((sum, { outputShape }) => sum + product(outputShape), 0)
  return (
    FLOAT_BYTES * (COPIES_OF_PARAMS * sizeOf(tensors) + COPIES_OF_ACTIVATIONS * batchSize * values)
  )
}

function tooMuchMemory(memoryBytes: number, limits: TopologyLimits): Fault {
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`
  return new Fault({
    kind: 'verification',
    type: 'too-much-memory',
    message: `training this model takes about ${megabytes(memoryBytes)}, expected at most ${Math.round(limits.memoryBytes / 1e6)} MB`,
    hint: 'half of what is free is the limit; close other programs, or raise it with --max-memory',
    memoryBytes,
    limitBytes: limits.memoryBytes,
  })
}
