/**
 * The layers of a model, as nodes that say what they read: a Sequential model's one after another, a functional model's as
 * inbound_nodes has them. One input, one output, each layer used once.
 */
import type { Node } from '../../engine/graph.ts'
import type { Config, LayerRule, Where } from '../../engine/layers/rule.ts'
import {
  flag,
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
import type { Weight } from './model-json.ts'

const MAX_LAYERS = 256
const MAX_INPUTS = 64

export { trainedBy } from '../../engine/layers/table.ts'
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

export interface LayerGraph {
  /** Node 0 is the InputLayer; each node comes after what it reads; the last is the output. */
  nodes: Node[]
  /** By `layer/weight`; the nodes' own weights have no index yet. */
  weights: Map<string, Weight>
  /** Names of the layers that have weights and say `trainable: false`. */
  frozen: Set<string>
}

/** A layer as it stands in model.json, with the names of what it reads. */
interface Entry {
  /** Its place in the file. */
  place: number
  name: string
  className: string
  rule: LayerRule
  config: Config
  from: string[]
}

/**
 * Reads the layers of a model's topology (Keras 2 dialect).
 * Throws Fault `wrong-model` with the layer, the setting, what came and what was expected; `unknown-layer` for a class that
 * is not in the table.
 */
export function readLayers(model: Config): LayerGraph {
  const isFunctional = model.class_name === 'Functional' || model.class_name === 'Model'
  if (!isFunctional && model.class_name !== 'Sequential') {
    throw unknownLayer(
      `modelTopology is a ${quoted(model.class_name)}`,
      'a Sequential or Functional model',
      model.class_name,
    )
  }
  const config = Array.isArray(model.config)
    ? { layers: model.config }
    : record(model.config, 'config')
  const { layers } = config
  if (!Array.isArray(layers) || layers.length === 0)
    throw wrong('layers', quoted(layers), 'a list of layers')
  if (layers.length > MAX_LAYERS)
    throw wrong('layers', `${layers.length} layers`, `at most ${MAX_LAYERS}`)
  const entries = layers.map((value, i) => readEntry(record(value, `layer ${i}`), i))
  for (const { name, place } of entries) {
    if (entries.findIndex((other) => other.name === name) < place)
      throw wrong(`layer ${place} name`, name, 'a name of its own')
  }
  return walk(isFunctional ? inOrder(wired(entries, layers), config) : chained(entries))
}

function readEntry(entry: Config, place: number): Entry {
  const { class_name: className } = entry
  const settings = entry.config instanceof Object ? (entry.config as Config) : {}
  const given = settings.name ?? entry.name
  const called = typeof given === 'string' && namePattern.test(given) ? ` ${given}` : ''
  const rule =
    typeof className === 'string' && Object.hasOwn(layerRules, className)
      ? layerRules[className]
      : undefined
  if (rule === undefined) {
    throw unknownLayer(
      `layer ${place}${called} is a ${quoted(className)}`,
      `one of ${layerClasses.join(', ')}`,
      className,
    )
  }
  const config = record(entry.config, `layer ${place} config`)
  const name = readName(given, `layer ${place} (${className}) name`)
  if (entry.name !== undefined && entry.name !== name)
    throw wrong(`layer ${place} name`, quoted(entry.name), `${name}, as in its config`)
  return { place, name, className: className as string, rule, config, from: [] }
}

/** One after another, behind an InputLayer: the first layer says the shape when there is none. */
function chained(entries: Entry[]): Entry[] {
  const [first] = entries
  const all =
    first!.className === 'InputLayer' ? entries : [inputBefore(first!, entries), ...entries]
  return all.map((entry, i) => ({ ...entry, from: i === 0 ? [] : [all[i - 1]!.name] }))
}

function inputBefore({ config }: Entry, entries: Entry[]): Entry {
  const taken = new Set(entries.map(({ name }) => name))
  let name = 'input'
  for (let i = 1; taken.has(name); i++) name = `input_${i}`
  const { batch_input_shape } = config
  return {
    ...{ place: 0, name, className: 'InputLayer', rule: layerRules.InputLayer! },
    ...{ config: { batch_input_shape }, from: [] },
  }
}

/** With what each layer's one inbound node names: inputs in order, then those that have a keyword. */
function wired(entries: Entry[], layers: Config[]): Entry[] {
  return entries.map((entry) => {
    const where = whereOf(entry)
    const nodes = layers[entry.place]!.inbound_nodes ?? []
    if (!Array.isArray(nodes)) throw wrong(where('inbound_nodes'), quoted(nodes), 'a list')
    if (entry.className === 'InputLayer' && nodes.length === 0) return entry
    if (nodes.length !== 1)
      throw wrong(where('inbound_nodes'), `${nodes.length} nodes`, '1: a layer is used once')
    return { ...entry, from: readNode(nodes[0], entry, where) }
  })
}

function readNode(node: unknown, { rule }: Entry, where: Where): string[] {
  if (!Array.isArray(node) || node.length === 0 || node.length > MAX_INPUTS)
    throw wrong(where('inbound_nodes'), quoted(node), `a list of 1 to ${MAX_INPUTS} inputs`)
  const from = node.map((input) => readPlace(input, where('inbound_nodes')))
  const keywords = new Map<string, unknown>()
  for (const input of node as unknown[][]) {
    for (const [key, value] of Object.entries(record(input[3] ?? {}, where('inbound_nodes')))) {
      const isIdle = value === null || (value === false && key !== 'training')
      if (!isIdle) keywords.set(key, value)
    }
  }
  for (const name of Array.isArray(rule.inputs) ? rule.inputs.slice(from.length - 1) : []) {
    if (!keywords.has(name)) break
    from.push(readPlace(keywords.get(name), where(name)))
    keywords.delete(name)
  }
  for (const [key, value] of keywords)
    throw wrong(where(`inbound_nodes ${key}`), quoted(value), 'no such argument')
  return from
}

/** `[layer, 0, 0]`: the one output of a layer that is used once. */
function readPlace(value: unknown, where: string): string {
  const [name, node, tensor] = Array.isArray(value) ? (value as unknown[]) : []
  if (typeof name !== 'string') throw wrong(where, quoted(value), 'a layer such as ["dense", 0, 0]')
  if (node !== 0 || tensor !== 0)
    throw wrong(where, quoted(value), `["${name}", 0, 0]: a layer is used once`)
  return name
}

/** Sorted so that each layer comes after what it reads, in the file's order where that leaves a choice. */
function inOrder(entries: Entry[], { input_layers, output_layers }: Config): Entry[] {
  const input = theOne(input_layers, 'input_layers')
  const output = theOne(output_layers, 'output_layers')
  const byName = new Map(entries.map((entry) => [entry.name, entry]))
  for (const [name, which] of [
    [input, 'input_layers'],
    [output, 'output_layers'],
  ] as const) {
    if (!byName.has(name)) throw wrong(which, quoted(name), 'one of the layers')
  }
  for (const entry of entries) {
    const stranger = entry.from.find((name) => !byName.has(name))
    if (stranger !== undefined)
      throw wrong(whereOf(entry)('inbound_nodes'), quoted(stranger), 'one of the layers')
  }
  for (const entry of entries) {
    const isInput = entry.className === 'InputLayer' && entry.from.length === 0
    if (isInput !== (entry.name === input))
      throw wrong('input_layers', quoted(input_layers), 'the one InputLayer')
    if (entry.name !== output && !entries.some(({ from }) => from.includes(entry.name)))
      throw wrong(whereOf(entry)('output'), 'read by nobody', `a way to ${output}, the output`)
  }
  const placed = new Set<string>()
  const sorted: Entry[] = []
  const isNext = ({ name, from }: Entry) =>
    !placed.has(name) && from.every((other) => placed.has(other))
  for (let next = entries.find(isNext); next; next = entries.find(isNext)) {
    placed.add(next.name)
    sorted.push(next)
  }
  const stuck = entries.find(({ name }) => !placed.has(name))
  if (stuck) throw wrong(whereOf(stuck)('inbound_nodes'), 'a circle', 'layers before it')
  return sorted
}

/** `["dense", 0, 0]`, or a list of one such place. */
function theOne(value: unknown, where: string): string {
  if (!Array.isArray(value)) throw wrong(where, quoted(value), 'one layer')
  if (typeof value[0] === 'string') return readPlace(value, where)
  if (value.length !== 1) throw wrong(where, `${value.length} layers`, '1')
  return readPlace(value[0], where)
}

/** Shapes and settings, from the input on. */
function walk(entries: Entry[]): LayerGraph {
  const nodes: Node[] = []
  const weights = new Map<string, Weight>()
  const frozen = new Set<string>()
  const index = new Map(entries.map(({ name }, i) => [name, i]))
  for (const [i, entry] of entries.entries()) {
    const { name, className, config, rule, from } = entry
    const where = whereOf(entry)
    if (className === 'InputLayer' && i > 0)
      throw wrong(`layer ${entry.place}`, 'InputLayer', 'it first only')
    checkConfig(entry, where)
    const inputs = from.map((other) => index.get(other)!)
    const inputShapes =
      i === 0
        ? [readInputShape(config, `layer ${entry.place} batch_input_shape`)]
        : inputs.map((input) => nodes[input]!.outputShape)
    checkInputs(rule, inputShapes, where)
    const read = rule.read(config, inputShapes, where)
    if (product(read.outputShape) > MAX_ACTIVATION)
      throw wrong(where('output'), `[${read.outputShape}]`, `at most ${MAX_ACTIVATION} values`)
    for (const { name: weight, shape, role } of read.weights)
      weights.set(`${name}/${weight}`, { shape, role })
    if (!flag(config.trainable, true, where('trainable')) && read.weights.length > 0)
      frozen.add(name)
    nodes.push({
      ...{ className, name, config: read.config, inputs, inputShapes },
      outputShape: read.outputShape,
      weights: Object.fromEntries(read.weights.map(({ name }) => [name, -1])),
    })
  }
  return { nodes, weights, frozen }
}

function checkConfig({ config, rule }: Entry, where: Where): void {
  const strange = Object.keys(config).find(
    (key) => !ignoredKeys.has(key) && !rule.settings.includes(key),
  )
  if (strange !== undefined) throw wrong(where(strange), quoted(config[strange]), 'no such setting')
  if ((config.dtype ?? 'float32') !== 'float32')
    throw wrong(where('dtype'), quoted(config.dtype), 'float32')
}

function checkInputs({ inputs }: LayerRule, shapes: readonly unknown[], where: Where): void {
  const [least, most] =
    inputs === 'several' ? [2, MAX_INPUTS] : inputs ? [2, 1 + inputs.length] : [1, 1]
  if (shapes.length < least || shapes.length > most)
    throw wrong(where('inputs'), shapes.length, least === most ? `${least}` : `${least} to ${most}`)
}

function readInputShape(config: Config, where: string): number[] {
  const shape = config.batch_input_shape
  if (!Array.isArray(shape)) throw wrong(where, quoted(shape), 'a list such as [null, 28, 28, 1]')
  const [batch, ...rest] = shape as unknown[]
  if (batch !== null) throw wrong(where, quoted(shape), 'null first: any number of examples')
  if (rest.length === 0 || rest.length > MAX_RANK)
    throw wrong(where, quoted(shape), `1 to ${MAX_RANK} axes after the batch`)
  const sizes = rest.map((size) => integer(size, 1, MAX_ACTIVATION, where))
  if (product(sizes) > MAX_ACTIVATION)
    throw wrong(where, quoted(shape), `at most ${MAX_ACTIVATION} values`)
  return sizes
}

const namePattern = /^[A-Za-z0-9_.-]{1,100}$/

function readName(name: unknown, where: string): string {
  if (typeof name === 'string' && namePattern.test(name)) return name
  throw wrong(where, quoted(name), 'letters, digits, _ . -, at most 100')
}

function whereOf({ place, name, className }: Entry): Where {
  return (key) => `layer ${place} ${name} (${className}) ${key}`
}

export function unknownLayer(came: string, expected: string, layer: unknown): Fault {
  return new Fault({
    kind: 'verification',
    type: 'unknown-layer',
    message: `model.json: ${came}, expected ${expected}`,
    hint: 'only these layers are trained by this version of mlstore',
    layer: String(layer),
  })
}
