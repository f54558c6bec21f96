/**
 * model.json as bytes and as an object: its frame, its list of weights, and how we write one.
 * Format: TensorFlow.js layers-model, Keras 2 dialect. What stands in it as layers is layer-graph.ts's.
 */
import type { Node } from '../../engine/graph.ts'
import type { Config } from '../../engine/layers/rule.ts'
import { quoted, record, wrong } from '../../engine/layers/settings.ts'
import { layers as layerRules } from '../../engine/layers/table.ts'
import type { TensorSpec } from '../../params.ts'

export const MAX_MODEL_JSON_BYTES = 256 * 1024
/** Keras 3 nests a tensor's history deepest: topology, model, config, layers, layer, nodes, node, arguments ... */
const MAX_DEPTH = 16

/** A weight as its layer's shape rule has it. */
export type Weight = Pick<TensorSpec, 'shape' | 'role'>

/**
 * The object in the file. Throws Fault `wrong-model` when it is too long, too deep, no JSON, or no layers-model.
 */
export function parseModelJson(modelJson: Uint8Array | string): Config {
  const bytes = typeof modelJson === 'string' ? new TextEncoder().encode(modelJson) : modelJson
  if (bytes.length > MAX_MODEL_JSON_BYTES) {
    throw wrong('the file', `${bytes.length} bytes`, `at most ${MAX_MODEL_JSON_BYTES}`)
  }
  let root: unknown
  try {
    root = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw wrong('the file', `not JSON (${(error as Error).message})`, 'JSON', error)
  }
  if (!isShallow(root, MAX_DEPTH))
    throw wrong('the file', 'nested deeper', `at most ${MAX_DEPTH} levels`)
  const object = record(root, 'the file')
  const format = object.format ?? 'layers-model'
  if (format !== 'layers-model') throw wrong('format', format, 'layers-model')
  return object
}

/** Both dialects: the class at modelTopology, or under its model_config. */
export function modelOf(root: Config): Config {
  const topology = record(root.modelTopology, 'modelTopology')
  return topology.model_config === undefined
    ? topology
    : record(topology.model_config, 'model_config')
}

function isShallow(value: unknown, depth: number): boolean {
  if (!(value instanceof Object)) return true
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1))
}

/** Weights that lie one behind the other in shards of their own. */
export interface WeightGroup {
  /** Shards in order, as names beside model.json. */
  paths: readonly string[]
  tensors: readonly TensorSpec[]
}

/** The weights in their order, each of a layer, float32 and of its layer's shape; and the shards. */
export function readWeights(
  manifest: unknown,
  weights: ReadonlyMap<string, Weight>,
  nameOf: (name: string) => string,
): WeightGroup[] {
  if (!Array.isArray(manifest)) throw wrong('weightsManifest', quoted(manifest), 'a list of groups')
  const groups = manifest.map((value): WeightGroup => {
    const group = record(value, 'weightsManifest')
    if (!Array.isArray(group.paths) || !Array.isArray(group.weights)) {
      throw wrong('weightsManifest', 'a group without them', 'paths and weights')
    }
    return {
      paths: group.paths.map(readPath),
      tensors: group.weights.map((value) => {
        const name = readWeight(record(value, 'weight'), weights, nameOf)
        return { name, ...weights.get(name)! }
      }),
    }
  })
  const order = groups.flatMap(({ tensors }) => tensors.map(({ name }) => name))
  const twice = order.find((name, i) => order.indexOf(name) !== i)
  if (twice !== undefined) throw wrong('weightsManifest', `${twice} twice`, 'each weight once')
  const missing = [...weights.keys()].find((name) => !order.includes(name))
  if (missing !== undefined)
    throw wrong('weightsManifest', `no ${missing}`, 'every weight of every layer')
  if (order.length === 0) throw wrong('weightsManifest', 'no weights', 'at least one')
  return groups
}

function readWeight(
  weight: Config,
  weights: ReadonlyMap<string, Weight>,
  nameOf: (name: string) => string,
): string {
  const name = nameOf(String(weight.name))
  const spec = weights.get(name)
  if (spec === undefined)
    throw wrong('weightsManifest', quoted(weight.name), 'weights of its layers only')
  if (weight.dtype !== 'float32') throw wrong(`${name} dtype`, quoted(weight.dtype), 'float32')
  if (weight.quantization !== undefined)
    throw wrong(`${name} quantization`, 'one', 'none: params are float32')
  if (JSON.stringify(weight.shape) !== JSON.stringify(spec.shape)) {
    throw wrong(`${name} shape`, quoted(weight.shape), `[${spec.shape}]`)
  }
  return name
}

/** A shard lies beside model.json; a peer's file never picks another place. */
function readPath(path: unknown): string {
  if (typeof path === 'string' && /^(?!\.)[A-Za-z0-9._-]{1,64}$/.test(path)) return path
  throw wrong('weightsManifest paths', quoted(path), 'a file name beside model.json')
}

export interface ModelParts {
  /** Node 0 is the InputLayer; each node comes after what it reads; the last is the output. */
  layers: readonly Node[]
  /** Names of the layers whose weights never move. */
  frozen?: ReadonlySet<string>
  groups: readonly WeightGroup[]
}

/**
 * A layers-model model.json with the weights in these groups of shards: Sequential where each layer reads the one before it,
 * else Functional. `tf.loadLayersModel` loads it, unless a layer has inputs by name (MultiHeadAttention), which only Keras
 * knows to read.
 */
export function writeModelJson(parts: ModelParts): string {
  const { layers, groups, frozen = new Set() } = parts
  const isChain = layers.every(
    ({ className, inputs }, i) =>
      i === 0 || (`${inputs}` === `${i - 1}` && !namesInputs(className)),
  )
  return JSON.stringify({
    format: 'layers-model',
    generatedBy: 'ml-store',
    convertedBy: null,
    modelTopology: {
      ...(isChain ? sequential(layers, frozen) : functional(layers, frozen)),
      keras_version: 'tfjs-layers 4.22.0',
      backend: 'tensor_flow.js',
    },
    weightsManifest: groups.map(({ paths, tensors }) => ({
      paths,
      weights: tensors.map(({ name, shape }) => ({ name, shape, dtype: 'float32' })),
    })),
  })
}

function sequential(layers: readonly Node[], frozen: ReadonlySet<string>): Config {
  return {
    class_name: 'Sequential',
    config: { name: 'model', layers: layers.map((layer) => written(layer, frozen)) },
  }
}

function functional(layers: readonly Node[], frozen: ReadonlySet<string>): Config {
  const place = (i: number) => [layers[i]!.name, 0, 0]
  const nodesOf = ({ className, inputs }: Node) => {
    if (inputs.length === 0) return []
    const names = layerRules[className]?.inputs
    if (!Array.isArray(names)) return [inputs.map((i) => [...place(i), {}])]
    const [first, ...rest] = inputs
    const named = Object.fromEntries(rest.map((input, i) => [names[i], place(input)]))
    return [[[...place(first!), named]]]
  }
  return {
    class_name: 'Functional',
    config: {
      name: 'model',
      layers: layers.map((layer) => ({
        ...written(layer, frozen),
        name: layer.name,
        inbound_nodes: nodesOf(layer),
      })),
      input_layers: [place(0)],
      output_layers: [place(layers.length - 1)],
    },
  }
}

function written(layer: Node, frozen: ReadonlySet<string>): Config {
  const { className, config, name, outputShape, inputs } = layer
  const input = { batch_input_shape: [null, ...outputShape], dtype: 'float32', sparse: false }
  const trainable = !frozen.has(name)
  return {
    class_name: className,
    config: { name, trainable, ...(inputs.length === 0 ? input : {}), ...config },
  }
}

function namesInputs(className: string): boolean {
  return Array.isArray(layerRules[className]?.inputs)
}
