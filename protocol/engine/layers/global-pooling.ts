import { type Kind, pooled } from './pooling.ts'
import type { LayerRule } from './rule.ts'
import { flag, only, product, wrong } from './settings.ts'
import { asImage, channelsLast, type Places, placesOf } from './window.ts'

/** The largest or the mean value of each channel over all places. */
export function globalPooling(kind: Kind, places: Places): LayerRule {
  return {
    settings: ['data_format', 'keepdims'],

    read(config, inputs, where) {
      const { channels } = placesOf(only(inputs), places, where)
      channelsLast(config, where)
      if (flag(config.keepdims, false, where('keepdims')))
        throw wrong(where('keepdims'), 'true', 'false')
      return { config: {}, outputShape: [channels], weights: [] }
    },

    /** The largest: pooling by one window as large as the image. */
    plan({ inputShapes: [shape] }, planner) {
      const { batch } = planner
      const [input, output] = [planner.input(0), planner.output()]
      const [height, width, channels] = asImage(shape!)
      const steps = [batch, height * width, channels]
      const window = [height, width, channels, height, width, height, width, 0, 0]
      if (kind === 'mean') planner.forward('meanOfSteps', input, output, ...steps)
      else planner.forward('pool', input, ...window, output, 1, 1, batch, 0)
      const to = planner.inputGradient(0)
      if (!to) return
      const gradient = planner.outputGradient()
      if (kind === 'mean') planner.backward('meanOfStepsGradient', gradient, to, ...steps)
      else planner.backward('maxPoolGradient', input, ...window, output, gradient, 1, 1, batch, to)
    },

    reference(_, [x], { tape }) {
      const [batch, ...rest] = x!.shape as [number, ...number[]]
      const channels = rest.at(-1)!
      const steps = product(rest) / channels
      const at = Array.from({ length: batch * channels }, (_, i) => {
        const first = Math.floor(i / channels) * steps * channels + (i % channels)
        const column = Array.from({ length: steps }, (_, t) => x!.at[first + t * channels]!)
        return pooled(tape, kind, column)
      })
      return { shape: [batch, channels], at }
    },
  }
}
