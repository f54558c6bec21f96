import type { LayerRule } from './rule.ts'
import { absent, flag, integer, MAX_UNITS, only, product, wrong, zeros } from './settings.ts'

const refused = ['embeddings_regularizer', 'activity_regularizer', 'embeddings_constraint']

/**
 * Rows of a table by index. Indices arrive as floats, are cut to whole numbers, and one outside the table counts as its
 * nearest end: a kernel can neither read nor write elsewhere. Who brings data checks it and can say which example it was.
 */
export const embedding: LayerRule = {
  settings: [
    ...['input_dim', 'output_dim', 'input_length', 'mask_zero'],
    ...['embeddings_initializer', 'weights', 'lora_rank', ...refused],
  ],

  read(config, inputs, where) {
    absent(config, where, [...refused, 'weights', 'lora_rank'])
    if (flag(config.mask_zero, false, where('mask_zero')))
      throw wrong(where('mask_zero'), 'true', 'false: no layer here reads a mask')
    const entries = integer(config.input_dim, 1, MAX_UNITS, where('input_dim'))
    const width = integer(config.output_dim, 1, MAX_UNITS, where('output_dim'))
    return {
      config: { input_dim: entries, output_dim: width, embeddings_initializer: zeros },
      outputShape: [...only(inputs), width],
      weights: [{ name: 'embeddings', shape: [entries, width], role: 'trainable' }],
    }
  },

  work: ({ outputShape }) => product(outputShape),

  plan({ config, inputShapes: [shape] }, planner) {
    const count = planner.batch * product(shape!)
    const [entries, width] = [config.input_dim as number, config.output_dim as number]
    const indices = planner.input(0)
    const table = planner.weight('embeddings')
    planner.forward('gather', indices, table, planner.output(), count, entries, width)
    const to = planner.weightGradient('embeddings')
    if (to)
      planner.backward(
        'scatter',
        ...[indices, planner.outputGradient(), to, count, entries, width],
        planner.scratch(entries + count + width),
      )
    const nothing = planner.inputGradient(0)
    if (nothing) planner.backward('clear', nothing, count)
  },

  reference({ config }, [x], { tape, weight }) {
    const [entries, width] = [config.input_dim as number, config.output_dim as number]
    const table = weight('embeddings')!
    const rows = Array.from(x!.at, (at) => {
      const row = Math.min(entries - 1, Math.max(0, Math.trunc(tape.valueOf(at))))
      return Array.from({ length: width }, (_, i) => table.at[row * width + i]!)
    })
    return { shape: [...x!.shape, width], at: rows.flat() }
  },
}

/**
 * One learnt row a position, the same for every example; its input only says how many rows are asked for. To be added to
 * an Embedding. Settings and weight as KerasHub's layer of this name.
 */
export const positionEmbedding: LayerRule = {
  settings: ['sequence_length', 'initializer'],

  read(config, inputs, where) {
    const shape = only(inputs)
    const [steps, width] = shape
    if (shape.length !== 2) throw wrong(where('input'), `[${shape}]`, 'two axes: steps and values')
    const length = integer(config.sequence_length, steps!, MAX_UNITS, where('sequence_length'))
    return {
      config: { sequence_length: length },
      outputShape: [steps!, width!],
      weights: [{ name: 'embeddings', shape: [length, width!], role: 'trainable' }],
    }
  },

  work: ({ outputShape }) => product(outputShape),

  plan({ config, outputShape }, planner) {
    const [steps, width] = outputShape as [number, number]
    const { batch } = planner
    const size = steps * width
    const rows = { from: planner.weight('embeddings'), to: planner.output() }
    planner.forward('copyRows', rows.from, 0, 0, rows.to, 4 * size, 0, batch, 1, size, 0)
    const gradient = planner.weightGradient('embeddings')
    if (gradient) {
      planner.backward('sumRows', planner.outputGradient(), gradient, batch, size)
      const unused = (config.sequence_length as number) * width - size
      if (unused > 0) planner.backward('clear', gradient + 4 * size, unused)
    }
    const nothing = planner.inputGradient(0)
    if (nothing) planner.backward('clear', nothing, batch * size)
  },

  reference({ outputShape }, [x], { weight }) {
    const size = product(outputShape)
    const table = weight('embeddings')!
    return { shape: x!.shape, at: Array.from(x!.at, (_, i) => table.at[i % size]!) }
  },
}
