/** Gradients that are registered in the place of TensorFlow.js' own: the same numbers. */
import '@tensorflow/tfjs-backend-cpu'
import '@tensorflow/tfjs-layers' // brings the gradients
import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { registerGradients } from '../../../../protocol/ports/trainer/gradients.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { expectNear } from '../../../support/engine.ts'

const SHAPE = [3, 4, 5]
const axes = [undefined, 0, 2, -1, [0, 1], [0, 2], [-1, -2], [0, 1, 2]]

test('sums and means, over any axes, with these kept or not', async () => {
  await tf.setBackend('cpu')
  const before = gradients()
  const own = tf.getGradient('Sum')
  registerGradients()
  expect(tf.getGradient('Sum')).not.toBe(own)
  const after = gradients()
  before.forEach((values, i) => {
    expectNear(`gradient ${i}`, after[i]!, values, 1e-6)
  })
})

/** Of functions whose slope is another at each value. */
function gradients(): Float32Array[] {
  const random = randomFrom(1)
  const x = tf.tensor(
    Float32Array.from({ length: 60 }, () => normal(random)),
    SHAPE,
  )
  return [tf.sum, tf.mean].flatMap((reduce) =>
    axes.flatMap((axis) =>
      [false, true].map((keepDims) => {
        const uneven = (x: tf.Tensor) => tf.pow(reduce(tf.square(x), axis, keepDims), 2)
        return tf
          .grad((x) => tf.sum(uneven(x)))(x)
          .dataSync() as Float32Array
      }),
    ),
  )
}
