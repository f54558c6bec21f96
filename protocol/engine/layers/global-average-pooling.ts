import type { LayerRule } from './rule.ts'
import { flag, only, product, wrong } from './settings.ts'

/** The mean of each channel over all places: `places` axes of them before the channels. */
export function globalAveragePooling(places: 1 | 2): LayerRule {
  return {
    settings: ['data_format', 'keepdims'],

    read(config, inputs, where) {
      const shape = only(inputs)
      if (shape.length !== places + 1)
        throw wrong(where('input'), `[${shape}]`, `${places + 1} axes, the last for channels`)
      const format = config.data_format ?? 'channels_last'
      if (format !== 'channels_last') throw wrong(where('data_format'), format, 'channels_last')
      if (flag(config.keepdims, false, where('keepdims')))
        throw wrong(where('keepdims'), 'true', 'false')
      return { config: {}, outputShape: [shape.at(-1)!], weights: [] }
    },

    plan({ inputShapes: [shape] }, planner) {
      const sizes = [planner.batch, product(shape!.slice(0, -1)), shape!.at(-1)!]
      planner.forward('meanOfSteps', planner.input(0), planner.output(), ...sizes)
      const to = planner.inputGradient(0)
      if (to) planner.backward('meanOfStepsGradient', planner.outputGradient(), to, ...sizes)
    },

    reference(_, [x], { tape }) {
      const [batch, ...rest] = x!.shape as [number, ...number[]]
      const channels = rest.at(-1)!
      const steps = product(rest) / channels
      const count = tape.constant(steps)
      const at = Array.from({ length: batch * channels }, (_, i) => {
        const first = Math.floor(i / channels) * steps * channels + (i % channels)
        const column = Array.from({ length: steps }, (_, t) => x!.at[first + t * channels]!)
        return tape.divide(column.reduce(tape.add), count)
      })
      return { shape: [batch, channels], at }
    },
  }
}
