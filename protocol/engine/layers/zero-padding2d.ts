import type { Node } from '../graph.ts'
import { FLOAT_BYTES } from '../planner.ts'
import type { Config, LayerRule, Where } from './rule.ts'
import { integer, only, product, quoted, wrong } from './settings.ts'
import { channelsLast, placesOf } from './window.ts'

/** Zeros before and after, down the rows and across the columns. */
type Sides = [down: [number, number], across: [number, number]]

const MAX_ZEROS = 1024

/** Images with zeros around them. */
export const zeroPadding2d: LayerRule = {
  settings: ['padding', 'data_format'],

  read(config, inputs, where) {
    const { lengths, channels } = placesOf(only(inputs), 2, where)
    channelsLast(config, where)
    const padding = sidesOf(config, where)
    const out = lengths.map((length, i) => length + padding[i]![0] + padding[i]![1])
    return { config: { padding }, outputShape: [...out, channels], weights: [] }
  },

  plan(node, planner) {
    const { batch } = planner
    const { height, row, outRow, inside } = placesIn(node)
    const [image, outImage] = [node.inputShapes[0]!, node.outputShape].map(
      (shape) => FLOAT_BYTES * product(shape),
    ) as [number, number]
    const [bytes, outBytes] = [FLOAT_BYTES * row, FLOAT_BYTES * outRow]
    const output = planner.output()
    const sizes = [batch, height, row, 0]
    planner.forward('clear', output, batch * product(node.outputShape))
    planner.forward(
      'copyRows',
      ...[planner.input(0), image, bytes, output + FLOAT_BYTES * inside, outImage, outBytes],
      ...sizes,
    )
    const to = planner.inputGradient(0)
    if (!to) return
    const from = planner.outputGradient() + FLOAT_BYTES * inside
    planner.backward('copyRows', from, outImage, outBytes, to, image, bytes, ...sizes)
  },

  reference(node, [x], { tape }) {
    const { height, row, outRow, inside } = placesIn(node)
    const size = product(node.outputShape)
    const nothing = tape.constant(0)
    const at = Array.from({ length: x!.shape[0]! * size }, () => nothing)
    Array.from(x!.at).forEach((value, i) => {
      const image = Math.floor(i / (height * row))
      const line = Math.floor(i / row) % height
      at[image * size + inside + line * outRow + (i % row)] = value
    })
    return { shape: [x!.shape[0]!, ...node.outputShape], at }
  },
}

/** Rows of an image, values of a row before and after, and where the first value comes to lie. */
function placesIn({ config, inputShapes: [shape], outputShape }: Node) {
  const [height, width, channels] = shape as [number, number, number]
  const [[top], [left]] = config.padding as Sides
  const outRow = outputShape[1]! * channels
  return { height, row: width * channels, outRow, inside: top * outRow + left * channels }
}

/** One number for all sides, one for each axis, or two for each. */
function sidesOf({ padding = 1 }: Config, where: Where): Sides {
  const axes = Array.isArray(padding) ? padding : [padding, padding]
  const sides = axes.map((axis: unknown) => (Array.isArray(axis) ? axis : [axis, axis]))
  if (sides.length !== 2 || sides.some((side) => side.length !== 2))
    throw wrong(where('padding'), quoted(padding), 'one whole number, two, or two pairs')
  return sides.map((side) =>
    side.map((zeros) => integer(zeros, 0, MAX_ZEROS, where('padding'))),
  ) as Sides
}
