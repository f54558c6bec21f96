import type { LayerRule, ReferenceContext, Tape, Values } from './rule.ts'
import { absent, channelsOf, finite, flag, only, product, wrong, zeros } from './settings.ts'

const refused = ['beta_constraint', 'gamma_constraint', 'beta_regularizer', 'gamma_regularizer']
const initialisers = ['beta_initializer', 'gamma_initializer']

/** Ba, Kiros and Hinton 2016, over the last axis. */
export const layerNormalization: LayerRule = {
  settings: ['axis', 'epsilon', 'center', 'scale', 'rms_scaling', ...initialisers, ...refused],

  read(config, inputs, where) {
    const shape = only(inputs)
    absent(config, where, refused)
    if (config.rms_scaling) throw wrong(where('rms_scaling'), config.rms_scaling, 'false')
    const axis = Array.isArray(config.axis) ? config.axis[0] : (config.axis ?? -1)
    const several = Array.isArray(config.axis) && config.axis.length !== 1
    if (several || (axis !== -1 && axis !== shape.length))
      throw wrong(where('axis'), config.axis, `-1 or ${shape.length}, the last`)
    const channels = channelsOf(shape, where)
    const center = flag(config.center, true, where('center'))
    const scale = flag(config.scale, true, where('scale'))
    const weight = (name: string) => ({ name, shape: [channels], role: 'trainable' as const })
    return {
      config: {
        axis: -1,
        epsilon: finite(config.epsilon ?? 1e-3, 1e-12, 1, where('epsilon')),
        center,
        scale,
        beta_initializer: zeros,
        gamma_initializer: zeros,
      },
      outputShape: [...shape],
      weights: [...(scale ? [weight('gamma')] : []), ...(center ? [weight('beta')] : [])],
    }
  },

  plan({ config, outputShape }, planner) {
    const width = outputShape.at(-1)!
    const rows = planner.batch * product(outputShape.slice(0, -1))
    const x = planner.input(0)
    const gamma = planner.weight('gamma')
    const statistics = planner.keep(2 * rows)
    planner.forward(
      'layerNormalise',
      ...[x, planner.output(), rows, width],
      ...[gamma, planner.weight('beta'), statistics, config.epsilon as number],
    )
    const [dGamma, dBeta] = [planner.weightGradient('gamma'), planner.weightGradient('beta')]
    const to = planner.inputGradient(0)
    if (to || dGamma || dBeta)
      planner.backward(
        'layerGradient',
        ...[x, planner.outputGradient(), to, rows, width],
        ...[gamma, dGamma, dBeta, statistics, planner.scratch(2 * width)],
      )
  },

  reference({ config }, [x], context) {
    const { tape } = context
    const width = x!.shape.at(-1)!
    const epsilon = tape.constant(config.epsilon as number)
    const out: number[] = []
    for (let row = 0; row < x!.at.length; row += width) {
      const values = Array.from({ length: width }, (_, i) => x!.at[row + i]!)
      out.push(...normalised(tape, values, epsilon))
    }
    return scaledByColumn({ shape: x!.shape, at: out }, context)
  },
}

/** (x − mean) / √(variance + epsilon) over all of `values`, on the tape. */
export function normalised(tape: Tape, values: number[], epsilon: number): number[] {
  const count = tape.constant(values.length)
  const mean = tape.divide(values.reduce(tape.add), count)
  const centred = values.map((x) => tape.subtract(x, mean))
  const variance = tape.divide(centred.map((x) => tape.multiply(x, x)).reduce(tape.add), count)
  const spread = tape.sqrt(tape.add(variance, epsilon))
  return centred.map((x) => tape.divide(x, spread))
}

/** x · gamma + beta by the last axis, each where there is one, on the tape. */
export function scaledByColumn({ shape, at }: Values, { tape, weight }: ReferenceContext): Values {
  const width = shape.at(-1)!
  const [gamma, beta] = [weight('gamma'), weight('beta')]
  const scaled = Array.from(at, (x, i) => {
    const product = gamma ? tape.multiply(x, gamma.at[i % width]!) : x
    return beta ? tape.add(product, beta.at[i % width]!) : product
  })
  return { shape, at: scaled }
}
