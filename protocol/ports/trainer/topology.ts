/**
 * Topology: a peer's model.json read with limits, before anything is built from it.
 *
 * TensorFlow.js builds whatever a model.json says: 300 bytes can ask for gigabytes, an initialiser can run
 * for minutes. So model.json is parsed here first: bytes, depth, layer classes, their settings, shapes, params and
 * memory are checked against limits, initialisers become zeros (the params come from the shards), and what goes to
 * the trainer is the clean copy. Sequential models of the layers in engine/layers/table.ts.
 * Format: TensorFlow.js layers-model, Keras 2 dialect.
 */
import type { Config, LayerRule, Where } from '../../engine/layers/rule.ts'
import {
  integer,
  MAX_ACTIVATION,
  MAX_RANK,
  product,
  quoted,
  record,
  wrong,
} from '../../engine/layers/settings.ts'
import { layers as layerRules } from '../../engine/layers/table.ts'
import { Fault } from '../../errors.ts'
import { sizeOf, type TensorSpec } from '../../params.ts'

export interface TopologyLimits {
  /** What training may take; the host passes half of what is free. */
  memoryBytes: number
  /** Examples in a batch, for the activations. */
  batchSize: number
}

export interface Topology {
  layers: Layer[]
  /** All weights in the order of model.json's weightsManifest: the order of the flat params. */
  tensors: TensorSpec[]
  /** Without the batch. */
  inputShape: number[]
  outputUnits: number
  /** The activation of the last layer that has one; `linear` when none has. */
  outputActivation: string
  /** What training takes at `batchSize`, estimated. */
  memoryBytes: number
  /** Shards in order, as names beside model.json. */
  paths: string[]
  /** model.json with nothing in it that was not checked. */
  cleanModelJson: string
}

export interface Layer {
  className: string
  /** As it goes to the trainer: allow-listed keys in Keras 2 notation. */
  config: Record<string, unknown>
  name: string
  inputShape: number[]
  outputShape: number[]
  /** Its weights, as indices in `tensors`, by their last name (`kernel`, `bias`, `gamma` ...). */
  weights: Record<string, number>
}

export const MAX_MODEL_JSON_BYTES = 256 * 1024
const MAX_DEPTH = 12
const MAX_LAYERS = 256

/** params, gradient, momentum, anchor, two optimizer slots, and two copies in flight during a swap. */
const COPIES_OF_PARAMS = 8
/** Forward values, their gradients, and a kernel's scratch. */
const COPIES_OF_ACTIVATIONS = 3
const FLOAT_BYTES = 4

export const layerClasses = Object.keys(layerRules)

/** Settings that only say how a weight starts: read over, since every weight comes from the shards. */
const ignoredKeys = new Set([
  'name',
  'trainable',
  'dtype',
  'batch_input_shape',
  'input_dim',
  'input_shape',
  'batch_size',
  'seed',
  'kernel_initializer',
  'bias_initializer',
  'beta_initializer',
  'gamma_initializer',
  'sparse',
  'ragged',
  'moving_mean_initializer',
  'moving_variance_initializer',
])
/**
 * Reads a model.json and refuses what does not fit the limits, before anything is allocated.
 *
 * Throws a Fault of kind verification: `wrong-model` names the field, what came and what was expected;
 * `unknown-layer` names the layer; `too-much-memory` gives both figures.
 */
export function readTopology(modelJson: Uint8Array | string, limits: TopologyLimits): Topology {
  const root = parse(modelJson)
  const entries = layersOf(root)
  const { layers, weights, inputShape } = walk(entries)
  const { order, paths } = readWeights(root.weightsManifest, weights)
  const tensors = order.map((name) => ({ name, ...weights.get(name)! }))
  const index = new Map(order.map((name, i) => [name, i]))
  for (const layer of layers) {
    for (const key of Object.keys(layer.weights))
      layer.weights[key] = index.get(`${layer.name}/${key}`)!
  }
  const outputShape = layers.at(-1)!.outputShape
  if (outputShape.length !== 1)
    throw wrong('the output', `[${outputShape}]`, 'one axis: a value for each label')
  const memoryBytes = memoryOf(tensors, layers, limits.batchSize)
  if (memoryBytes > limits.memoryBytes) throw tooMuchMemory(memoryBytes, limits)
  return {
    layers,
    tensors,
    inputShape,
    outputUnits: outputShape[0]!,
    outputActivation: lastActivation(layers),
    memoryBytes,
    paths,
    cleanModelJson: writeModelJson({ layers, tensors, inputShape, paths }),
  }
}

/** The tensors of a model.json in weightsManifest order, whatever memory they take. */
export function tensorsOf(modelJson: Uint8Array | string): TensorSpec[] {
  return readTopology(modelJson, { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }).tensors
}

/** A layers-model model.json that `tf.loadLayersModel` loads, with the weights in the shards at `paths`. */
export function writeModelJson({
  layers,
  tensors,
  inputShape,
  paths,
}: Pick<Topology, 'layers' | 'tensors' | 'inputShape' | 'paths'>): string {
  return JSON.stringify({
    format: 'layers-model',
    generatedBy: 'ml-store',
    convertedBy: null,
    modelTopology: {
      class_name: 'Sequential',
      config: {
        name: 'model',
        layers: layers.map(({ className, config, name }, i) => ({
          class_name: className,
          config: {
            name,
            trainable: true,
            ...(i === 0 ? { batch_input_shape: [null, ...inputShape], dtype: 'float32' } : {}),
            ...config,
          },
        })),
      },
      keras_version: 'tfjs-layers 4.22.0',
      backend: 'tensor_flow.js',
    },
    weightsManifest: [
      { paths, weights: tensors.map(({ name, shape }) => ({ name, shape, dtype: 'float32' })) },
    ],
  })
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

/** What training takes: copies of the params, and of every layer's values for one batch. */
function memoryOf(tensors: TensorSpec[], layers: Layer[], batchSize: number): number {
  const values = layers.reduce((sum, { outputShape }) => sum + product(outputShape), 0)
  return (
    FLOAT_BYTES * (COPIES_OF_PARAMS * sizeOf(tensors) + COPIES_OF_ACTIVATIONS * batchSize * values)
  )
}

function parse(modelJson: Uint8Array | string): Config {
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

function isShallow(value: unknown, depth: number): boolean {
  if (!(value instanceof Object)) return true
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1))
}

/** Both dialects: the class at modelTopology, or under its model_config; layers as a list or under `layers`. */
function layersOf(root: Config): unknown[] {
  const topology = record(root.modelTopology, 'modelTopology')
  const model =
    topology.model_config === undefined ? topology : record(topology.model_config, 'model_config')
  if (model.class_name !== 'Sequential') {
    throw unknownLayer(
      `modelTopology is a ${quoted(model.class_name)}`,
      'a Sequential model',
      model.class_name,
    )
  }
  const layers = Array.isArray(model.config) ? model.config : record(model.config, 'config').layers
  if (!Array.isArray(layers) || layers.length === 0)
    throw wrong('layers', quoted(layers), 'a list of layers')
  if (layers.length > MAX_LAYERS)
    throw wrong('layers', `${layers.length} layers`, `at most ${MAX_LAYERS}`)
  return layers
}

type Weight = Pick<TensorSpec, 'shape' | 'role'>

function walk(entries: unknown[]): {
  layers: Layer[]
  weights: Map<string, Weight>
  inputShape: number[]
} {
  const layers: Layer[] = []
  const weights = new Map<string, Weight>()
  const inputShape = readInputShape(record(record(entries[0], 'layer 0').config, 'layer 0 config'))
  let shape = inputShape
  for (const [i, value] of entries.entries()) {
    const layer = readLayer(record(value, `layer ${i}`), i, shape)
    if (layers.some(({ name }) => name === layer.name))
      throw wrong(`layer ${i} name`, layer.name, 'a name of its own')
    for (const { name, shape, role } of layer.read.weights)
      weights.set(`${layer.name}/${name}`, { shape, role })
    layers.push({
      className: layer.className,
      config: layer.read.config,
      name: layer.name,
      inputShape: shape,
      outputShape: layer.read.outputShape,
      weights: Object.fromEntries(layer.read.weights.map(({ name }) => [name, -1])),
    })
    shape = layer.read.outputShape
    if (product(shape) > MAX_ACTIVATION) {
      throw wrong(`layer ${i} output`, `[${shape}]`, `at most ${MAX_ACTIVATION} values`)
    }
  }
  return { layers, weights, inputShape }
}

function readLayer(entry: Config, i: number, shape: number[]) {
  const className = String(entry.class_name)
  const rule: LayerRule | undefined = Object.hasOwn(layerRules, className)
    ? layerRules[className]
    : undefined
  if (rule === undefined || typeof entry.class_name !== 'string') {
    throw unknownLayer(
      `layer ${i} is a ${quoted(entry.class_name)}`,
      `one of ${layerClasses.join(', ')}`,
      className,
    )
  }
  if (className === 'InputLayer' && i > 0) throw wrong(`layer ${i}`, 'InputLayer', 'it first only')
  const config = record(entry.config, `layer ${i} config`)
  const where: Where = (key) => `layer ${i} (${className}) ${key}`
  const strange = Object.keys(config).find(
    (key) => !ignoredKeys.has(key) && !rule.settings.includes(key),
  )
  if (strange !== undefined) throw wrong(where(strange), quoted(config[strange]), 'no such setting')
  if (config.trainable === false)
    throw wrong(where('trainable'), 'false', 'true: frozen layers are not supported')
  if ((config.dtype ?? 'float32') !== 'float32')
    throw wrong(where('dtype'), config.dtype, 'float32')
  return {
    className,
    name: readName(config.name, where('name')),
    read: rule.read(config, [shape], where),
  }
}

function readInputShape(config: Config): number[] {
  const shape = config.batch_input_shape
  if (!Array.isArray(shape))
    throw wrong('layer 0 batch_input_shape', quoted(shape), 'a list such as [null, 28, 28, 1]')
  const [batch, ...rest] = shape as unknown[]
  if (batch !== null)
    throw wrong('layer 0 batch_input_shape', quoted(shape), 'null first: any number of examples')
  if (rest.length === 0 || rest.length > MAX_RANK) {
    throw wrong('layer 0 batch_input_shape', quoted(shape), `1 to ${MAX_RANK} axes after the batch`)
  }
  const sizes = rest.map((size) => integer(size, 1, MAX_ACTIVATION, 'layer 0 batch_input_shape'))
  if (product(sizes) > MAX_ACTIVATION)
    throw wrong('layer 0 batch_input_shape', quoted(shape), `at most ${MAX_ACTIVATION} values`)
  return sizes
}

/** The weights' names in their order, each of a layer, float32 and of its layer's shape; and the shards. */
function readWeights(
  manifest: unknown,
  weights: Map<string, Weight>,
): { order: string[]; paths: string[] } {
  if (!Array.isArray(manifest)) throw wrong('weightsManifest', quoted(manifest), 'a list of groups')
  const order: string[] = []
  const paths: string[] = []
  for (const value of manifest) {
    const group = record(value, 'weightsManifest')
    if (!Array.isArray(group.paths) || !Array.isArray(group.weights)) {
      throw wrong('weightsManifest', 'a group without them', 'paths and weights')
    }
    for (const path of group.paths) paths.push(readPath(path))
    for (const weight of group.weights) order.push(readWeight(record(weight, 'weight'), weights))
  }
  const twice = order.find((name, i) => order.indexOf(name) !== i)
  if (twice !== undefined) throw wrong('weightsManifest', `${twice} twice`, 'each weight once')
  const missing = [...weights.keys()].find((name) => !order.includes(name))
  if (missing !== undefined)
    throw wrong('weightsManifest', `no ${missing}`, 'every weight of every layer')
  if (order.length === 0) throw wrong('weightsManifest', 'no weights', 'at least one')
  return { order, paths }
}

function readWeight(weight: Config, weights: Map<string, Weight>): string {
  const name = String(weight.name)
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

function readName(name: unknown, where: string): string {
  if (typeof name === 'string' && /^[A-Za-z0-9_.-]{1,100}$/.test(name)) return name
  throw wrong(where, quoted(name), 'letters, digits, _ . -, at most 100')
}

function lastActivation(layers: Layer[]): string {
  for (const { config } of layers.toReversed()) {
    if (typeof config.activation === 'string') return config.activation
  }
  return 'linear'
}

function unknownLayer(came: string, expected: string, layer: unknown): Fault {
  return new Fault({
    kind: 'verification',
    type: 'unknown-layer',
    message: `model.json: ${came}, expected ${expected}`,
    hint: 'only these layers are trained by this version of mlstore',
    layer: String(layer),
  })
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
