import type { TensorRole } from '../../params.ts'
import type { LayerRule } from './rule.ts'
import { absent, channelsOf, finite, flag, only, wrong, zeros } from './settings.ts'

const refused = ['beta_constraint', 'gamma_constraint', 'beta_regularizer', 'gamma_regularizer']

/** Ioffe and Szegedy 2015, over all axes but the last, as Keras has it. */
export const batchNormalization: LayerRule = {
  settings: ['axis', 'momentum', 'epsilon', 'center', 'scale', ...refused],

  read(config, inputs, where) {
    const shape = only(inputs)
    absent(config, where, refused)
    const axis = Array.isArray(config.axis) ? config.axis[0] : (config.axis ?? -1)
    if (axis !== -1 && axis !== shape.length)
      throw wrong(where('axis'), axis, `-1 or ${shape.length}, the last`)
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
}
