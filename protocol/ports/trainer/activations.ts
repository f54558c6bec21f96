import * as tf from '@tensorflow/tfjs-core'
import type { Config } from '../../engine/layers/rule.ts'

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

/** Those of a recurrent cell: Keras 2's hard_sigmoid beside the others. */
export const cellActivations: Record<string, (x: tf.Tensor) => tf.Tensor> = {
  ...activations,
  hard_sigmoid: (x) => tf.clipByValue(tf.add(tf.mul(x, 0.2), 0.5), 0, 1),
}

/** activation(x + bias), as a layer's settings have it. */
export function finish(x: tf.Tensor, bias: tf.Tensor | undefined, config: Config): tf.Tensor {
  return activations[config.activation as string]!(bias ? tf.add(x, bias) : x)
}
