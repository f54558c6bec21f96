import { FLOAT_BYTES } from '../planner.ts'
import type { LayerRule } from './rule.ts'
import { only, product, quoted, wrong } from './settings.ts'

/** Axes without the batch that the kernel takes. */
const MOST_AXES = 3

/** Its input's axes in another order; `dims` counts from 1, the batch stays first. */
export const permute: LayerRule = {
  settings: ['dims'],

  read(config, inputs, where) {
    const shape = only(inputs)
    const axes = shape.map((_, i) => i + 1)
    const { dims } = config
    const complete = Array.isArray(dims) && `${dims.toSorted()}` === `${axes}`
    if (!complete) throw wrong(where('dims'), quoted(dims), `[${axes}] in some order`)
    if (shape.length > MOST_AXES)
      throw wrong(where('dims'), `${shape.length} axes`, `at most ${MOST_AXES}`)
    const outputShape = dims.map((axis: number) => shape[axis - 1]!)
    return { config: { dims: [...dims] }, outputShape, weights: [] }
  },

  plan({ config, inputShapes: [shape], outputShape }, planner) {
    const dims = (config.dims as number[]).map((axis) => axis - 1)
    const back = dims.map((_, axis) => dims.indexOf(axis))
    planner.forward('permute', planner.input(0), planner.output(), ...order(shape!, dims))
    const to = planner.inputGradient(0)
    if (to) planner.backward('permute', planner.outputGradient(), to, ...order(outputShape, back))

    /** Lengths of the four axes as written, and how far apart their values are read. */
    function order(from: readonly number[], axes: number[]): number[] {
      const lengths = axes.map((axis) => from[axis]!)
      const strides = axes.map((axis) => FLOAT_BYTES * product(from.slice(axis + 1)))
      const missing = Array.from({ length: MOST_AXES - axes.length }, (_, i) => i)
      const all = [planner.batch, ...missing.map(() => 1), ...lengths]
      return [...all, FLOAT_BYTES * product(from), ...missing.map(() => 0), ...strides]
    }
  },

  reference({ config, inputShapes: [shape], outputShape }, [x]) {
    const dims = (config.dims as number[]).map((axis) => axis - 1)
    const size = product(shape!)
    const strides = dims.map((axis) => product(shape!.slice(axis + 1)))
    const at = Array.from(x!.at, (_, i) => {
      let left = i % size
      let place = i - left
      for (let axis = dims.length - 1; axis >= 0; axis--) {
        place += (left % outputShape[axis]!) * strides[axis]!
        left = Math.floor(left / outputShape[axis]!)
      }
      return x!.at[place]!
    })
    return { shape: [x!.shape[0]!, ...outputShape], at }
  },
}
