/**
 * The kernel pack: what TensorFlow.js' wasm backend lacks for training, by the engine's kernels on its own memory.
 *
 * It has no filter gradient of a convolution, no gradient at all of a depthwise one, and none of a gather; it multiplies a
 * transposed matrix, as every dense gradient does, at a twentieth of its speed; with padding `same` it convolves wrongly
 * where a window is shorter than its stride; and it copies more than it computes (pack-passes.ts).
 */
import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm'
import * as tf from '@tensorflow/tfjs-core'
import { gemmScratch } from '../../engine/multiply.ts'
import { type Address, FLOAT_BYTES } from '../../engine/planner.ts'
import { invariant } from '../../errors.ts'
import { type Call, type Heap, openHeap, type PackKernel } from './heap.ts'
import { passes } from './pack-passes.ts'

const heaps = new WeakMap<object, Heap>()
let isRegistered = false

/**
 * Registers the pack for the wasm backend, which is running. `binary` is one of the engine's. Once done for a backend,
 * nothing is done again; other backends keep their kernels.
 */
export async function registerPack(backend: BackendWasm, binary: BufferSource): Promise<void> {
  if (heaps.has(backend)) return
  heaps.set(backend, await openHeap(backend, binary))
  if (isRegistered) return
  isRegistered = true
  const replaced = new Map<string, tf.KernelConfig>()
  for (const [kernelName, kernel] of Object.entries(pack)) {
    const stock = tf.getKernel(kernelName, 'wasm')
    if (stock) {
      replaced.set(kernelName, stock)
      tf.unregisterKernel(kernelName, 'wasm')
    }
    tf.registerKernel({
      ...{ ...stock, kernelName, backendName: 'wasm' },
      kernelFunc({ inputs, backend, attrs }) {
        const heap = heaps.get(backend as BackendWasm)
        invariant(heap, 'the pack was registered for another backend')
        return kernel({
          ...{ heap, attrs: attrs as never },
          inputs: inputs as Record<string, tf.TensorInfo>,
          stock(name, inputs, attrs) {
            const { kernelFunc } = replaced.get(name) ?? tf.getKernel(name, 'wasm')
            const call = { inputs, backend, attrs: attrs as tf.NamedAttrMap }
            return kernelFunc(call) as tf.TensorInfo
          },
          dispose: ({ dataId }) => (backend as BackendWasm).disposeData(dataId),
        })
      },
    })
  }
}

const pack: Record<string, PackKernel> = {
  ...passes,

  /** a[..., m, k] · b[..., k, n], either of them perhaps transposed; leading axes repeat where they are fewer. */
  BatchMatMul({ heap, inputs, attrs }: Call<{ transposeA: boolean; transposeB: boolean }>) {
    const { a, b } = inputs as { a: tf.TensorInfo; b: tf.TensorInfo }
    const [left, right] = [matrixOf(a, attrs.transposeA), matrixOf(b, attrs.transposeB)]
    const [rows, columns, depth] = [left.rows, right.columns, left.columns]
    const outer = tf.broadcast_util.assertAndGetBroadcastShape(
      a.shape.slice(0, -2),
      b.shape.slice(0, -2),
    )
    const output = heap.output([...outer, rows, columns])
    const [from, by, to] = [a, b, output].map(heap.at) as [Address, Address, Address]
    heap.borrow(gemmScratch({ depth, columns }), (scratch) => {
      for (let i = 0; i < Math.max(left.count, right.count); i++) {
        heap.run(
          'gemm',
          ...[rows, columns, depth],
          ...[from + (i % left.count) * left.bytes, left.row, left.column],
          ...[by + (i % right.count) * right.bytes, right.row, right.column],
          ...[to + i * rows * columns * FLOAT_BYTES, columns, 0],
          ...[0, 0, scratch],
        )
      }
    })
    return output
  },

  Conv2D({ heap, inputs, attrs, stock }: Call<Window & { dilations: Pair | number }>) {
    const { x, filter: kernel } = inputs as { x: tf.TensorInfo; filter: tf.TensorInfo }
    if ([attrs.dilations].flat().some((length) => length > 1)) return stock('Conv2D', inputs, attrs)
    const sizes = sizesOf(x.shape, kernel.shape, attrs)
    const { images, filter, strides, out, channels } = sizes
    const filters = kernel.shape[3]!
    const output = heap.output([images, ...out, filters])
    const result = imagesAt(heap.at(output), out, filters)
    const taps = filter[0] * filter[1] * channels
    const panels = panelFloats(filters, taps)
    heap.borrow(panels + CONVOLVE_TABLE, (at) => {
      heap.run('packKernel', heap.at(kernel), 0, at, taps, filters)
      withBorder(heap, sizes, heap.at(x), (input) =>
        heap.run(
          'convolve',
          ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
          ...[filter[0], input.row, 1, input.pixel, filter[1] * channels],
          ...[at, LEAST],
          ...[result.at, result.image, result.row, result.pixel],
          ...[filters, images, ...out, at + panels * FLOAT_BYTES],
        ),
      )
    })
    return output
  },

  Conv2DBackpropFilter({
    heap,
    inputs,
    attrs,
  }: Call<Window & { filterShape: tf.Tensor4D['shape'] }>) {
    const { x, dy } = inputs as { x: tf.TensorInfo; dy: tf.TensorInfo }
    const sizes = sizesOf(x.shape, attrs.filterShape, attrs)
    const { images, filter, strides, out, channels } = sizes
    const filters = dy.shape[3]!
    const output = heap.output(attrs.filterShape)
    const gradient = imagesAt(heap.at(dy), out, filters)
    withBorder(heap, sizes, heap.at(x), (input) =>
      heap.run(
        'filterGradient',
        ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
        ...[filter[0], input.row, 1, input.pixel, filter[1] * channels],
        ...[gradient.at, gradient.image, gradient.row, gradient.pixel],
        ...[filters, images, ...out, heap.at(output)],
      ),
    )
    return output
  },

  /** A convolution of the gradient, with zeros around and between its values, by the kernel turned round. */
  Conv2DBackpropInput({
    heap,
    inputs,
    attrs,
  }: Call<Window & { inputShape: tf.Tensor4D['shape'] }>) {
    const { dy, filter: kernel } = inputs as { dy: tf.TensorInfo; filter: tf.TensorInfo }
    const sizes = sizesOf(attrs.inputShape, kernel.shape, attrs)
    const { images, input, filter, channels } = sizes
    const filters = dy.shape[3]!
    const output = heap.output(attrs.inputShape)
    const result = imagesAt(heap.at(output), input, channels)
    const taps = filter[0] * filter[1] * filters
    const panels = panelFloats(channels, taps)
    heap.borrow(panels + CONVOLVE_TABLE, (at) => {
      heap.run(
        'packTurned',
        ...[heap.at(kernel), at, filter[1], channels, filters],
        ...[0, 1, filter[0], 0, 1, filter[1]],
      )
      withSpread(heap, sizes, heap.at(dy), filters, (gradient) =>
        heap.run(
          'convolve',
          ...[gradient.at, gradient.image, gradient.row, gradient.pixel],
          ...[filter[0], gradient.row, 1, gradient.pixel, filter[1] * filters],
          ...[at, LEAST],
          ...[result.at, result.image, result.row, result.pixel],
          ...[channels, images, ...input, at + panels * FLOAT_BYTES],
        ),
      )
    })
    return output
  },

  DepthwiseConv2dNative({ heap, inputs, attrs }: Call<Window>) {
    const { x, filter: kernel } = inputs as { x: tf.TensorInfo; filter: tf.TensorInfo }
    const sizes = sizesOf(x.shape, kernel.shape, attrs)
    const { images, filter, strides, out } = sizes
    const filters = sizes.channels * kernel.shape[3]!
    const output = heap.output([images, ...out, filters])
    const result = imagesAt(heap.at(output), out, filters)
    withBorder(heap, { ...sizes, filters }, heap.at(x), (input) =>
      heap.run(
        'depthwise',
        ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
        ...[filter[0], input.row, filter[1], input.pixel],
        ...[heap.at(kernel), 0, LEAST],
        ...[result.at, result.image, result.row, result.pixel],
        ...[filters, images, ...out],
      ),
    )
    return output
  },

  DepthwiseConv2dNativeBackpropFilter({
    heap,
    inputs,
    attrs,
  }: Call<Window & { filterShape: tf.Tensor4D['shape'] }>) {
    const { x, dy } = inputs as { x: tf.TensorInfo; dy: tf.TensorInfo }
    const sizes = sizesOf(x.shape, attrs.filterShape, attrs)
    const { images, filter, strides, out } = sizes
    const filters = dy.shape[3]!
    const output = heap.output(attrs.filterShape)
    const gradient = imagesAt(heap.at(dy), out, filters)
    withBorder(heap, { ...sizes, filters }, heap.at(x), (input) =>
      heap.run(
        'depthwiseFilterGradient',
        ...[input.at, input.image, strides[0] * input.row, strides[1] * input.pixel],
        ...[filter[0], input.row, filter[1], input.pixel],
        ...[gradient.at, gradient.image, gradient.row, gradient.pixel],
        ...[filters, images, ...out, heap.at(output)],
      ),
    )
    return output
  },

  DepthwiseConv2dNativeBackpropInput({
    heap,
    inputs,
    attrs,
  }: Call<Window & { inputShape: tf.Tensor4D['shape'] }>) {
    const { dy, filter: kernel } = inputs as { dy: tf.TensorInfo; filter: tf.TensorInfo }
    const sizes = sizesOf(attrs.inputShape, kernel.shape, attrs)
    const { images, input, filter, channels } = sizes
    const filters = dy.shape[3]!
    const times = filters / channels
    const output = heap.output(attrs.inputShape)
    const taps = filter[0] * filter[1] * filters
    const pixels = images * input[0] * input[1]
    heap.borrow(taps + (times > 1 ? pixels * filters : 0), (turned) => {
      const repeated = times > 1 ? turned + taps * FLOAT_BYTES : heap.at(output)
      const result = imagesAt(repeated, input, filters)
      heap.run(
        'turnDepthwise',
        ...[heap.at(kernel), turned, filter[1], filters],
        ...[0, 1, filter[0], 0, 1, filter[1]],
      )
      withSpread(heap, sizes, heap.at(dy), filters, (gradient) =>
        heap.run(
          'depthwise',
          ...[gradient.at, gradient.image, gradient.row, gradient.pixel],
          ...[filter[0], gradient.row, filter[1], gradient.pixel],
          ...[turned, 0, LEAST],
          ...[result.at, result.image, result.row, result.pixel],
          ...[filters, images, ...input],
        ),
      )
      if (times > 1) heap.run('foldRepeats', repeated, heap.at(output), pixels * channels, times)
    })
    return output
  },

  /** The gradient of gather: rows of x[n, ...] added to those of a table that the ids name. */
  UnsortedSegmentSum({ heap, inputs, attrs, stock, dispose }: Call<{ numSegments: number }>) {
    const { x, segmentIds } = inputs as { x: tf.TensorInfo; segmentIds: tf.TensorInfo }
    const [count, ...rest] = x.shape as [number, ...number[]]
    const width = rest.reduce((a, b) => a * b, 1)
    const ids = stock('Cast', { x: segmentIds }, { dtype: 'float32' })
    const output = heap.output([attrs.numSegments, ...rest])
    const [from, to] = [heap.at(x), heap.at(output)]
    heap.borrow(attrs.numSegments + count + width, (scratch) =>
      heap.run('scatter', heap.at(ids), from, to, count, attrs.numSegments, width, scratch),
    )
    dispose(ids)
    return output
  },

  MaxPoolGrad({ heap, inputs, attrs }: Call<Window & { filterSize: Pair | number }>) {
    const { dy, input: x, output: y } = inputs as Record<string, tf.TensorInfo>
    const { pooled, out, images } = pooledOf(x!.shape, attrs)
    const output = heap.output(x!.shape)
    const [from, after, gradient, to] = [x, y, dy, output].map((each) => heap.at(each!)) as [
      ...[Address, Address, Address, Address],
    ]
    heap.run('maxPoolGradient', from, ...pooled, after, gradient, ...out, images, to)
    return output
  },

  /** The backend's own divides by the whole window, also where a part of it lies over the edge. */
  AvgPoolGrad({ heap, inputs, attrs }: Call<Window & { filterSize: Pair | number }>) {
    const { dy, input: x } = inputs as { dy: tf.TensorInfo; input: tf.TensorInfo }
    const { pooled, out, images } = pooledOf(x.shape, attrs)
    const output = heap.output(x.shape)
    heap.run('meanPoolGradient', heap.at(dy), ...pooled, ...out, images, heap.at(output))
    return output
  },
}

/** Floats of filters packed in panels; those in which `convolve` keeps addresses; an output that nothing is cut from. */
const panelFloats = (filters: number, taps: number) => Math.ceil(filters / 8) * 8 * (1 + taps)
const CONVOLVE_TABLE = 480
const LEAST = -3.4028234663852886e38

type Pair = readonly [number, number]
const both = (of: (axis: 0 | 1) => number): Pair => [of(0), of(1)]

/** What operations with windows say, in TensorFlow.js' words. Dilation has no gradient there: layers.ts does without. */
interface Window {
  strides: number | [number, number]
  pad: 'valid' | 'same' | number
  dimRoundingMode?: 'floor' | 'round' | 'ceil'
}

interface Sizes {
  images: number
  /** Of the input; of the window; of the output. */
  input: Pair
  filter: Pair
  out: Pair
  channels: number
  strides: Pair
  /** Zeros above and to the left of the input. */
  before: Pair
}

function sizesOf(input: readonly number[], filter: readonly number[], window: Window): Sizes {
  const { strides, pad, dimRoundingMode } = window
  const info = tf.backend_util.computeConv2DInfo(
    input as tf.Tensor4D['shape'],
    filter as tf.Tensor4D['shape'],
    strides,
    1,
    pad,
    dimRoundingMode,
    true,
  )
  return {
    images: info.batchSize,
    input: [info.inHeight, info.inWidth],
    filter: [info.filterHeight, info.filterWidth],
    out: [info.outHeight, info.outWidth],
    channels: info.inChannels,
    strides: [info.strideHeight, info.strideWidth],
    before: [info.padInfo.top, info.padInfo.left],
  }
}

/** As the pooling kernels take it: height, width, channels, window, strides, zeros before. */
function pooledOf(input: readonly number[], attrs: Window & { filterSize: Pair | number }) {
  const { filterSize } = attrs
  const filter = typeof filterSize === 'number' ? ([filterSize, filterSize] as const) : filterSize
  const { images, strides, before, out } = sizesOf(input, [...filter, input[3]!, 1], attrs)
  return { pooled: [...input.slice(1), ...filter, ...strides, ...before], out, images }
}

/** Images whose rows and pixels lie so many bytes apart. */
interface Images {
  at: Address
  image: number
  row: number
  pixel: number
}

function imagesAt(at: Address, [height, width]: Pair, channels: number): Images {
  const pixel = channels * FLOAT_BYTES
  return { at, image: height * width * pixel, row: width * pixel, pixel }
}

/**
 * The input with zeros around it, as far as windows reach over its edges. `filters` of a depthwise convolution may be a
 * multiple of the channels: then each channel is there as often as filters meet it.
 */
function withBorder(
  heap: Heap,
  { images, input, filter, strides, out, before, channels, ...sizes }: Sizes & { filters?: number },
  at: Address,
  work: (input: Images) => void,
): void {
  const { filters = channels } = sizes
  const reach = both((axis) => (out[axis] - 1) * strides[axis] + filter[axis])
  const isInside = ([0, 1] as const).every(
    (axis) => before[axis] === 0 && reach[axis] <= input[axis],
  )
  const own = imagesAt(at, input, channels)
  if (isInside && filters === channels) return work(own)
  const padded = both((axis) => Math.max(reach[axis], before[axis] + input[axis]))
  const size = images * padded[0] * padded[1] * filters
  heap.borrow(size, (borrowed) => {
    const bordered = imagesAt(borrowed, padded, filters)
    const first = shifted(bordered, before)
    heap.run('clear', borrowed, size)
    heap.run(
      'repeatRows',
      ...[own.at, first.at, first.image, first.row],
      ...[images, input[0], input[1] * channels, filters / channels],
    )
    work(bordered)
  })
}

/** The output's gradient with zeros around it and strides between its values: windows of stride 1 slide over it. */
function withSpread(
  heap: Heap,
  { images, input, filter, strides, out, before }: Sizes,
  at: Address,
  channels: number,
  work: (gradient: Images) => void,
): void {
  const own = imagesAt(at, out, channels)
  if (filter[0] * filter[1] * strides[0] * strides[1] === 1 && before[0] + before[1] === 0)
    return work(own)
  const first = both((axis) => filter[axis] - 1)
  const padded = both((axis) => {
    const last = (out[axis] - 1) * strides[axis]
    return first[axis] + Math.max(input[axis] + before[axis], last + 1)
  })
  const size = images * padded[0] * padded[1] * channels
  heap.borrow(size, (borrowed) => {
    const spread = imagesAt(borrowed, padded, channels)
    const to = shifted(spread, first)
    heap.run('clear', borrowed, size)
    for (let i = 0; i < images; i++) {
      heap.run(
        'copyRows',
        ...[own.at + i * own.image, own.pixel, own.row],
        ...[to.at + i * to.image, strides[1] * to.pixel, strides[0] * to.row],
        ...[out[1], out[0], channels, 0],
      )
    }
    work(shifted(spread, before))
  })
}

function shifted(images: Images, [down, across]: Pair): Images {
  return { ...images, at: images.at + down * images.row + across * images.pixel }
}

/** How the matrices of a tensor lie: strides in floats, and bytes from one to the next. */
function matrixOf({ shape }: tf.TensorInfo, isTransposed: boolean) {
  const [height, width] = shape.slice(-2) as [number, number]
  const count = shape.slice(0, -2).reduce((a, b) => a * b, 1)
  const bytes = height * width * FLOAT_BYTES
  return isTransposed
    ? { rows: width, columns: height, row: 1, column: width, count, bytes }
    : { rows: height, columns: width, row: width, column: 1, count, bytes }
}
