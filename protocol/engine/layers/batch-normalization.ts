import type { TensorRole } from '../../params.ts'
import { normalised, scaledByColumn } from './layer-normalization.ts'
import type { LayerRule } from './rule.ts'
import {
  absent,
  channelsOf,
  finite,
  flag,
  only,
  product,
  quoted,
  wrong,
  zeros,
} from './settings.ts'

const refused = ['beta_constraint', 'gamma_constraint', 'beta_regularizer', 'gamma_regularizer']

/** Ioffe and Szegedy 2015, over all axes but the last, as Keras has it. */
export const batchNormalization: LayerRule = {
  settings: ['axis', 'momentum', 'epsilon', 'center', 'scale', ...refused],

  read(config, inputs, where) {
    const shape = only(inputs)
    absent(config, where, refused)
    const axis = Array.isArray(config.axis) ? config.axis[0] : (config.axis ?? -1)
    const several = Array.isArray(config.axis) && config.axis.length !== 1
    if (several || (axis !== -1 && axis !== shape.length))
      throw wrong(where('axis'), quoted(config.axis), `-1 or ${shape.length}, the last`)
    const channels = channelsOf(shape, where)
    const center = flag(config.center, true, where('center'))
    const scale = flag(config.scale, true, where('scale'))
    const weight = (name: string, role: TensorRole) => ({ name, shape: [channels], role })
    return {
      config: {
        axis: -1,
        momentum: finite(config.momentum ?? 0.99, 0, 1, where('momentum')),
        epsilon: finite(config.epsilon ?? 1e-3, 1e-12, 1, where('epsilon')),
        center,
        scale,
        beta_initializer: zeros,
        gamma_initializer: zeros,
        moving_mean_initializer: zeros,
        moving_variance_initializer: zeros,
      },
      outputShape: [...shape],
      weights: [
        ...(scale ? [weight('gamma', 'trainable')] : []),
        ...(center ? [weight('beta', 'trainable')] : []),
        weight('moving_mean', 'mean'),
        weight('moving_variance', 'variance'),
      ],
    }
  },

  /**
   * Training takes the batch's statistics and lets the moving ones follow, in the params; otherwise, and in a frozen layer, the
   * moving ones hold.
   */
  plan({ config, outputShape }, planner) {
    const width = outputShape.at(-1)!
    const rows = planner.batch * product(outputShape.slice(0, -1))
    const x = planner.input(0)
    const [movingMean, movingVariance] = [
      planner.weight('moving_mean'),
      planner.weight('moving_variance'),
    ]
    const epsilon = config.epsilon as number
    const follows = planner.training && !planner.frozen
    const mean = follows ? planner.keep(width) : movingMean
    const spread = planner.keep(width)
    if (follows)
      planner.forward(
        'batchStatistics',
        ...[x, rows, width, mean, spread, movingMean, movingVariance],
        ...[config.momentum as number, epsilon],
      )
    else planner.forward('batchSpread', movingVariance, spread, width, epsilon)
    const gamma = planner.weight('gamma')
    planner.forward(
      'batchNormalise',
      ...[x, planner.output(), rows, width, mean, spread],
      ...[gamma, planner.weight('beta'), planner.scratch(width)],
    )
    const [ownGamma, ownBeta] = [planner.weightGradient('gamma'), planner.weightGradient('beta')]
    const to = planner.inputGradient(0)
    if (!to && !ownGamma && !ownBeta) return
    const gradient = planner.outputGradient()
    if (planner.frozen)
      return planner.backward(
        'batchNormalise',
        ...[gradient, to, rows, width, planner.zeros(width), spread],
        ...[gamma, 0, planner.scratch(width)],
      )
    const dGamma = ownGamma || planner.keep(width)
    const dBeta = ownBeta || planner.keep(width)
    planner.backward('batchSums', x, gradient, rows, width, mean, spread, dGamma, dBeta)
    if (to)
      planner.backward(
        'batchGradient',
        ...[x, gradient, to, rows, width, mean, spread],
        ...[gamma, dGamma, dBeta, planner.scratch(3 * width)],
      )
  },

  reference({ config }, [x], context) {
    const { tape, weight, training } = context
    const width = x!.shape.at(-1)!
    const epsilon = tape.constant(config.epsilon as number)
    const out: number[] = Array.from(x!.at)
    for (let column = 0; column < width; column++) {
      const places = out.map((_, i) => i).filter((i) => i % width === column)
      const values = places.map((i) => x!.at[i]!)
      const mean = weight('moving_mean')!.at[column]!
      const variance = weight('moving_variance')!.at[column]!
      const moving = () => {
        const spread = tape.sqrt(tape.add(variance, epsilon))
        return values.map((value) => tape.divide(tape.subtract(value, mean), spread))
      }
      const normal = training ? normalised(tape, values, epsilon) : moving()
      places.forEach((i, row) => {
        out[i] = normal[row]!
      })
    }
    return scaledByColumn({ shape: x!.shape, at: out }, context)
  },
}
