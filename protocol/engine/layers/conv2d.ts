import type { Node } from '../graph.ts'
import { activated } from './activation.ts'
import { planActivated, sizesOf } from './convolution.ts'
import { planDirect } from './direct.ts'
import type { LayerRule, ReferenceContext, Values } from './rule.ts'
import {
  type ActivationName,
  absent,
  activation,
  flag,
  integer,
  MAX_UNITS,
  only,
  wrong,
  zeros,
} from './settings.ts'
import { type Axis, channelsLast, imageOf, padding, pair, slide } from './window.ts'
import { planWinograd, suitsWinograd } from './winograd.ts'

const refused = [
  'kernel_regularizer',
  'bias_regularizer',
  'activity_regularizer',
  'kernel_constraint',
  'bias_constraint',
]

/** y = activation(x ∗ kernel + bias) over images [height, width, channels]; kernel [down, across, channels, filters]. */
export const conv2d: LayerRule = {
  settings: [
    ...['filters', 'kernel_size', 'strides', 'padding', 'data_format', 'dilation_rate', 'groups'],
    ...['activation', 'use_bias', ...refused],
  ],

  read(config, inputs, where) {
    const [height, width, channels] = imageOf(only(inputs), where)
    channelsLast(config, where)
    absent(config, where, refused)
    const filters = integer(config.filters, 1, MAX_UNITS, where('filters'))
    const size = pair(config.kernel_size, undefined, where('kernel_size'))
    const strides = pair(config.strides, 1, where('strides'))
    const dilation = pair(config.dilation_rate, 1, where('dilation_rate'))
    const mode = padding(config, where)
    const useBias = flag(config.use_bias, true, where('use_bias'))
    if ((config.groups ?? 1) !== 1) throw wrong(where('groups'), String(config.groups), '1')
    if (Math.max(...strides) > 1 && Math.max(...dilation) > 1)
      throw wrong(
        where('dilation_rate'),
        `[${dilation}] with strides [${strides}]`,
        '1 beside strides',
      )
    const [rows, columns] = [height, width].map((length, axis) =>
      slide(length, size[axis]!, strides[axis]!, dilation[axis]!, mode, where('kernel_size')),
    ) as [Axis, Axis]
    return {
      config: {
        ...{ filters, kernel_size: [...size], strides: [...strides], padding: mode },
        ...{ dilation_rate: [...dilation], use_bias: useBias },
        activation: activation(config.activation, where('activation')),
        kernel_initializer: zeros,
        bias_initializer: zeros,
      },
      outputShape: [rows.out, columns.out, filters],
      weights: [
        { name: 'kernel', shape: [...size, channels, filters], role: 'trainable' },
        ...(useBias ? [{ name: 'bias', shape: [filters], role: 'trainable' as const }] : []),
      ],
    }
  },

  plan(node, planner) {
    const sizes = sizesOf(node)
    const emit = suitsWinograd(sizes) ? planWinograd : planDirect
    planActivated(node, planner, (ends) =>
      emit(sizes, { ...ends, kernel: 'kernel', bias: 'bias' }, planner),
    )
  },

  reference(node, [x], context) {
    const { activation } = node.config
    return activated(context.tape, convolved(node, x!, context), activation as ActivationName)
  },
}

function convolved(node: Node, x: Values, { tape, weight }: ReferenceContext): Values {
  const { channels, filters, input, window, strides, dilation, axes } = sizesOf(node)
  const [kernel, bias] = [weight('kernel')!, weight('bias')]
  const [batch, nothing] = [x.shape[0]!, tape.constant(0)]
  const at: number[] = []
  const places = [batch, axes[0].out, axes[1].out, filters]
  for (let place = 0; place < places.reduce((a, b) => a * b); place++) {
    const k = place % filters
    const column = Math.floor(place / filters) % axes[1].out
    const row = Math.floor(place / filters / axes[1].out) % axes[0].out
    const image = Math.floor(place / filters / axes[1].out / axes[0].out)
    let sum = bias ? bias.at[k]! : nothing
    for (let i = 0; i < window[0]; i++) {
      const y = row * strides[0] - axes[0].before + i * dilation[0]
      if (y < 0 || y >= input[0]) continue
      for (let j = 0; j < window[1]; j++) {
        const z = column * strides[1] - axes[1].before + j * dilation[1]
        if (z < 0 || z >= input[1]) continue
        for (let c = 0; c < channels; c++) {
          const value = x.at[((image * input[0] + y) * input[1] + z) * channels + c]!
          const tap = kernel.at[((i * window[1] + j) * channels + c) * filters + k]!
          sum = tape.multiplyAdd(value, tap, sum)
        }
      }
    }
    at.push(sum)
  }
  return { shape: places, at }
}
