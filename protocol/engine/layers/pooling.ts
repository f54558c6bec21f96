import type { Node } from '../graph.ts'
import type { LayerRule, Scalar, Tape } from './rule.ts'
import { only, product } from './settings.ts'
import {
  type Axis,
  asImage,
  asPair,
  channelsLast,
  type Padding,
  type Places,
  padding,
  placesOf,
  sides,
  slide,
} from './window.ts'

export type Kind = 'max' | 'mean'

/** The largest or the mean value of each window, channel by channel; what lies over the edge does not count. */
export function pooling(kind: Kind, places: Places): LayerRule {
  return {
    settings: ['pool_size', 'strides', 'padding', 'data_format'],

    read(config, inputs, where) {
      const { lengths, channels } = placesOf(only(inputs), places, where)
      channelsLast(config, where)
      const size = sides(config.pool_size, 2, places, where('pool_size'))
      const strides = sides(config.strides, size, places, where('strides'))
      const mode = padding(config, ['valid', 'same'], where)
      const out = lengths.map(
        (length, i) => slide(length, size[i]!, strides[i]!, 1, mode, where('pool_size')).out,
      )
      return {
        config: { pool_size: size, strides, padding: mode },
        outputShape: [...out, channels],
        weights: [],
      }
    },

    work: ({ config, outputShape }) => product(config.pool_size as number[]) * product(outputShape),

    plan(node, planner) {
      const { window, outHeight, outWidth } = sizesOf(node)
      const { batch } = planner
      const [input, output] = [planner.input(0), planner.output()]
      const out = [outHeight, outWidth, batch]
      planner.forward('pool', input, ...window, output, ...out, kind === 'mean' ? 1 : 0)
      const to = planner.inputGradient(0)
      if (!to) return
      const gradient = planner.outputGradient()
      if (kind === 'mean') planner.backward('meanPoolGradient', gradient, ...window, ...out, to)
      else planner.backward('maxPoolGradient', input, ...window, output, gradient, ...out, to)
    },

    reference(node, [x], { tape }) {
      const { window, outHeight, outWidth } = sizesOf(node)
      const [height, width, channels, down, across, strideY, strideX, top, left] = window
      const batch = x!.shape[0]!
      const at: number[] = []
      for (let place = 0; place < batch * outHeight * outWidth * channels; place++) {
        const c = place % channels
        const column = Math.floor(place / channels) % outWidth
        const row = Math.floor(place / channels / outWidth) % outHeight
        const image = Math.floor(place / channels / outWidth / outHeight)
        const seen: number[] = []
        for (let y = row * strideY - top; y < row * strideY - top + down; y++) {
          for (let z = column * strideX - left; z < column * strideX - left + across; z++) {
            if (y < 0 || y >= height || z < 0 || z >= width) continue
            seen.push(x!.at[((image * height + y) * width + z) * channels + c]!)
          }
        }
        at.push(pooled(tape, kind, seen))
      }
      return { shape: [batch, ...node.outputShape], at }
    },
  }
}

/** On the tape: the largest of these, or their mean. */
export function pooled(tape: Tape, kind: Kind, values: Scalar[]): Scalar {
  if (kind === 'max') return values.reduce(tape.max)
  return tape.divide(values.reduce(tape.add), tape.constant(values.length))
}

/** As the kernels take them: height, width, channels, window, strides, zeros before. */
type Window = [number, number, number, number, number, number, number, number, number]

function sizesOf({ config, inputShapes: [shape] }: Node) {
  const [height, width, channels] = asImage(shape!)
  const size = asPair(config.pool_size as number[])
  const strides = asPair(config.strides as number[])
  const [rows, columns] = [height, width].map((length, axis) =>
    slide(length, size[axis]!, strides[axis]!, 1, config.padding as Padding, ''),
  ) as [Axis, Axis]
  const window: Window = [height, width, channels, ...size, ...strides, rows.before, columns.before]
  return { window, outHeight: rows.out, outWidth: columns.out }
}
