import { isFused, multiplyInto } from '../multiply.ts'
import {
  activated,
  activateInto,
  activationCode,
  needsBefore,
  unactivateInto,
} from './activation.ts'
import type { LayerRule, ReferenceContext, Values } from './rule.ts'
import {
  type ActivationName,
  absent,
  activation,
  channelsOf,
  flag,
  integer,
  MAX_UNITS,
  only,
  product,
  zeros,
} from './settings.ts'

const refused = [
  'kernel_regularizer',
  'bias_regularizer',
  'activity_regularizer',
  'kernel_constraint',
  'bias_constraint',
]

/** y = activation(x · kernel + bias) over the last axis; kernel [inputs, units]. */
export const dense: LayerRule = {
  settings: ['units', 'activation', 'use_bias', ...refused],

  read(config, inputs, where) {
    const shape = only(inputs)
    const units = integer(config.units, 1, MAX_UNITS, where('units'))
    const useBias = flag(config.use_bias, true, where('use_bias'))
    absent(config, where, refused)
    const channels = channelsOf(shape, where)
    return {
      config: {
        units,
        activation: activation(config.activation, where('activation')),
        use_bias: useBias,
        kernel_initializer: zeros,
        bias_initializer: zeros,
      },
      outputShape: [...shape.slice(0, -1), units],
      weights: [
        { name: 'kernel', shape: [channels, units], role: 'trainable' },
        ...(useBias ? [{ name: 'bias', shape: [units], role: 'trainable' as const }] : []),
      ],
    }
  },

  plan({ config, inputShapes: [shape], outputShape }, planner) {
    const units = outputShape.at(-1)!
    const inputs = shape!.at(-1)!
    const rows = planner.batch * product(outputShape.slice(0, -1))
    const size = rows * units
    const name = config.activation as ActivationName
    const fused = isFused(name)
    const before = needsBefore(name) ? planner.keep(size) : planner.output()
    const kernel = planner.weight('kernel')
    multiplyInto(planner, 'forward', {
      ...{ a: planner.input(0), aRow: inputs, aColumn: 1 },
      ...{ b: kernel, bRow: units, bColumn: 1 },
      ...{ to: before, rows, columns: units, depth: inputs },
      ...{ bias: planner.weight('bias'), activation: fused ? name : 'linear' },
    })
    const after = planner.output()
    if (!fused) activateInto(planner, name, { from: before, to: after, size, channels: units })

    const gradient = planner.outputGradient()
    const bias = planner.weightGradient('bias')
    if (fused && name !== 'linear' && bias) {
      planner.backward(
        'activationBiasGradient',
        activationCode(name),
        gradient,
        after,
        bias,
        rows,
        units,
      )
    } else {
      if (name !== 'linear')
        unactivateInto(planner, name, {
          gradient,
          before,
          after,
          to: gradient,
          size,
          channels: units,
        })
      if (bias) planner.backward('sumRows', gradient, bias, rows, units)
    }
    const kernelGradient = planner.weightGradient('kernel')
    if (kernelGradient)
      multiplyInto(planner, 'backward', {
        ...{ a: planner.input(0), aRow: 1, aColumn: inputs },
        ...{ b: gradient, bRow: units, bColumn: 1 },
        ...{ to: kernelGradient, rows: inputs, columns: units, depth: rows },
      })
    const inputGradient = planner.inputGradient(0)
    if (inputGradient)
      multiplyInto(planner, 'backward', {
        ...{ a: gradient, aRow: units, aColumn: 1 },
        ...{ b: kernel, bRow: 1, bColumn: units },
        ...{ to: inputGradient, rows, columns: inputs, depth: units },
      })
  },

  reference({ config }, [x], context) {
    return activated(context.tape, denseOf(x!, context), config.activation as ActivationName)
  },
}

/** x · kernel + bias on the tape. */
export function denseOf(x: Values, { tape, weight }: ReferenceContext): Values {
  const kernel = weight('kernel')!
  const bias = weight('bias')
  const [inputs, units] = kernel.shape as [number, number]
  const out: number[] = []
  const nothing = tape.constant(0)
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
