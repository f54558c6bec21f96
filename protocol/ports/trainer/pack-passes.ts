/**
 * Passes of the kernel pack that read memory more than they compute. TensorFlow.js' wasm backend turns a tensor round before it
 * sums over any axes but the last ones, and copies where another tensor over the same values would do.
 */
import * as tf from '@tensorflow/tfjs-core'
import { FLOAT_BYTES } from '../../engine/planner.ts'
import type { Call, PackKernel } from './heap.ts'

interface Reduction {
  axis: number | number[]
  keepDims?: boolean
}

export const passes: Record<string, PackKernel> = {
  /** As the gradient of a bias sums. */
  Sum: (call: Call<Reduction>) => sumOf(call) ?? call.stock('Sum', call.inputs, call.attrs),

  /** As BatchNorm and global pooling ask for it. */
  Mean(call: Call<Reduction>) {
    const { heap, inputs, attrs, stock } = call
    const sum = sumOf(call)
    if (!sum) return stock('Mean', inputs, attrs)
    const [count, size] = [sizeOf(sum.shape), sizeOf(inputs.x!.shape)]
    heap.run('scale', heap.at(sum), heap.at(sum), count, count / size)
    return sum
  },

  Identity({ heap, inputs, attrs, stock }: Call<object>) {
    const x = inputs.x!
    return x.dtype === 'string' ? stock('Identity', inputs, attrs) : heap.share(x)
  },

  Cast({ heap, inputs, attrs, stock }: Call<{ dtype: tf.DataType }>) {
    const x = inputs.x!
    return x.dtype === attrs.dtype ? heap.share(x) : stock('Cast', inputs, attrs)
  },
}

/** Rows shorter than this are summed no faster by the engine's kernel. */
const MIN_COLUMNS = 4

/** The sum of rows that lie side by side; undefined for other axes and numbers. */
function sumOf({ heap, inputs, attrs }: Call<Reduction>): tf.TensorInfo | undefined {
  const { shape, dtype } = inputs.x!
  const axes = tf.util.parseAxisParam(attrs.axis, shape).sort((a, b) => a - b)
  const [first, end] = [axes[0] ?? 0, (axes.at(-1) ?? 0) + 1]
  const count = sizeOf(shape.slice(0, first))
  const rows = sizeOf(shape.slice(first, end))
  const columns = sizeOf(shape.slice(end))
  const isBlock = end - first === axes.length
  if (!isBlock || dtype !== 'float32' || columns < MIN_COLUMNS) return undefined
  const kept = axes.flatMap(() => (attrs.keepDims ? [1] : []))
  const output = heap.output([...shape.slice(0, first), ...kept, ...shape.slice(end)])
  const [from, to] = [heap.at(inputs.x!), heap.at(output)]
  for (let i = 0; i < count; i++) {
    const row = i * columns * FLOAT_BYTES
    heap.run('sumRows', from + rows * row, to + row, rows, columns)
  }
  return output
}

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
