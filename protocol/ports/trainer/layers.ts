import * as tf from '@tensorflow/tfjs-core'
import type { Layer } from './topology.ts'

/**
 * What each layer computes, over TensorFlow.js core operations; gradients come from its tape. Only what topology.ts has read
 * and checked arrives here. The numbers are those of tfjs-layers, which a test compares.
 */
export type Forward = (inputs: tf.Tensor[], layer: Layer, context: Context) => tf.Tensor

export interface Context {
  /** The tensor of a layer's weight, by the name topology.ts gives it; undefined when the layer goes without. */
  weight(layer: Layer, name: string): tf.Tensor | undefined
  /** Present while training. */
  training?: {
    /** For dropout: one number per step and layer. */
    seedOf(layer: Layer): number
    /** What BatchNorm saw in this batch: Float32Array[channels] each, borrowed. */
    observe(layer: Layer, mean: tf.Tensor, variance: tf.Tensor): void
  }
}

export const forwards: Record<string, Forward> = {
  InputLayer: ([x]) => x!,

  Dense([x], layer, { weight }) {
    const bias = weight(layer, 'bias')
    const product = tf.matMul(
      tf.reshape(x!, [-1, x!.shape.at(-1)!]),
      weight(layer, 'kernel') as tf.Tensor2D,
    )
    const shaped =
      layer.outputShape.length === 1 ? product : tf.reshape(product, [-1, ...layer.outputShape])
    return activate(bias ? tf.add(shaped, bias) : shaped, layer)
  },

  Flatten: ([x], { outputShape }) => tf.reshape(x!, [-1, ...outputShape]),
  Reshape: ([x], { outputShape }) => tf.reshape(x!, [-1, ...outputShape]),
  Activation: ([x], layer) => activate(x!, layer),

  Dropout([x], layer, { training }) {
    const rate = layer.config.rate as number
    return training && rate > 0 ? tf.dropout(x!, rate, undefined, training.seedOf(layer)) : x!
  },

  BatchNormalization([x], layer, { weight, training }) {
    const axes = x!.shape.slice(0, -1).map((_, axis) => axis)
    const moments = training && tf.moments(x!, axes)
    const mean = moments?.mean ?? weight(layer, 'moving_mean')!
    const variance = moments?.variance ?? weight(layer, 'moving_variance')!
    training?.observe(layer, mean, variance)
    const spread = tf.sqrt(tf.add(variance, layer.config.epsilon as number))
    const gamma = weight(layer, 'gamma')
    const beta = weight(layer, 'beta')
    const normal = tf.div(tf.sub(x!, mean), spread)
    const scaled = gamma ? tf.mul(normal, gamma) : normal
    return beta ? tf.add(scaled, beta) : scaled
  },

  Add: (inputs) => tf.addN(inputs),
  Average: (inputs) => tf.div(tf.addN(inputs), inputs.length),
  Multiply: (inputs) => inputs.reduce((product, x) => tf.mul(product, x)),
  Concatenate: (inputs, { config }) => tf.concat(inputs, config.axis as number),
  Permute: ([x], { config }) => tf.transpose(x!, [0, ...(config.dims as number[])]),
}

/** The activations that topology.ts lets through, as Keras defines them. */
export const activations: Record<string, (x: tf.Tensor) => tf.Tensor> = {
  linear: (x) => x,
  relu: tf.relu,
  relu6: tf.relu6,
  sigmoid: tf.sigmoid,
  tanh: tf.tanh,
  softmax: (x) => tf.softmax(x),
  elu: tf.elu,
  selu: tf.selu,
  softplus: tf.softplus,
  softsign: (x) => tf.div(x, tf.add(tf.abs(x), 1)),
  swish: (x) => tf.mul(x, tf.sigmoid(x)),
  gelu: (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)),
}

function activate(x: tf.Tensor, { config }: Layer): tf.Tensor {
  return activations[config.activation as string]!(x)
}
