import { describe, expect, test } from 'vitest'
import { createOptimizer, type OptimizerRecipe } from '../../protocol/optimizer.ts'
import type { TensorSpec } from '../../protocol/params.ts'
import { normal, randomFrom } from '../../protocol/random.ts'

const tensors: TensorSpec[] = [
  { name: 'kernel', shape: [4, 3], role: 'trainable' },
  { name: 'moving_mean', shape: [3], role: 'mean' },
  { name: 'moving_variance', shape: [3], role: 'variance' },
  { name: 'bias', shape: [5], role: 'trainable' },
]
const trainable = (i: number) => i < 12 || i >= 18
const SIZE = 23
const STEPS = 100
const MU = 0.9

describe.each<OptimizerRecipe>([
  { name: 'sgd', learningRate: 0.1 },
  { name: 'sgd', learningRate: 0.1, weightDecay: 0.01 },
  { name: 'adam', learningRate: 0.01 },
  { name: 'adam', learningRate: 0.01, beta1: 0.8, beta2: 0.99, epsilon: 1e-4, weightDecay: 0.1 },
  { name: 'adamw', learningRate: 0.01 },
  { name: 'adamw', learningRate: 0.01, weightDecay: 0.1 },
])('$name $weightDecay', (recipe) => {
  test('follows its slow Float64 version over 100 steps', () => {
    const random = randomFrom(7)
    const fast = draw(random)
    const slow = Float64Array.from(fast)
    const direction = draw(random).map((value, i) => (trainable(i) ? value : 0))
    const optimizer = createOptimizer(recipe, tensors)
    const oracle = slowly(recipe)
    for (let step = 0; step < STEPS; step++) {
      const gradient = draw(random)
      if (recipe.name === 'sgd') optimizer.step(fast, gradient, direction, MU)
      else optimizer.step(fast, gradient)
      oracle(slow, gradient, direction)
    }
    fast.forEach((value, i) => expect(value).toBeCloseTo(slow[i]!, 4))
  })

  test('leaves BatchNorm statistics and the gradient alone', () => {
    const params = draw(randomFrom(1))
    const gradient = draw(randomFrom(2))
    const before = [params.slice(), gradient.slice()]
    createOptimizer(recipe, tensors).step(params, gradient)
    expect(params.subarray(12, 18)).toEqual(before[0]!.subarray(12, 18))
    expect(gradient).toEqual(before[1])
  })
})

test("adam's first step is the learning rate in size, whatever the gradient's: bias correction", () => {
  for (const size of [1e-3, 1, 1e3]) {
    const params = new Float32Array(SIZE)
    createOptimizer({ name: 'adam', learningRate: 0.01 }, tensors).step(
      params,
      new Float32Array(SIZE).fill(size),
    )
    expect(params[0]).toBeCloseTo(-0.01, 5)
  }
})

function draw(random: () => number): Float32Array {
  return Float32Array.from({ length: SIZE }, () => normal(random))
}

function slowly(recipe: OptimizerRecipe) {
  const { name, learningRate: rate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7 } = recipe
  const decay = recipe.weightDecay ?? (name === 'adamw' ? 0.01 : 0)
  const m = new Float64Array(SIZE)
  const v = new Float64Array(SIZE)
  let t = 0
  return (x: Float64Array, gradient: Float32Array, direction: Float32Array) => {
    t++
    for (let i = 0; i < SIZE; i++) {
      if (!trainable(i)) continue
      if (name === 'sgd') {
        x[i] = x[i]! - rate * (gradient[i]! + MU * direction[i]! + decay * x[i]!)
        continue
      }
      const g = gradient[i]! + (name === 'adam' ? decay * x[i]! : 0)
      if (name === 'adamw') x[i] = x[i]! - rate * decay * x[i]!
      m[i] = beta1 * m[i]! + (1 - beta1) * g
      v[i] = beta2 * v[i]! + (1 - beta2) * g * g
      const mHat = m[i]! / (1 - beta1 ** t)
      const vHat = v[i]! / (1 - beta2 ** t)
      x[i] = x[i]! - (rate * mHat) / (Math.sqrt(vHat) + epsilon)
    }
  }
}
