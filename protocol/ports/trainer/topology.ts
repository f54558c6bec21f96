/**
 * Topology: a peer's model.json read with limits, before anything is built from it.
 *
 * TensorFlow.js builds whatever a model.json says: 300 bytes can ask for gigabytes, an initialiser can run
 * for minutes. So model.json is parsed here first: bytes, depth, layer classes, their settings, shapes, params and
 * memory are checked against limits, initialisers become zeros (the params come from the shards), and what goes to
 * the trainer is the clean copy. Sequential and functional models of the layers in engine/layers/table.ts,
 * as TensorFlow.js, Keras 2 and Keras 3 write them.
 */
import { type Graph, isFrozen, type Node } from '../../engine/graph.ts'
import type { Config } from '../../engine/layers/rule.ts'
import { record, wrong } from '../../engine/layers/settings.ts'
import { Fault } from '../../errors.ts'
import type { TensorSpec } from '../../params.ts'
import { boundedDemand, type Demand, type Limits } from './bounds.ts'
import { fromKeras3, isKeras3, weightFromKeras3 } from './keras3.ts'
import { type LayerGraph, readLayers } from './layer-graph.ts'
import {
  modelOf,
  parseModelJson,
  readWeights,
  type WeightGroup,
  writeModelJson,
} from './model-json.ts'

export type TopologyLimits = Limits

export interface Topology {
  /** Node 0 is the InputLayer; each node comes after what it reads; the last is the output. */
  layers: Layer[]
  /** What is trained and swapped, in the order of model.json's weightsManifest: the order of the flat params. */
  tensors: TensorSpec[]
  /** The weights of layers with `trainable: false`, in the same order among themselves: they never move. */
  frozen: TensorSpec[]
  /** Without the batch. */
  inputShape: readonly number[]
  outputUnits: number
  /** The activation of the last layer; `linear` when it has none. */
  outputActivation: string
  /** What training takes at `batchSize`. */
  demand: Demand
  /** All weights as they lie in shards. */
  groups: WeightGroup[]
  /** All shards in order, as names beside model.json. */
  paths: string[]
  /** model.json with nothing in it that was not checked. */
  cleanModelJson: string
}

/** A checked layer; its settings are allow-listed keys in Keras 2 notation. */
export type Layer = Node

/**
 * Reads a model.json and refuses what does not fit the limits, before anything is allocated.
 *
 * Throws a Fault of kind verification: `wrong-model` names the field, what came and what was expected;
 * `unknown-layer` names the layer; `too-many-params`, `too-much-memory` and `too-much-work` give both figures and the layer
 * that takes most.
 */
export function readTopology(modelJson: Uint8Array | string, limits: TopologyLimits): Topology {
  const root = parseModelJson(modelJson)
  const model = modelOf(root)
  const isNew = isKeras3(model)
  const read = readLayers(isNew ? fromKeras3(model, isOld(root)) : model)
  const { nodes: layers, weights } = read
  const nameOf = (name: string) => (isNew ? weightFromKeras3(name, model) : name)
  const groups = readWeights(root.weightsManifest, weights, nameOf)
  const held = frozenNames(read)
  const all = groups.flatMap(({ tensors }) => tensors)
  const [tensors, frozen] = [false, true].map((wanted) =>
    all.filter(({ name }) => held.has(name) === wanted),
  ) as [TensorSpec[], TensorSpec[]]
  if (tensors.length === 0)
    throw wrong('trainable', 'false in all layers', 'a layer with weights that learns')
  const index = new Map([...tensors, ...frozen].map(({ name }, i) => [name, i]))
  for (const layer of layers) {
    for (const key of Object.keys(layer.weights))
      layer.weights[key] = index.get(`${layer.name}/${key}`)!
  }
  const { outputShape } = layers.at(-1)!
  if (outputShape.length !== 1)
    throw wrong('the output', `[${outputShape}]`, 'one axis: a value for each label')
  const [inputShape, outputUnits] = [layers[0]!.outputShape, outputShape[0]!]
  const demand = boundedDemand({ nodes: layers, tensors, frozen, inputShape, outputUnits }, limits)
  return {
    ...{ layers, tensors, frozen, groups, inputShape, outputUnits, demand },
    outputActivation: String(layers.at(-1)!.config.activation ?? 'linear'),
    paths: groups.flatMap(({ paths }) => paths),
    cleanModelJson: writeModelJson({ layers, groups, frozen: read.frozen }),
  }
}

/** By their whole names. */
function frozenNames({ nodes, frozen }: LayerGraph): Set<string> {
  const layers = nodes.filter(({ name }) => frozen.has(name))
  return new Set(
    layers.flatMap(({ name, weights }) => Object.keys(weights).map((last) => `${name}/${last}`)),
  )
}

/** Names of the layers whose weights never move. */
export function frozenLayersOf({ layers, tensors }: Topology): Set<string> {
  return new Set(layers.filter((layer) => isFrozen({ tensors }, layer)).map(({ name }) => name))
}

/** Keras 2, from 2.13 on, writes some of what Keras 3 does; the converter notes its version beside the model. */
function isOld(root: Config): boolean {
  const { keras_version } = record(root.modelTopology, 'modelTopology')
  return String(keras_version).startsWith('2.')
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
      layer: last.className,
      activation: String(activation),
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
  const { tensors, frozen, inputShape, outputUnits } = topology
  return { nodes: logitLayersOf(topology), tensors, frozen, inputShape, outputUnits }
}
