import * as tf from '@tensorflow/tfjs-core'
import type { Config } from '../../engine/layers/rule.ts'
import { asPair, type Padding, type Pair, slide } from '../../engine/layers/window.ts'
import { finish } from './activations.ts'
import type { Forward } from './layers.ts'

/**
 * Convolutions and pooling over images [batch, height, width, channels] and over sequences [batch, steps, channels], which
 * are images of one row.
 */
export const imageForwards: Record<string, Forward> = {
  Conv2D([x], layer, { weight }) {
    const { config } = layer
    const y = convolve(x!, weight(layer, 'kernel')!, config)
    return finish(y, weight(layer, 'bias'), config)
  },

  Conv1D([x], layer, { weight }) {
    const { config } = layer
    const [steps, channels, filters] = weight(layer, 'kernel')!.shape as [number, number, number]
    const kernel = tf.reshape(weight(layer, 'kernel')!, [1, steps, channels, filters])
    const y = flatten(convolve(widen(x!), kernel, config))
    return finish(y, weight(layer, 'bias'), config)
  },

  DepthwiseConv2D([x], layer, { weight }) {
    const { config } = layer
    const y = convolveDepthwise(x!, weight(layer, 'depthwise_kernel')!, config)
    return finish(y, weight(layer, 'bias'), config)
  },

  SeparableConv2D([x], layer, { weight }) {
    const { config } = layer
    const channels = convolveDepthwise(x!, weight(layer, 'depthwise_kernel')!, config)
    const mixed = tf.conv2d(
      channels as tf.Tensor4D,
      weight(layer, 'pointwise_kernel') as tf.Tensor4D,
      1,
      'valid',
    )
    return finish(mixed, weight(layer, 'bias'), config)
  },

  SeparableConv1D([x], layer, { weight }) {
    const { config } = layer
    const channels = convolveDepthwise(
      widen(x!),
      tf.expandDims(weight(layer, 'depthwise_kernel')!, 0),
      config,
    )
    const pointwise = tf.expandDims(weight(layer, 'pointwise_kernel')!, 0)
    const mixed = tf.conv2d(channels as tf.Tensor4D, pointwise as tf.Tensor4D, 1, 'valid')
    return finish(flatten(mixed), weight(layer, 'bias'), config)
  },

  ZeroPadding2D: ([x], { config }) =>
    tf.pad(x!, [[0, 0], ...(config.padding as [number, number][]), [0, 0]]),

  MaxPooling2D: ([x], { config }) => pool('max', x!, config),
  MaxPooling1D: ([x], { config }) => flatten(pool('max', widen(x!), config)),
  AveragePooling2D: ([x], { config }) => pool('mean', x!, config),
  AveragePooling1D: ([x], { config }) => flatten(pool('mean', widen(x!), config)),

  GlobalMaxPooling1D: ([x]) => tf.max(x!, 1),
  GlobalMaxPooling2D: ([x]) => tf.max(x!, [1, 2]),
  GlobalAveragePooling1D: ([x]) => tf.mean(x!, 1),
  GlobalAveragePooling2D: ([x]) => tf.mean(x!, [1, 2]),
}

function convolve(x: tf.Tensor, kernel: tf.Tensor, config: Config): tf.Tensor {
  const { images, spread, strides, pad } = slid(x, kernel, config)
  return tf.conv2d(images, spread, strides, pad)
}

function convolveDepthwise(x: tf.Tensor, kernel: tf.Tensor, config: Config): tf.Tensor {
  const { images, spread, strides, pad } = slid(x, kernel, config)
  return tf.depthwiseConv2d(images, spread, strides, pad)
}

/** What TensorFlow.js convolves: it knows neither dilation, where there are gradients, nor causal padding. */
function slid(x: tf.Tensor, kernel: tf.Tensor, config: Config) {
  const strides = pairOf(config.strides)
  const spread = dilate(kernel, pairOf(config.dilation_rate))
  const padding = config.padding as Padding
  if (padding !== 'causal') return { images: x as tf.Tensor4D, spread, strides, pad: padding }
  const before = spread.shape[1] - 1
  const images = tf.pad(x, [[0, 0], [0, 0], [before, 0], [0, 0]]) as tf.Tensor4D // biome-ignore format: a row
  return { images, spread, strides, pad: 'valid' as const }
}

/** Zeros between the taps: TensorFlow.js has no gradient of a dilated convolution. */
function dilate(kernel: tf.Tensor, dilation: Pair): tf.Tensor4D {
  return ([0, 1] as const).reduce((kernel, axis) => {
    const between = dilation[axis] - 1
    if (between === 0) return kernel
    const { shape } = kernel
    const [before, taps, after] = [shape.slice(0, axis), shape[axis]!, shape.slice(axis + 1)]
    const rows = tf.reshape(kernel, [before.reduce((a, b) => a * b, 1), taps, 1, -1])
    const apart = tf.pad(rows, [[0, 0], [0, 0], [0, between], [0, 0]]) // biome-ignore format: a row
    const spread = tf.reshape(apart, [...before, taps * dilation[axis], ...after])
    const size = [...spread.shape]
    size[axis]! -= between
    return tf.slice(spread, size.map(() => 0), size) // biome-ignore format: a row
  }, kernel) as tf.Tensor4D
}

function pool(kind: 'max' | 'mean', x: tf.Tensor, config: Config): tf.Tensor {
  const images = x as tf.Tensor4D
  const [size, strides] = [pairOf(config.pool_size), pairOf(config.strides)]
  if (kind === 'max') return tf.maxPool(images, size, strides, config.padding as 'same' | 'valid')
  if (config.padding === 'valid') return tf.avgPool(images, size, strides, 'valid')
  return meanInside(images, size, strides)
}

/**
 * Mean pooling with padding `same`, where what lies over the edge does not count: TensorFlow.js' own gradient counts it. So
 * zeros are put around, and the mean over whole windows is scaled.
 */
function meanInside(x: tf.Tensor4D, size: [number, number], strides: [number, number]): tf.Tensor {
  const axes = [0, 1].map((axis) =>
    slide(x.shape[axis + 1]!, size[axis]!, strides[axis]!, 1, 'same', ''),
  )
  const around = axes.map(({ before, padded }, axis): [number, number] => {
    return [before, Math.max(0, padded - before - x.shape[axis + 1]!)]
  })
  const padded = tf.pad(x, [[0, 0], ...around, [0, 0]]) as tf.Tensor4D
  const [rows, columns] = axes.map(({ out, before }, axis) =>
    Array.from({ length: out }, (_, i) => {
      const from = i * strides[axis]! - before
      const inside = Math.min(x.shape[axis + 1]!, from + size[axis]!) - Math.max(0, from)
      return size[axis]! / inside
    }),
  ) as [number[], number[]]
  const scale = tf.tensor(rows.flatMap((row) => columns.map((column) => row * column)))
  return tf.mul(
    tf.avgPool(padded, size, strides, 'valid'),
    tf.reshape(scale, [1, rows.length, columns.length, 1]),
  )
}

/** [batch, steps, channels] as images of one row. */
function widen(x: tf.Tensor): tf.Tensor {
  return tf.expandDims(x, 1)
}

function flatten(x: tf.Tensor): tf.Tensor {
  return tf.squeeze(x, [1])
}

const pairOf = (sides: unknown): [number, number] =>
  [...asPair(sides as number[])] as [number, number]
