/**
 * Topology: a peer's model.json read with limits, before anything is built from it.
 *
 * TensorFlow.js builds whatever a model.json says: 300 bytes can ask for gigabytes, an initialiser can run
 * for minutes. So model.json is parsed here first: bytes, depth, layer classes, their settings, shapes, params and
 * memory are checked against limits, initialisers become zeros (the params come from the shards), and what goes to
 * the trainer is the clean copy. Sequential models of the layers in `layerReaders`.
 * Format: TensorFlow.js layers-model, Keras 2 dialect.
 */
import { Fault } from '../../errors.ts'
import { sizeOf, type TensorRole, type TensorSpec } from '../../params.ts'

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
const MAX_RANK = 5
/** One value array per example; the largest a shape may ask for. */
const MAX_ACTIVATION = 2 ** 28
const MAX_UNITS = 2 ** 22

/** params, gradient, momentum, anchor, two optimizer slots, and two copies in flight during a swap. */
const COPIES_OF_PARAMS = 8
/** Forward values, their gradients, and a kernel's scratch. */
const COPIES_OF_ACTIVATIONS = 3
const FLOAT_BYTES = 4

const activations = new Set([
  'linear',
  'relu',
  'relu6',
  'sigmoid',
  'tanh',
  'softmax',
  'elu',
  'selu',
  'softplus',
  'softsign',
  'swish',
])

/** What a layer does to a shape, which weights it has, and which of its settings we keep. */
interface Read {
  config: Record<string, unknown>
  outputShape: number[]
  weights: { name: string; shape: number[]; role: TensorRole }[]
}

type Config = Record<string, unknown>
type Where = (key: string) => string

const layerReaders: Record<string, (config: Config, shape: number[], where: Where) => Read> = {
  InputLayer: (config, shape, where) => {
    const { sparse = false } = config
    if (sparse !== false) throw wrong(where('sparse'), sparse, 'false')
    return { config: {}, outputShape: shape, weights: [] }
  },

  Dense(config, shape, where) {
    const units = integer(config.units, 1, MAX_UNITS, where('units'))
    const useBias = flag(config.use_bias, true, where('use_bias'))
    absent(config, where, [
      'kernel_regularizer',
      'bias_regularizer',
      'activity_regularizer',
      'kernel_constraint',
      'bias_constraint',
    ])
    const inputs = shape.at(-1)
    if (inputs === undefined) throw wrong(where('input'), 'no axis', 'at least one axis')
    return {
      config: {
        units,
        activation: activation(config.activation, where('activation')),
        use_bias: useBias,
        kernel_initializer: zeros,
        bias_initializer: zeros,
      },
      outputShape: [...shape.slice(0, -1), units],
      weights: [
        { name: 'kernel', shape: [inputs, units], role: 'trainable' },
        ...(useBias ? [{ name: 'bias', shape: [units], role: 'trainable' as const }] : []),
      ],
    }
  },

  Flatten(config, shape, where) {
    const format = config.data_format ?? 'channels_last'
    if (format !== 'channels_last') throw wrong(where('data_format'), format, 'channels_last')
    return { config: {}, outputShape: [product(shape)], weights: [] }
  },

  Reshape(config, shape, where) {
    const target = reshaped(config.target_shape, product(shape), where('target_shape'))
    return { config: { target_shape: target }, outputShape: target, weights: [] }
  },

  Dropout(config, shape, where) {
    absent(config, where, ['noise_shape'])
    const rate = finite(config.rate, 0, 0.999, where('rate'))
    return { config: { rate }, outputShape: shape, weights: [] }
  },

  Activation(config, shape, where) {
    return {
      config: { activation: activation(config.activation, where('activation')) },
      outputShape: shape,
      weights: [],
    }
  },

  BatchNormalization(config, shape, where) {
    absent(config, where, [
      'beta_constraint',
      'gamma_constraint',
      'beta_regularizer',
      'gamma_regularizer',
    ])
    const axis = Array.isArray(config.axis) ? config.axis[0] : (config.axis ?? -1)
    if (axis !== -1 && axis !== shape.length)
      throw wrong(where('axis'), axis, `-1 or ${shape.length}, the last`)
    const channels = shape.at(-1)
    if (channels === undefined) throw wrong(where('input'), 'no axis', 'at least one axis')
    const center = flag(config.center, true, where('center'))
    const scale = flag(config.scale, true, where('scale'))
    const weight = (name: string, role: TensorRole) => ({ name, shape: [channels], role })
    return {
      config: {
        axis: -1,
        momentum: finite(config.momentum ?? 0.99, 0, 1, where('momentum')),
        epsilon: finite(config.epsilon ?? 1e-3, 1e-12, 1, where('epsilon')),
        center,
        scale,
        beta_initializer: zeros,
        gamma_initializer: zeros,
        moving_mean_initializer: zeros,
        moving_variance_initializer: zeros,
      },
      outputShape: shape,
      weights: [
        ...(scale ? [weight('gamma', 'trainable')] : []),
        ...(center ? [weight('beta', 'trainable')] : []),
        weight('moving_mean', 'mean'),
        weight('moving_variance', 'variance'),
      ],
    }
  },
}

export const layerClasses = Object.keys(layerReaders)

const zeros = { class_name: 'Zeros', config: {} }

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
const keysOf: Record<string, readonly string[]> = {
  InputLayer: ['sparse'],
  Dense: [
    'units',
    'activation',
    'use_bias',
    'kernel_regularizer',
    'bias_regularizer',
    'activity_regularizer',
    'kernel_constraint',
    'bias_constraint',
  ],
  Flatten: ['data_format'],
  Reshape: ['target_shape'],
  Dropout: ['rate', 'noise_shape'],
  Activation: ['activation'],
  BatchNormalization: [
    'axis',
    'momentum',
    'epsilon',
    'center',
    'scale',
    'beta_constraint',
    'gamma_constraint',
    'beta_regularizer',
    'gamma_regularizer',
  ],
}

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
  const reader = Object.hasOwn(layerReaders, className) ? layerReaders[className] : undefined
  if (reader === undefined || typeof entry.class_name !== 'string') {
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
    (key) => !ignoredKeys.has(key) && !keysOf[className]!.includes(key),
  )
  if (strange !== undefined) throw wrong(where(strange), quoted(config[strange]), 'no such setting')
  if (config.trainable === false)
    throw wrong(where('trainable'), 'false', 'true: frozen layers are not supported')
  if ((config.dtype ?? 'float32') !== 'float32')
    throw wrong(where('dtype'), config.dtype, 'float32')
  return {
    className,
    name: readName(config.name, where('name')),
    read: reader(config, shape, where),
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

function activation(name: unknown, where: string): string {
  const known = name ?? 'linear'
  if (typeof known === 'string' && activations.has(known)) return known
  throw wrong(where, quoted(name), `one of ${[...activations].join(', ')}`)
}

function reshaped(target: unknown, size: number, where: string): number[] {
  if (!Array.isArray(target) || target.length === 0 || target.length > MAX_RANK) {
    throw wrong(where, quoted(target), `1 to ${MAX_RANK} axes`)
  }
  const free = target.indexOf(-1)
  const sizes = target.map((length, i) =>
    i === free ? 1 : integer(length, 1, MAX_ACTIVATION, where),
  )
  if (free >= 0) sizes[free] = size / product(sizes)
  if (!sizes.every(Number.isInteger) || product(sizes) !== size)
    throw wrong(where, quoted(target), `${size} values`)
  return sizes
}

function lastActivation(layers: Layer[]): string {
  for (const { config } of layers.toReversed()) {
    if (typeof config.activation === 'string') return config.activation
  }
  return 'linear'
}

function absent(config: Config, where: Where, keys: string[]): void {
  for (const key of keys) {
    if ((config[key] ?? null) !== null) throw wrong(where(key), quoted(config[key]), 'none')
  }
}

function record(value: unknown, where: string): Config {
  if (value instanceof Object && !Array.isArray(value)) return value as Config
  throw wrong(where, quoted(value), 'an object')
}

function integer(value: unknown, least: number, most: number, where: string): number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most)
    return value as number
  throw wrong(where, quoted(value), `a whole number from ${least} to ${most}`)
}

function finite(value: unknown, least: number, most: number, where: string): number {
  if (typeof value === 'number' && value >= least && value <= most) return value
  throw wrong(where, quoted(value), `a number from ${least} to ${most}`)
}

function flag(value: unknown, absent: boolean, where: string): boolean {
  if (value === undefined || value === null) return absent
  if (typeof value === 'boolean') return value
  throw wrong(where, quoted(value), 'true or false')
}

function product(shape: readonly number[]): number {
  return shape.reduce((size, length) => size * length, 1)
}

function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing'
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`
}

function wrong(field: string, came: unknown, expected: string, cause?: unknown): Fault {
  const message = `model.json: ${field} is ${came}, expected ${expected}`
  return new Fault({ kind: 'verification', type: 'wrong-model', message, field }, cause)
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
