import * as tf from '@tensorflow/tfjs-core'

/**
 * Gradients of sums and means. TensorFlow.js multiplies by ones of the input's size that it makes in JavaScript and copies to
 * the backend in each step, then divides in another pass: here the backend makes them, divided.
 */
export function registerGradients(): void {
  tf.registerGradient(spread(tf.Sum, () => 1))
  tf.registerGradient(spread(tf.Mean, (count) => 1 / count))
}

/** Gives each value its part of the gradient of what it went into; `part` of so many values. */
function spread(kernelName: string, part: (count: number) => number): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: ['x'],
    gradFunc(dy, [x], attrs) {
      const { shape } = x!
      const axes = tf.util.parseAxisParam(attrs.axis as number | number[], shape)
      const kept = shape.map((length, axis) => (axes.includes(axis) ? 1 : length))
      const count = axes.reduce((count, axis) => count * shape[axis]!, 1)
      const parts = () => tf.fill([...shape], part(count))
      return { x: () => tf.mul(tf.reshape(dy as tf.Tensor, kept), parts()) }
    },
  }
}
