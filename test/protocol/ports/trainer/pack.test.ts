/** The kernel pack on TensorFlow.js' wasm backend: every gradient as the cpu backend, which is plain JavaScript, has it. */
import '@tensorflow/tfjs-backend-cpu'
import '@tensorflow/tfjs-layers' // brings the gradients
import { type BackendWasm, setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import * as tf from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { tfjsWasmFolder } from '../../../../node/wasm.ts'
import { registerPack } from '../../../../protocol/ports/trainer/pack.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { binaries, expectNear } from '../../../support/engine.ts'

beforeAll(async () => {
  tf.enableProdMode()
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false)
  setWasmPaths(tfjsWasmFolder())
  await tf.setBackend('wasm')
  await registerPack(tf.backend() as BackendWasm, binaries.plain)
})

const runs = { numRuns: 60, seed: 1 }
const size = (max: number) => fc.integer({ min: 1, max })
const pair = (max: number) => fc.tuple(size(max), size(max))
const windows = {
  batch: size(4),
  input: pair(9),
  window: pair(4),
  strides: pair(3),
  channels: size(10),
  pad: fc.constantFrom('same' as const, 'valid' as const),
}
type Windows = { input: [number, number]; window: [number, number]; pad: 'same' | 'valid' }
const fits = ({ input, window, pad }: Windows) =>
  pad === 'same' || window.every((length, axis) => length <= input[axis]!)

test('matrix products, either side transposed, one or many', async () => {
  const problem = fc.record({
    ...{ rows: size(40), columns: size(40), depth: size(40), count: size(3) },
    ...{ transposeA: fc.boolean(), transposeB: fc.boolean() },
  })
  await fc.assert(
    fc.asyncProperty(problem, async (sizes) => {
      const { rows, columns, depth, count, transposeA, transposeB } = sizes
      const a = [count, ...(transposeA ? [depth, rows] : [rows, depth])]
      const b = [count, ...(transposeB ? [columns, depth] : [depth, columns])]
      await expectSame([a, b], ([a, b]) => tf.matMul(a!, b!, transposeA, transposeB))
    }),
    runs,
  )
})

test('convolutions of any window, stride and padding, and their gradients', async () => {
  const problem = fc.record({ ...windows, filters: size(10) }).filter(fits)
  await fc.assert(
    fc.asyncProperty(problem, async ({ batch, input, window, strides, channels, pad, filters }) => {
      await expectSame(
        [
          [batch, ...input, channels],
          [...window, channels, filters],
        ],
        ([x, w]) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, strides, pad),
      )
    }),
    runs,
  )
})

test('depthwise convolutions of one filter or several a channel, and their gradients', async () => {
  const problem = fc.record({ ...windows, times: size(3) }).filter(fits)
  await fc.assert(
    fc.asyncProperty(problem, async ({ batch, input, window, strides, channels, pad, times }) => {
      await expectSame(
        [
          [batch, ...input, channels],
          [...window, channels, times],
        ],
        ([x, w]) => tf.depthwiseConv2d(x as tf.Tensor4D, w as tf.Tensor4D, strides, pad),
      )
    }),
    runs,
  )
})

test('pooling of any window, stride and padding, and its gradients', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record(windows).filter(fits),
      async ({ batch, input, window, strides, channels, pad }) => {
        await expectSame([[batch, ...input, channels]], ([x]) =>
          tf.maxPool(x as tf.Tensor4D, window, strides, pad),
        )
        if (pad === 'valid')
          await expectSame([[batch, ...input, channels]], ([x]) =>
            tf.avgPool(x as tf.Tensor4D, window, strides, pad),
          )
      },
    ),
    runs,
  )
})

test('the gradient of mean pooling is shared by those values of a window that lie inside', async () => {
  await tf.setBackend('wasm')
  const x = tf.ones([1, 3, 1, 1]) as tf.Tensor4D
  const gradient = tf.grad((x) => tf.avgPool(x as tf.Tensor4D, [3, 1], 1, 'same'))(x)
  const [edge, middle] = [1 / 2 + 1 / 3, 1 / 2 + 1 / 3 + 1 / 2]
  expectNear('gradient', await gradient.data(), [edge, middle, edge], 1e-6)
})

test('rows gathered, some of them often, and the gradient of the table', async () => {
  const problem = fc.record({ entries: size(12), width: size(9), count: size(30), seed: size(99) })
  await fc.assert(
    fc.asyncProperty(problem, async ({ entries, width, count, seed }) => {
      const random = randomFrom(seed)
      const ids = Array.from({ length: count }, () => Math.floor(entries * random()))
      await expectSame([[entries, width]], ([table]) =>
        tf.gather(table!, tf.tensor1d(ids, 'int32')),
      )
    }),
    runs,
  )
})

test('sums and means over any axes, and their gradients', async () => {
  const problem = fc.record({
    shape: fc.array(size(7), { minLength: 1, maxLength: 4 }),
    axes: fc.subarray([0, 1, 2, 3], { minLength: 1 }),
    ...{ keepDims: fc.boolean(), isMean: fc.boolean() },
  })
  await fc.assert(
    fc.asyncProperty(problem, async ({ shape, axes, keepDims, isMean }) => {
      const axis = axes.filter((axis) => axis < shape.length)
      if (axis.length === 0) return
      const reduce = isMean ? tf.mean : tf.sum
      // Squared, so that the gradient of a value is not that of its neighbour.
      await expectSame([shape], ([x]) => reduce(tf.square(x!), axis, keepDims))
    }),
    { numRuns: 120, seed: 1 },
  )
})

test('sums of other numbers than float32 are as the backend has them', async () => {
  await tf.setBackend('wasm')
  const x = tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
  const sum = tf.sum(x, 0)
  expect(sum.dtype).toBe('int32')
  expect([...sum.dataSync()]).toEqual([6, 8, 10, 12])
})

test('a copy shares its values, and each lives on when the other is gone', async () => {
  await tf.setBackend('wasm')
  for (const copied of [(x: tf.Tensor) => tf.clone(x), (x: tf.Tensor) => tf.cast(x, 'float32')]) {
    const before = tf.memory().numTensors
    const x = tf.tensor1d([1, 2, 3])
    const copy = copied(x)
    x.dispose()
    expect([...copy.dataSync()]).toEqual([1, 2, 3])
    copy.dispose()
    expect(tf.memory().numTensors).toBe(before)
  }
})

test('registering again changes nothing, and leaves the cpu backend as it was', async () => {
  await tf.setBackend('wasm')
  const [kernel, cpuKernel] = ['wasm', 'cpu'].map((name) => tf.getKernel('BatchMatMul', name))
  await registerPack(tf.backend() as BackendWasm, binaries.plain)
  expect(tf.getKernel('BatchMatMul', 'wasm')).toBe(kernel)
  expect(tf.getKernel('BatchMatMul', 'cpu')).toBe(cpuKernel)
  expect(kernel).not.toBe(cpuKernel)
})

test('frees all memory that it borrows, and makes no tensors beside its results', async () => {
  await tf.setBackend('wasm')
  const step = () =>
    tf.tidy(() => {
      const x = tf.ones([2, 9, 9, 6]) as tf.Tensor4D
      const [w, d] = [tf.ones([3, 3, 6, 7]), tf.ones([3, 3, 6, 2])] as [tf.Tensor4D, tf.Tensor4D]
      tf.grads((x, w, d) => {
        const y = tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 2, 'same')
        const z = tf.depthwiseConv2d(x as tf.Tensor4D, d as tf.Tensor4D, 1, 'same')
        return tf.add(tf.sum(tf.maxPool(y, 2, 2, 'same')), tf.sum(z))
      })([x, w, d])
    })
  step()
  const { memory } = (tf.backend() as unknown as { wasm: { asm: { memory: WebAssembly.Memory } } })
    .wasm.asm
  const before = { tensors: tf.memory().numTensors, buffers: tf.memory().numDataBuffers }
  const bytes = memory.buffer.byteLength
  for (let i = 0; i < 400; i++) step()
  expect({ tensors: tf.memory().numTensors, buffers: tf.memory().numDataBuffers }).toEqual(before)
  expect(memory.buffer.byteLength).toBe(bytes)
})

/** Values and the gradients of all arguments, weighted by a random output gradient: the same on wasm and on cpu. */
async function expectSame(
  shapes: number[][],
  compute: (args: tf.Tensor[]) => tf.Tensor,
): Promise<void> {
  const random = randomFrom(shapes.flat().reduce((seed, length) => 31 * seed + length, 7) % 2 ** 31)
  const values = shapes.map((shape) =>
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => normal(random)),
  )
  const weightSeed = Math.floor(2 ** 31 * random())
  const [got, wanted] = [await resultsOn('wasm'), await resultsOn('cpu')]
  got.forEach((values, i) => {
    expectNear(i === 0 ? 'values' : `gradient ${i}`, values, wanted[i]!, 1e-5)
  })

  async function resultsOn(backend: string): Promise<Float32Array[]> {
    await tf.setBackend(backend)
    return tf.tidy(() => {
      const args = values.map((x, i) => tf.tensor(x.slice(), shapes[i]!))
      const draw = randomFrom(weightSeed)
      const weights = tf.tidy(() => {
        const y = compute(args)
        return tf.tensor(
          Float32Array.from({ length: y.size }, () => normal(draw)),
          y.shape,
        )
      })
      const sum = (...args: tf.Tensor[]) => tf.sum(tf.mul(compute(args), weights))
      const all = [compute(args), ...tf.grads(sum)(args)]
      return all.map((tensor) => tensor.dataSync().slice() as Float32Array)
    })
  }
}
