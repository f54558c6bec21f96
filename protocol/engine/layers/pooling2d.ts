import type { Node } from '../graph.ts'
import type { LayerRule } from './rule.ts'
import { only } from './settings.ts'
import {
  type Axis,
  channelsLast,
  type Padding,
  type Pair,
  padding,
  placesOf,
  sides,
  slide,
} from './window.ts'

/** The largest or the mean value of each window, channel by channel; what lies over the edge does not count. */
export function pooling2d(kind: 'max' | 'mean'): LayerRule {
  return {
    settings: ['pool_size', 'strides', 'padding', 'data_format'],

    read(config, inputs, where) {
      const { lengths, channels } = placesOf(only(inputs), 2, where)
      channelsLast(config, where)
      const size = sides(config.pool_size, 2, 2, where('pool_size'))
      const strides = sides(config.strides, size, 2, where('strides'))
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
        const sum = () => tape.divide(seen.reduce(tape.add), tape.constant(seen.length))
        at.push(kind === 'mean' ? sum() : seen.reduce(tape.max))
      }
      return { shape: [batch, outHeight, outWidth, channels], at }
    },
  }
}

/** As the kernels take them: height, width, channels, window, strides, zeros before. */
type Window = [number, number, number, number, number, number, number, number, number]

function sizesOf({ config, inputShapes: [shape] }: Node) {
  const [height, width, channels] = shape as [number, number, number]
  const size = config.pool_size as Pair
  const strides = config.strides as Pair
  const [rows, columns] = [height, width].map((length, axis) =>
    slide(length, size[axis]!, strides[axis]!, 1, config.padding as Padding, ''),
  ) as [Axis, Axis]
  const window: Window = [height, width, channels, ...size, ...strides, rows.before, columns.before]
  return { window, outHeight: rows.out, outWidth: columns.out }
}
