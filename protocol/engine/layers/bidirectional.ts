import { type Address, FLOAT_BYTES } from '../planner.ts'
import {
  type Cell,
  cellOf,
  gru,
  lstm,
  type Outputs,
  type RecurrentConfig,
  ranOver,
  readRecurrent,
  recurrentSettings,
  runInto,
  shownOf,
  workOf,
} from './recurrent.ts'
import type { Config, LayerRule } from './rule.ts'
import { absent, flag, product, quoted, record, wrong } from './settings.ts'

const cells: Record<string, Cell> = { LSTM: lstm, GRU: gru }
/** Added to a node's number for the draws of the run backwards: more than a model has nodes. */
const SECOND_SALT = 2 ** 20
const modes = ['concat', 'sum', 'ave', 'mul']

/**
 * One LSTM or GRU in each direction of time, their outputs side by side or merged; weights as tfjs-layers names them
 * (`forward_lstm/kernel`). Schuster and Paliwal 1997.
 */
export const bidirectional: LayerRule = {
  settings: ['layer', 'merge_mode', 'weights', 'backward_layer'],

  read(config, inputs, where) {
    absent(config, where, ['weights', 'backward_layer'])
    const mode = config.merge_mode === undefined ? 'concat' : config.merge_mode
    if (!modes.includes(mode as string))
      throw wrong(where('merge_mode'), quoted(mode), `one of ${modes.join(', ')}`)
    const inner = record(config.layer, where('layer'))
    const cell = cells[String(inner.class_name)]
    if (!cell) throw wrong(where('layer'), quoted(inner.class_name), 'LSTM or GRU')
    const settings = record(inner.config, where('layer config'))
    const at = (key: string) => where(`layer ${key}`)
    const known = [...recurrentSettings, 'name', 'trainable', 'dtype']
    const unknown = Object.keys(settings).find((key) => !known.includes(key))
    if (unknown !== undefined) throw wrong(at(unknown), 'a setting', 'no such setting')
    if (settings.trainable === false && config.trainable !== false)
      throw wrong(at('trainable'), 'false', 'true: a layer is frozen as a whole')
    if (flag(settings.go_backwards, false, at('go_backwards')))
      throw wrong(at('go_backwards'), 'true', 'false: one direction of two runs backwards anyway')
    const name = settings.name
    if (typeof name !== 'string' || !/^[A-Za-z0-9_.-]{1,100}$/.test(name))
      throw wrong(at('name'), quoted(name), 'letters, digits, _ . -, at most 100')
    const read = readRecurrent(cell, settings, inputs, at)
    const outputShape = [...read.outputShape]
    if (mode === 'concat') outputShape[outputShape.length - 1]! *= 2
    return {
      config: {
        merge_mode: mode,
        layer: { class_name: inner.class_name, config: { name, ...read.config } },
      },
      outputShape,
      weights: ['forward', 'backward'].flatMap((direction) =>
        read.weights.map((weight) => ({ ...weight, name: `${direction}_${name}/${weight.name}` })),
      ),
    }
  },

  work({ config, inputShapes: [shape] }) {
    const { cell, settings } = partsOf(config)
    return 2 * workOf(cell, settings, shape!)
  },

  plan({ config, inputShapes: [inputShape], outputShape }, planner) {
    const { cell, settings, mode, name } = partsOf(config)
    const { units, return_sequences: every } = settings
    const joined = mode === 'concat'
    const steps = every ? inputShape![0]! : 1
    const bytes = FLOAT_BYTES * units
    const size = planner.batch * product(outputShape)
    const [out, gradient] = [planner.output(), planner.training ? planner.outputGradient() : 0]
    const sides = joined ? [out, out + bytes] : [planner.keep(size), planner.keep(size)]
    const gradients = gradientsOf(sides)
    for (const [i, direction] of ['forward', 'backward'].entries()) {
      runInto(planner, {
        ...{ cell, inputShape: inputShape!, prefix: `${direction}_${name}/` },
        config: { ...settings, go_backwards: i === 1 },
        outputs: inOrder(sides[i]!, i === 1),
        gradients: inOrder(gradients[i]!, i === 1),
        ...{ salt: planner.salt + i * SECOND_SALT, addsGradient: i === 1 },
      })
    }
    if (!joined) {
      planner.forward(mode === 'mul' ? 'times' : 'add', sides[0]!, sides[1]!, out, size)
      if (mode === 'ave') planner.forward('scale', out, out, size, 0.5)
    }

    /** The steps of the side that runs backwards are shown from the last to the first. */
    function inOrder(at: Address, backwards: boolean): Outputs {
      const byStep = joined ? 2 * bytes : bytes
      const byExample = steps * byStep
      if (!backwards) return { to: at, byStep, byExample }
      return { to: at + (steps - 1) * byStep, byStep: -byStep, byExample }
    }

    /** Where each side's gradient is found, after the calls that make it. */
    function gradientsOf([x, y]: Address[]): Address[] {
      if (!planner.training || mode === 'sum') return [gradient, gradient]
      if (joined) return [gradient, gradient + bytes]
      if (mode === 'ave') {
        planner.backward('scale', gradient, gradient, size, 0.5)
        return [gradient, gradient]
      }
      const places = [planner.keep(size), planner.keep(size)]
      planner.backward('times', gradient, y!, places[0]!, size)
      planner.backward('times', gradient, x!, places[1]!, size)
      return places
    }
  },

  reference({ config }, [x], context) {
    const { cell, settings, mode, name } = partsOf(config)
    const { tape } = context
    const [forth, back] = ['forward', 'backward'].map((direction, i) => {
      const weight = (last: string) => context.weight(`${direction}_${name}/${last}`)
      const salt = context.salt + i * SECOND_SALT
      const own = { ...context, weight, salt }
      const outputs = ranOver(cell, { ...settings, go_backwards: i === 1 }, x!, own)
      const every = settings.return_sequences
      return shownOf(
        i === 1 && every ? outputs.map((steps) => steps.toReversed()) : outputs,
        settings,
      )
    })
    const half = tape.constant(0.5)
    const merged: Record<string, (a: number, b: number) => number> = {
      sum: tape.add,
      ave: (a, b) => tape.multiply(half, tape.add(a, b)),
      mul: tape.multiply,
    }
    const { units } = settings
    const [a, b] = [Array.from(forth!.at), Array.from(back!.at)]
    const shape = [...forth!.shape]
    if (mode !== 'concat') return { shape, at: a.map((value, i) => merged[mode]!(value, b[i]!)) }
    shape[shape.length - 1] = 2 * units
    const rows = Array.from({ length: a.length / units }, (_, row) => row * units)
    const at = rows.flatMap((row) => [...a.slice(row, row + units), ...b.slice(row, row + units)])
    return { shape, at }
  },
}

/** A checked config taken apart. */
function partsOf(config: Config): {
  cell: Cell
  settings: RecurrentConfig
  mode: string
  name: string
} {
  const layer = config.layer as { class_name: string; config: RecurrentConfig & { name: string } }
  const { name, ...rest } = layer.config
  const settings = rest as unknown as RecurrentConfig
  return {
    cell: cellOf(cells[layer.class_name]!, settings),
    settings,
    mode: config.merge_mode as string,
    name,
  }
}
