import * as tf from '@tensorflow/tfjs-core'
import { nameOf } from '../../engine/layers/relu.ts'
import { finish } from './activations.ts'
import { imageForwards } from './image-layers.ts'
import { sequenceForwards } from './sequence-layers.ts'
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
  ...imageForwards,
  ...sequenceForwards,
  InputLayer: ([x]) => x!,

  Dense([x], layer, { weight }) {
    const product = tf.matMul(
      tf.reshape(x!, [-1, x!.shape.at(-1)!]),
      weight(layer, 'kernel') as tf.Tensor2D,
    )
    const shaped =
      layer.outputShape.length === 1 ? product : tf.reshape(product, [-1, ...layer.outputShape])
    return finish(shaped, weight(layer, 'bias'), layer.config)
  },

  Flatten: ([x], { outputShape }) => tf.reshape(x!, [-1, ...outputShape]),
  Reshape: ([x], { outputShape }) => tf.reshape(x!, [-1, ...outputShape]),
  Activation: ([x], { config }) => finish(x!, undefined, config),
  ReLU: ([x], { config }) => finish(x!, undefined, { activation: nameOf(config) }),

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
    return scaled(tf.div(tf.sub(x!, mean), spread), layer, weight)
  },

  LayerNormalization([x], layer, { weight }) {
    const { mean, variance } = tf.moments(x!, -1, true)
    const spread = tf.sqrt(tf.add(variance, layer.config.epsilon as number))
    return scaled(tf.div(tf.sub(x!, mean), spread), layer, weight)
  },

  Add: (inputs) => tf.addN(inputs),
  Average: (inputs) => tf.div(tf.addN(inputs), inputs.length),
  Multiply: (inputs) => inputs.reduce((product, x) => tf.mul(product, x)),
  Concatenate: (inputs, { config }) => tf.concat(inputs, config.axis as number),
  Permute: ([x], { config }) => tf.transpose(x!, [0, ...(config.dims as number[])]),
}

/** x · gamma + beta, each where the layer has it. */
function scaled(x: tf.Tensor, layer: Layer, weight: Context['weight']): tf.Tensor {
  const [gamma, beta] = [weight(layer, 'gamma'), weight(layer, 'beta')]
  const product = gamma ? tf.mul(x, gamma) : x
  return beta ? tf.add(product, beta) : product
}
