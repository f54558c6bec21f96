import * as tf from '@tensorflow/tfjs-core'
import type { RecurrentConfig } from '../../engine/layers/recurrent.ts'
import { cellActivations } from './activations.ts'
import type { Context, Forward } from './layers.ts'
import type { Layer } from './topology.ts'

/** Layers over sequences [batch, steps, width]: embeddings, recurrent cells, attention. */
export const sequenceForwards: Record<string, Forward> = {
  /** An index outside the table counts as its nearest end, as in the engine. */
  Embedding([x], layer, { weight }) {
    const last = (layer.config.input_dim as number) - 1
    return tf.gather(weight(layer, 'embeddings')!, tf.cast(tf.clipByValue(x!, 0, last), 'int32'))
  },

  PositionEmbedding([x], layer, { weight }) {
    const rows = tf.slice(weight(layer, 'embeddings')!, [0, 0], [x!.shape[1]!, x!.shape[2]!])
    return tf.add(tf.zerosLike(x!), rows)
  },

  LSTM: recurrent('LSTM'),
  GRU: recurrent('GRU'),

  Bidirectional([x], layer, { weight, training }) {
    const { merge_mode: mode, layer: inner } = layer.config as unknown as BidirectionalConfig
    const [forth, back] = ['forward', 'backward'].map((direction, i) => {
      const prefix = `${direction}_${inner.config.name}/`
      const config = { ...inner.config, go_backwards: i === 1 }
      const seen = dropped(x!, config, training && training.seedOf(layer) + i)
      const outputs = run(inner.class_name, seen, config, (name) => weight(layer, prefix + name))
      return i === 1 && config.return_sequences ? tf.reverse(outputs, 1) : outputs
    }) as [tf.Tensor, tf.Tensor]
    return merges[mode](forth, back)
  },

  MultiHeadAttention([query, value, key = value], layer, { weight }) {
    const { num_heads: heads, key_dim: size } = layer.config as Record<string, number>
    const [q, k, v] = [
      headsOf(query!, 'query', layer, { weight }),
      headsOf(key!, 'key', layer, { weight }),
      headsOf(value!, 'value', layer, { weight }),
    ] as [tf.Tensor, tf.Tensor, tf.Tensor]
    const scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(size!))
    const mixed = tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3])
    const [batch, steps, , depth] = mixed.shape as [number, number, number, number]
    const kernel = weight(layer, 'attention_output/kernel')!
    const width = kernel.shape[2]!
    const rows = tf.reshape(mixed, [batch * steps, heads! * depth])
    const product = tf.matMul(rows, tf.reshape(kernel, [heads! * depth, width]))
    const bias = weight(layer, 'attention_output/bias')
    return tf.reshape(bias ? tf.add(product, bias) : product, [batch, steps, width])
  },
}

interface BidirectionalConfig {
  merge_mode: keyof typeof merges
  layer: { class_name: CellName; config: RecurrentConfig & { name: string } }
}

const merges = {
  concat: (a: tf.Tensor, b: tf.Tensor) => tf.concat([a, b], -1),
  sum: (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.add(a, b),
  ave: (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.mul(tf.add(a, b), 0.5),
  mul: (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.mul(a, b),
}

type CellName = keyof typeof cells

function recurrent(cell: CellName): Forward {
  return ([x], layer, { weight, training }) => {
    const config = layer.config as RecurrentConfig
    const seen = dropped(x!, config, training?.seedOf(layer))
    return run(cell, seen, config, (name) => weight(layer, name))
  }
}

/** The input while training: an example loses the same values at all steps. */
function dropped(x: tf.Tensor, { dropout = 0 }: RecurrentConfig, seed?: number): tf.Tensor {
  if (seed === undefined || dropout === 0) return x
  const [batch, , width] = x.shape as [number, number, number]
  return tf.dropout(x, dropout, [batch, 1, width], seed)
}

interface Step {
  /** The step's inputs · kernel + bias. */
  z: tf.Tensor
  /** The output first. */
  states: tf.Tensor[]
  recurrent: tf.Tensor
  /** Of states · recurrent, in a GRU that resets after that product. */
  bias: tf.Tensor | undefined
  resetAfter: boolean
  units: number
  activate(x: tf.Tensor): tf.Tensor
  gate(x: tf.Tensor): tf.Tensor
}

/** One step of a cell: its next states, the output first. Gates stand in the order of tfjs-layers. */
const cells = {
  LSTM({ z, states: [h, c], recurrent, activate, gate }: Step): tf.Tensor[] {
    const sums = tf.add(z, tf.matMul(h!, recurrent))
    const [i, f, g, o] = tf.split(sums, 4, 1) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
    const next = tf.add(tf.mul(gate(f), c!), tf.mul(gate(i), activate(g)))
    return [tf.mul(gate(o), activate(next)), next]
  },

  GRU(step: Step): tf.Tensor[] {
    return step.resetAfter ? resetAfter(step) : resetBefore(step)
  },
}

function resetBefore({ z, states: [h], recurrent, units, activate, gate }: Step): tf.Tensor[] {
  const [zGates, zNext] = tf.split(z, [2 * units, units], 1) as [tf.Tensor, tf.Tensor]
  const [gates, candidate] = tf.split(recurrent, [2 * units, units], 1) as [tf.Tensor, tf.Tensor]
  const sums = gate(tf.add(zGates, tf.matMul(h!, gates)))
  const [keep, reset] = tf.split(sums, 2, 1) as [tf.Tensor, tf.Tensor]
  const next = activate(tf.add(zNext, tf.matMul(tf.mul(reset, h!), candidate)))
  return [tf.add(tf.mul(keep, tf.sub(h!, next)), next)]
}

function resetAfter({ z, states: [h], recurrent, bias, units, activate, gate }: Step): tf.Tensor[] {
  const sizes = [2 * units, units]
  const product = tf.matMul(h!, recurrent)
  const [gates, inner] = tf.split(bias ? tf.add(product, bias) : product, sizes, 1) as Pair
  const [zGates, zNext] = tf.split(z, sizes, 1) as Pair
  const [keep, reset] = tf.split(gate(tf.add(zGates, gates)), 2, 1) as Pair
  const next = activate(tf.add(zNext, tf.mul(reset, inner)))
  return [tf.add(tf.mul(keep, tf.sub(h!, next)), next)]
}

type Pair = [tf.Tensor, tf.Tensor]

/** The outputs in the order in which they came about, or the last one alone. */
function run(
  cell: CellName,
  x: tf.Tensor,
  config: RecurrentConfig,
  weight: (name: string) => tf.Tensor | undefined,
): tf.Tensor {
  const { units } = config
  const [batch, steps, width] = x.shape as [number, number, number]
  const product = tf.matMul(tf.reshape(x, [batch * steps, width]), weight('kernel')!)
  const resetAfter = config.reset_after ?? false
  const biases = weight('bias')
  const [bias, inner] = resetAfter && biases ? tf.unstack(biases) : [biases]
  const z = tf.reshape(bias ? tf.add(product, bias) : product, [batch, steps, -1])
  const inputs = tf.unstack(z, 1)
  const nothing = tf.zeros([batch, units])
  const recurrent = weight('recurrent_kernel')!
  const activate = cellActivations[config.activation]!
  const gate = cellActivations[config.recurrent_activation]!
  let states: tf.Tensor[] = [nothing, nothing]
  const outputs = (config.go_backwards ? inputs.toReversed() : inputs).map((z) => {
    const now = { z, states, recurrent, bias: inner, resetAfter, units, activate, gate }
    states = cells[cell](now)
    return states[0]!
  })
  return config.return_sequences ? tf.stack(outputs, 1) : outputs.at(-1)!
}

/** x projected for all heads: [batch, heads, steps, size]. */
function headsOf(
  x: tf.Tensor,
  name: string,
  layer: Layer,
  { weight }: Pick<Context, 'weight'>,
): tf.Tensor {
  const kernel = weight(layer, `${name}/kernel`)!
  const [width, heads, size] = kernel.shape as [number, number, number]
  const [batch, steps] = x.shape as [number, number]
  const rows = tf.reshape(x, [batch * steps, width])
  const product = tf.matMul(rows, tf.reshape(kernel, [width, heads * size]))
  const bias = weight(layer, `${name}/bias`)
  const projected = bias ? tf.add(product, tf.reshape(bias, [heads * size])) : product
  return tf.transpose(tf.reshape(projected, [batch, steps, heads, size]), [0, 2, 1, 3])
}
