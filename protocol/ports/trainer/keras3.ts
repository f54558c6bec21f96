/**
 * Keras 3: what its `model.to_json()` writes, turned into the Keras 2 dialect that layer-graph.ts reads.
 *
 *   {module, class_name, config, registered_name, build_config}     class_name and config
 *   {args: [__keras_tensor__ {keras_history}], kwargs}              [[layer, 0, 0, {name: [layer, 0, 0]}]]
 *   batch_shape · DTypePolicy · function · silu                     batch_input_shape · float32 · its name · swish
 *   x + y, x * y                                                    Add, Multiply
 *   forward_layer with its backward_layer                           one layer, which both are
 *   model/layer/lstm_cell/kernel                                    layer/kernel
 *   kernel of a DepthwiseConv2D                                     depthwise_kernel
 *
 * What this does not know stays as it is, and is refused by the reader with its layer's name.
 * Source: Keras 3.15, keras/src/saving/serialization_lib.py and keras/src/models/functional.py.
 */
import type { Config } from '../../engine/layers/rule.ts'
import { quoted, record, wrong } from '../../engine/layers/settings.ts'
import { unknownLayer } from './layer-graph.ts'

/** Whether a model was written by Keras 3, or by a Keras 2 that had its serialisation already. */
export function isKeras3(model: Config): boolean {
  return 'module' in model || 'registered_name' in model
}

/** A model's topology in the Keras 2 dialect; `isKeras2` says that Keras 2 wrote it in the form of Keras 3. */
export function fromKeras3(model: Config, isKeras2: boolean): Config {
  const config = record(model.config, 'config')
  if (!Array.isArray(config.layers)) throw wrong('layers', quoted(config.layers), 'a list')
  const layers = config.layers.map((layer, i) => {
    const at = `layer ${i}`
    return layerOf(record(layer, at), at, isKeras2)
  })
  return { class_name: model.class_name, config: { ...config, layers } }
}

/** `model/layer/lstm_cell/kernel` and `layer/kernel` as `layer/kernel`; a depthwise kernel under its old name. */
export function weightFromKeras3(name: string, model: Config): string {
  const { name: own, layers } = record(model.config, 'config')
  const all = name.split('/').filter((part) => !/^(lstm|gru)_cell(_\d+)?$/.test(part))
  const parts = all[0] === own && all.length > 2 ? all.slice(1) : all
  const [layer, weight] = parts
  const isDepthwise = (layers as Config[]).some(
    ({ class_name, config }) =>
      class_name === 'DepthwiseConv2D' && (config as Config | undefined)?.name === layer,
  )
  if (isDepthwise && weight === 'kernel') return `${layer}/depthwise_kernel`
  return parts.join('/')
}

/** Whose layers have the class names of the table; a class of anybody else may share a name and compute something else. */
const modules = /^(keras|keras_hub|keras_nlp)(\.|$)/
const operators = /^keras\.src\.ops\./
const operatorClasses = ['Add', 'Multiply']

function layerOf(layer: Config, at: string, isKeras2: boolean): Config {
  const { class_name, module, name } = layer
  const isOperator = operators.test(String(module))
  if (module !== undefined && !modules.test(String(module)))
    throw unknownLayer(`${at} is a ${quoted(class_name)} of ${quoted(module)}`, "Keras' own", name)
  if (isOperator && !operatorClasses.includes(String(class_name)))
    throw unknownLayer(
      `${at} is the operator ${quoted(class_name)}`,
      `one of ${operatorClasses.join(', ')}`,
      class_name,
    )
  const { inbound_nodes } = layer
  return {
    class_name,
    config: configOf(record(layer.config, `${at} config`), at, isKeras2),
    ...(name === undefined ? {} : { name }),
    ...(inbound_nodes === undefined ? {} : { inbound_nodes: nodesOf(inbound_nodes, at) }),
  }
}

/** Settings that Keras 3 has and Keras 2 had not, and the values by which they change nothing. */
const newSettings: Record<string, readonly unknown[] | 'any'> = {
  quantization_config: [null],
  lora_rank: [null],
  lora_alpha: [null],
  optional: [false],
  ragged: [false],
  synchronized: [false],
  renorm: [false],
  renorm_clipping: [null],
  renorm_momentum: 'any', // of renorm alone
  use_gate: [false],
  sliding_window: [null],
  zero_output_for_mask: 'any', // there are no masks
}

function configOf(config: Config, at: string, isKeras2: boolean): Config {
  const plain: Config = {}
  for (const [key, value] of Object.entries(config)) {
    const idle = Object.hasOwn(newSettings, key) ? newSettings[key] : undefined
    if (idle === 'any' || idle?.includes(value)) continue
    if (key === 'batch_shape') plain.batch_input_shape = plainOf(value)
    else if (/activation$/.test(key))
      plain[key] = activationOf(plainOf(value), `${at} ${key}`, isKeras2)
    else if (key === 'layer') plain[key] = innerOf(config, at, isKeras2)
    else if (key !== 'backward_layer') plain[key] = plainOf(value)
  }
  return plain
}

function activationOf(name: unknown, where: string, isKeras2: boolean): unknown {
  if (name === 'silu') return 'swish'
  if (name === 'hard_sigmoid' && !isKeras2)
    throw wrong(where, '"hard_sigmoid"', 'sigmoid: in Keras 3 it is another function than here')
  return name
}

/** The layer of a Bidirectional: its name without `forward_`, which the backward one shares. */
function innerOf({ layer, backward_layer }: Config, at: string, isKeras2: boolean): Config {
  const forward = record(layer, `${at} layer`)
  const read = (inner: Config) => configOf(record(inner.config, `${at} layer config`), at, isKeras2)
  const config = read(forward)
  const { name } = config
  if (backward_layer !== undefined) {
    const backward = record(backward_layer, `${at} backward_layer`)
    const same = (settings: Config) =>
      JSON.stringify({ ...settings, name: '', go_backwards: '', seed: '' })
    const isMirrored = read(backward).go_backwards === !config.go_backwards
    if (
      backward.class_name !== forward.class_name ||
      !isMirrored ||
      same(read(backward)) !== same(config)
    )
      throw wrong(`${at} backward_layer`, 'another layer', 'the same one going backwards')
  }
  const bare = typeof name === 'string' ? name.replace(/^forward_/, '') : name
  return { class_name: forward.class_name, config: { ...config, name: bare } }
}

/** Objects that stand for a word or a list as that; others without what Keras 3 writes beside class and config. */
function plainOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plainOf)
  if (!(value instanceof Object)) return value
  const { class_name, config, items } = value as Config
  if (class_name === 'DTypePolicy') return (config as Config | undefined)?.name
  if (class_name === 'function' && typeof config === 'string') return config
  if (class_name === '__tuple__' && Array.isArray(items)) return items.map(plainOf)
  const kept = Object.entries(value).filter(
    ([key]) => !['module', 'registered_name', 'build_config', 'shared_object_id'].includes(key),
  )
  return Object.fromEntries(kept.map(([key, inner]) => [key, plainOf(inner)]))
}

/** Nodes that are lists have the old form already. */
function nodesOf(nodes: unknown, at: string): unknown {
  if (!Array.isArray(nodes)) return nodes
  return nodes.map((node) => (Array.isArray(node) ? node : nodeOf(record(node, at), at)))
}

function nodeOf({ args, kwargs }: Config, at: string): unknown[] {
  if (!Array.isArray(args)) throw wrong(`${at} inbound_nodes args`, quoted(args), 'a list')
  const places = args.flat().map((value) => {
    const place = placeOf(value)
    if (!place) throw wrong(`${at} inbound_nodes args`, quoted(value), 'the outputs of layers')
    return place
  })
  const named: Config = {}
  for (const [key, value] of Object.entries(record(kwargs ?? {}, `${at} inbound_nodes kwargs`))) {
    // Keras 3 writes the default here and overrides it when it trains.
    const isDefault = key === 'training' && value === false
    if (!isDefault) named[key] = placeOf(value) ?? value
  }
  return places.map((place, i) => [...place, i === 0 ? named : {}])
}

/** `[layer, node, tensor]` of a `__keras_tensor__`; undefined for anything else. */
function placeOf(value: unknown): unknown[] | undefined {
  if (!(value instanceof Object) || Array.isArray(value)) return undefined
  const { class_name, config } = value as Config
  const history = config instanceof Object ? (config as Config).keras_history : undefined
  return class_name === '__keras_tensor__' && Array.isArray(history) && history.length === 3
    ? history
    : undefined
}
