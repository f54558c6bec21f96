import { FLOAT_BYTES } from '../planner.ts'
import type { LayerRule, Read, Shape, Values, Where } from './rule.ts'
import { integer, product, wrong } from './settings.ts'

/** Sum of its inputs, which all have one shape. */
export const add: LayerRule = {
  settings: [],
  inputs: 'several',
  read: (_, inputs, where) => same(inputs, where),

  plan({ inputs, outputShape }, planner) {
    const size = planner.batch * product(outputShape)
    const to = planner.output()
    for (let i = 1; i < inputs.length; i++) {
      planner.forward('add', i === 1 ? planner.input(0) : to, planner.input(i), to, size)
    }
    inputs.forEach((_, i) => {
      const gradient = planner.inputGradient(i)
      if (gradient) planner.backward('scale', planner.outputGradient(), gradient, size, 1)
    })
  },

  reference: (_, inputs, { tape }) => folded(inputs, tape.add),
}

/** Mean of its inputs, which all have one shape. */
export const average: LayerRule = {
  settings: [],
  inputs: 'several',
  read: (_, inputs, where) => same(inputs, where),

  plan({ inputs, outputShape }, planner) {
    const size = planner.batch * product(outputShape)
    const to = planner.output()
    const share = 1 / inputs.length
    for (let i = 1; i < inputs.length; i++) {
      planner.forward('add', i === 1 ? planner.input(0) : to, planner.input(i), to, size)
    }
    planner.forward('scale', to, to, size, share)
    inputs.forEach((_, i) => {
      const gradient = planner.inputGradient(i)
      if (gradient) planner.backward('scale', planner.outputGradient(), gradient, size, share)
    })
  },

  reference(_, inputs, { tape }) {
    const count = tape.constant(inputs.length)
    const { shape, at } = folded(inputs, tape.add)
    return { shape, at: Array.from(at, (x) => tape.divide(x, count)) }
  },
}

/** Product of its inputs, which all have one shape. */
export const multiply: LayerRule = {
  settings: [],
  inputs: 'several',
  read: (_, inputs, where) => same(inputs, where),

  plan({ inputs, outputShape }, planner) {
    const size = planner.batch * product(outputShape)
    const to = planner.output()
    for (let i = 1; i < inputs.length; i++) {
      const so = i === 1 ? planner.input(0) : to
      planner.forward('times', so, planner.input(i), to, size)
    }
    inputs.forEach((_, i) => {
      const gradient = planner.inputGradient(i)
      if (!gradient) return
      const others = inputs.map((_, j) => j).filter((j) => j !== i)
      others.forEach((j, turn) => {
        const so = turn === 0 ? planner.outputGradient() : gradient
        planner.backward('times', so, planner.input(j), gradient, size)
      })
    })
  },

  reference: (_, inputs, { tape }) => folded(inputs, tape.multiply),
}

/** Its inputs one behind the other along an axis; all other axes are equal. */
export const concatenate: LayerRule = {
  settings: ['axis'],
  inputs: 'several',

  read(config, inputs, where) {
    const rank = inputs[0]!.length
    const axis = integer(config.axis ?? -1, -rank, rank, where('axis'))
    const at = axis < 0 ? rank + axis : axis - 1
    if (at < 0) throw wrong(where('axis'), axis, `-${rank} to -1, or 1 to ${rank}`)
    const rest = (shape: Shape) => `${shape.filter((_, i) => i !== at)}`
    const other = inputs.find((shape) => shape.length !== rank || rest(shape) !== rest(inputs[0]!))
    if (other) throw wrong(where('input'), `[${other}]`, `[${inputs[0]}] on all axes but ${axis}`)
    const outputShape = [...inputs[0]!]
    outputShape[at] = inputs.reduce((sum, shape) => sum + shape[at]!, 0)
    return { config: { axis: at - rank }, outputShape, weights: [] }
  },

  plan({ inputs, config, inputShapes, outputShape }, planner) {
    const at = outputShape.length + (config.axis as number)
    const rows = planner.batch * product(outputShape.slice(0, at))
    const rowBytes = FLOAT_BYTES * product(outputShape.slice(at))
    let before = 0
    inputs.forEach((_, i) => {
      const width = product(inputShapes[i]!.slice(at))
      const bytes = FLOAT_BYTES * width
      const to = planner.output() + before
      planner.forward('copyRows', planner.input(i), bytes, 0, to, rowBytes, 0, rows, 1, width, 0)
      const gradient = planner.inputGradient(i)
      const from = planner.training ? planner.outputGradient() + before : 0
      if (gradient)
        planner.backward('copyRows', from, rowBytes, 0, gradient, bytes, 0, rows, 1, width, 0)
      before += bytes
    })
  },

  reference({ config, outputShape }, inputs) {
    const at = outputShape.length + (config.axis as number)
    const widths = inputs.map(({ shape }) => product(shape.slice(at + 1)))
    const rows = inputs[0]!.at.length / widths[0]!
    const out: number[] = []
    for (let row = 0; row < rows; row++) {
      inputs.forEach((x, i) => {
        for (let j = 0; j < widths[i]!; j++) out.push(x.at[row * widths[i]! + j]!)
      })
    }
    return { shape: [inputs[0]!.shape[0]!, ...outputShape], at: out }
  },
}

function same(inputs: readonly Shape[], where: Where): Read {
  const other = inputs.find((shape) => `${shape}` !== `${inputs[0]}`)
  if (other) throw wrong(where('input'), `[${other}]`, `[${inputs[0]}], the first one's shape`)
  return { config: {}, outputShape: [...inputs[0]!], weights: [] }
}

function folded(inputs: readonly Values[], fold: (a: number, b: number) => number): Values {
  return inputs.reduce((sum, x) => ({
    shape: sum.shape,
    at: Array.from(sum.at, (value, i) => fold(value, x.at[i]!)),
  }))
}
