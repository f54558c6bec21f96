import { multiplyInto } from '../multiply.ts'
import type { Address, Planner } from '../planner.ts'
import { softmaxOf } from './activation.ts'
import type { LayerRule, ReferenceContext, Shape, Values, Where } from './rule.ts'
import { absent, finite, flag, integer, MAX_UNITS, wrong, zeros } from './settings.ts'

const refused = ['kernel', 'bias'].flatMap((name) => [`${name}_regularizer`, `${name}_constraint`])
const initialisers = ['kernel_initializer', 'bias_initializer']

/** One of the three projections: [inputs] → [heads, size]. */
interface Projection {
  name: 'query' | 'key' | 'value'
  /** Which of the layer's inputs it reads. */
  input: number
  /** Values of a position before, and of all heads together after. */
  width: number
  columns: number
  steps: number
}

/**
 * Every position of the query takes a mean of the values, weighted by how its query meets the keys; so in each head.
 * Inputs: query, value and, if it is not the value, key, each [steps, width]. Vaswani et al. 2017; settings and weights as
 * in Keras 3.
 */
export const multiHeadAttention: LayerRule = {
  settings: [
    ...['num_heads', 'key_dim', 'value_dim', 'use_bias', 'dropout', 'output_shape'],
    ...['attention_axes', 'flash_attention', 'seed', 'activity_regularizer'],
    ...['query_shape', 'value_shape', 'key_shape', ...initialisers, ...refused],
  ],
  inputs: ['value', 'key'],

  read(config, inputs, where) {
    absent(config, where, [...refused, 'activity_regularizer', 'output_shape'])
    finite(config.dropout ?? 0, 0, 0, where('dropout'))
    const axes = config.attention_axes ?? [1]
    if (`${axes}` !== '1') throw wrong(where('attention_axes'), `${axes}`, '1, the steps')
    const [query, value, key] = inputsOf(inputs, where)
    const heads = integer(config.num_heads, 1, MAX_UNITS, where('num_heads'))
    const size = integer(config.key_dim, 1, MAX_UNITS, where('key_dim'))
    const depth = integer(config.value_dim ?? size, 1, MAX_UNITS, where('value_dim'))
    const useBias = flag(config.use_bias, true, where('use_bias'))
    const width = query.at(-1)!
    const weights = (name: string, shape: number[], bias: number[]) => [
      { name: `${name}/kernel`, shape, role: 'trainable' as const },
      ...(useBias ? [{ name: `${name}/bias`, shape: bias, role: 'trainable' as const }] : []),
    ]
    return {
      config: {
        ...{ num_heads: heads, key_dim: size, value_dim: depth, use_bias: useBias },
        ...Object.fromEntries(initialisers.map((name) => [name, zeros])),
      },
      outputShape: [...query],
      weights: [
        ...weights('query', [width, heads, size], [heads, size]),
        ...weights('key', [key.at(-1)!, heads, size], [heads, size]),
        ...weights('value', [value.at(-1)!, heads, depth], [heads, depth]),
        ...weights('attention_output', [heads, depth, width], [width]),
      ],
    }
  },

  /** Projections, scores and their mixture, and the projection of that. */
  work({ config, inputShapes }) {
    const [heads, size, depth] = sizesOf(config)
    const projections = projectionsOf(config, inputShapes)
    const [query, key] = projections as [Projection, Projection]
    const own = projections.reduce((sum, each) => sum + each.steps * each.width * each.columns, 0)
    const scores = query.steps * key.steps * heads * (size + depth)
    return own + scores + query.steps * heads * depth * query.width
  },

  plan({ config, inputShapes }, planner) {
    const [heads, size, depth] = sizesOf(config)
    const projections = projectionsOf(config, inputShapes)
    const [queries, keys] = projections
    const { batch } = planner
    const [rows, columns] = [queries!.steps, keys!.steps]
    const width = queries!.width
    const projected = projections.map((each) => planner.keep(batch * each.steps * each.columns))
    projections.forEach((each, i) => {
      project(planner, each, projected[i]!)
    })
    const mixed = planner.keep(batch * rows * heads * depth)
    const shares = planner.keep(batch * heads * rows * columns)
    const sizes = [batch, rows, columns, heads, size, depth]
    const packed = 8 * Math.max(size, depth) * Math.ceil(columns / 8)
    planner.forward('attend', ...projected, mixed, shares, planner.scratch(packed), ...sizes)
    const kernel = planner.weight('attention_output/kernel')
    multiplyInto(planner, 'forward', {
      ...{ a: mixed, aRow: heads * depth, aColumn: 1, b: kernel, bRow: width, bColumn: 1 },
      ...{ to: planner.output(), rows: batch * rows, columns: width, depth: heads * depth },
      bias: planner.weight('attention_output/bias'),
    })
    if (!planner.training) return

    const gradient = planner.outputGradient()
    const bias = planner.weightGradient('attention_output/bias')
    if (bias) planner.backward('sumRows', gradient, bias, batch * rows, width)
    const kernelGradient = planner.weightGradient('attention_output/kernel')
    if (kernelGradient)
      multiplyInto(planner, 'backward', {
        ...{ a: mixed, aRow: 1, aColumn: heads * depth, b: gradient, bRow: width, bColumn: 1 },
        ...{ to: kernelGradient, rows: heads * depth, columns: width, depth: batch * rows },
      })
    multiplyInto(planner, 'backward', {
      ...{ a: gradient, aRow: width, aColumn: 1, b: kernel, bRow: 1, bColumn: width },
      ...{ to: mixed, rows: batch * rows, columns: heads * depth, depth: width },
    })
    const gradients = projections.map((each) => planner.keep(batch * each.steps * each.columns))
    const scratch = planner.scratch(packed + rows * columns)
    planner.backward(
      'attendGradient',
      ...[...projected, shares, mixed, ...gradients, scratch, scratch + 4 * packed, ...sizes],
    )
    const written = new Set<number>()
    projections.forEach((each, i) => {
      unproject(planner, each, gradients[i]!, written.has(each.input))
      written.add(each.input)
    })
  },

  reference({ config, inputShapes }, inputs, context) {
    const { tape } = context
    const [heads, size, depth] = sizesOf(config)
    const projections = projectionsOf(config, inputShapes)
    const [rows, columns] = [projections[0]!.steps, projections[1]!.steps]
    const batch = inputs[0]!.shape[0]!
    const [q, k, v] = projections.map(({ input, name, columns: units }) =>
      projectedOf(inputs[input]!, name, units, context),
    ) as [Values, Values, Values]
    const scale = tape.constant(1 / Math.sqrt(size))
    const nothing = tape.constant(0)
    const mixed: number[] = []
    for (let b = 0; b < batch; b++) {
      const of = (x: Values, step: number, steps: number, h: number, length: number) => {
        const at = ((b * steps + step) * heads + h) * length
        return Array.from({ length }, (_, i) => x.at[at + i]!)
      }
      for (let r = 0; r < rows; r++) {
        for (let h = 0; h < heads; h++) {
          const query = of(q, r, rows, h, size)
          const scores = Array.from({ length: columns }, (_, c) => {
            const key = of(k, c, columns, h, size)
            const sum = query.reduce((so, x, i) => tape.multiplyAdd(x, key[i]!, so), nothing)
            return tape.multiply(sum, scale)
          })
          const shares = softmaxOf(tape, { shape: [columns], at: scores })
          for (let i = 0; i < depth; i++) {
            let sum = nothing
            for (let c = 0; c < columns; c++)
              sum = tape.multiplyAdd(shares.at[c]!, of(v, c, columns, h, depth)[i]!, sum)
            mixed.push(sum)
          }
        }
      }
    }
    const shape = [batch, rows, heads * depth]
    const width = inputs[0]!.shape.at(-1)!
    return projectedOf({ shape, at: mixed }, 'attention_output', width, context)
  },
}

function inputsOf(inputs: readonly Shape[], where: Where): [Shape, Shape, Shape] {
  const [query, value, key = value] = inputs as [Shape, Shape, Shape?]
  const flat = inputs.find((shape) => shape.length !== 2)
  if (flat) throw wrong(where('input'), `[${flat}]`, 'two axes: steps and values')
  if (key[0] !== value[0]) throw wrong(where('key'), `${key[0]} steps`, `${value[0]}, as the value`)
  return [query, value, key]
}

function sizesOf({
  num_heads,
  key_dim,
  value_dim,
}: Record<string, unknown>): [number, number, number] {
  return [num_heads, key_dim, value_dim] as [number, number, number]
}

/** Query, key and value. */
function projectionsOf(config: Record<string, unknown>, shapes: readonly Shape[]): Projection[] {
  const [heads, size, depth] = sizesOf(config)
  const keyInput = shapes.length === 3 ? 2 : 1
  const places = [
    { name: 'query', input: 0, columns: heads * size },
    { name: 'key', input: keyInput, columns: heads * size },
    { name: 'value', input: 1, columns: heads * depth },
  ] as const
  return places.map((place) => ({
    ...place,
    steps: shapes[place.input]![0]!,
    width: shapes[place.input]![1]!,
  }))
}

function project(
  planner: Planner,
  { name, input, width, columns, steps }: Projection,
  to: Address,
): void {
  multiplyInto(planner, 'forward', {
    ...{ a: planner.input(input), aRow: width, aColumn: 1 },
    ...{ b: planner.weight(`${name}/kernel`), bRow: columns, bColumn: 1 },
    ...{ to, rows: planner.batch * steps, columns, depth: width },
    bias: planner.weight(`${name}/bias`),
  })
}

/** The gradients of a projection's weights and of its input, to which it adds where `add`. */
function unproject(
  planner: Planner,
  projection: Projection,
  gradient: Address,
  add: boolean,
): void {
  const { name, input, width, columns, steps } = projection
  const rows = planner.batch * steps
  const bias = planner.weightGradient(`${name}/bias`)
  if (bias) planner.backward('sumRows', gradient, bias, rows, columns)
  const kernel = planner.weightGradient(`${name}/kernel`)
  if (kernel)
    multiplyInto(planner, 'backward', {
      ...{
        a: planner.input(input),
        aRow: 1,
        aColumn: width,
        b: gradient,
        bRow: columns,
        bColumn: 1,
      },
      ...{ to: kernel, rows: width, columns, depth: rows },
    })
  const to = planner.inputGradient(input)
  if (to)
    multiplyInto(planner, 'backward', {
      ...{ a: gradient, aRow: columns, aColumn: 1 },
      ...{ b: planner.weight(`${name}/kernel`), bRow: 1, bColumn: columns },
      ...{ to, rows, columns: width, depth: columns, add },
    })
}

/** x · kernel + bias over the last axis, the kernel's other axes taken as `inputs` and `units`, on the tape. */
function projectedOf(
  x: Values,
  name: string,
  units: number,
  { tape, weight }: ReferenceContext,
): Values {
  const kernel = weight(`${name}/kernel`)!
  const bias = weight(`${name}/bias`)
  const inputs = x.shape.at(-1)!
  const nothing = tape.constant(0)
  const out: number[] = []
  for (let row = 0; row < x.at.length; row += inputs) {
    for (let unit = 0; unit < units; unit++) {
      let sum = bias ? bias.at[unit]! : nothing
      for (let i = 0; i < inputs; i++)
        sum = tape.multiplyAdd(x.at[row + i]!, kernel.at[i * units + unit]!, sum)
      out.push(sum)
    }
  }
  return { shape: [...x.shape.slice(0, -1), units], at: out }
}
