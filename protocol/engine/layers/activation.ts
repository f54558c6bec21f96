import type { Address, Planner } from '../planner.ts'
import type { LayerRule, Tape, Values } from './rule.ts'
import { type ActivationName, activation, activations, only } from './settings.ts'

/** One function over each value; softmax over the last axis. */
export const activationLayer: LayerRule = {
  settings: ['activation'],

  read: (config, inputs, where) => ({
    config: { activation: activation(config.activation, where('activation')) },
    outputShape: [...only(inputs)],
    weights: [],
  }),

  plan({ config, outputShape }, planner) {
    const name = config.activation as ActivationName
    if (name === 'linear') return planner.view()
    const size = sizeIn(planner, outputShape)
    const channels = outputShape.at(-1)!
    activateInto(planner, name, { from: planner.input(0), to: planner.output(), size, channels })
    unactivateInto(planner, name, {
      gradient: planner.outputGradient(),
      before: planner.input(0),
      after: planner.output(),
      to: planner.inputGradient(0),
      ...{ size, channels },
    })
  },

  reference: ({ config }, [x], { tape }) =>
    activated(tape, x!, config.activation as ActivationName),
}

/** The number that kernels know an activation by (kernels/activation.ts). */
export const activationCode = (name: ActivationName): number => activations.indexOf(name)

/** Whether the gradient needs the values before the activation: for the others those after it are enough. */
export const needsBefore = (name: ActivationName): boolean => name === 'swish' || name === 'gelu'

/** Emits to ← activation(from), over `size` values; `from` and `to` may be the same place. */
export function activateInto(
  planner: Planner,
  name: ActivationName,
  { from, to, size, channels }: { from: Address; to: Address; size: number; channels: number },
): void {
  if (name === 'softmax') planner.forward('softmax', from, to, size / channels, channels)
  else planner.forward('activate', activationCode(name), from, to, size)
}

/**
 * Emits to ← gradient · activation'(before), in the backward list; nothing when `to` is 0. `before` is read by those that
 * `needsBefore` names, `after` by the others; `to` may be the same place as `gradient`.
 */
export function unactivateInto(
  planner: Planner,
  name: ActivationName,
  places: {
    gradient: Address
    before: Address
    after: Address
    to: Address
    size: number
    channels: number
  },
): void {
  const { gradient, before, after, to, size, channels } = places
  if (to === 0) return
  if (name === 'softmax')
    planner.backward('softmaxGradient', gradient, after, to, size / channels, channels)
  else {
    const values = needsBefore(name) ? before : after
    planner.backward('activationGradient', activationCode(name), gradient, values, to, size)
  }
}

/** The reference: value and derivative at x of each activation but softmax, as Keras defines them. */
const functions: Record<string, [value: (x: number) => number, slope: (x: number) => number]> = {
  linear: [(x) => x, () => 1],
  relu: [(x) => Math.max(0, x), (x) => (x > 0 ? 1 : 0)],
  relu6: [(x) => Math.min(6, Math.max(0, x)), (x) => (x > 0 && x < 6 ? 1 : 0)],
  sigmoid: [sigmoid, (x) => sigmoid(x) * (1 - sigmoid(x))],
  tanh: [Math.tanh, (x) => 1 - Math.tanh(x) ** 2],
  elu: [(x) => (x > 0 ? x : Math.expm1(x)), (x) => (x > 0 ? 1 : Math.exp(x))],
  selu: [
    (x) => SELU_SCALE * (x > 0 ? x : SELU_ALPHA * Math.expm1(x)),
    (x) => SELU_SCALE * (x > 0 ? 1 : SELU_ALPHA * Math.exp(x)),
  ],
  softplus: [(x) => Math.max(0, x) + Math.log1p(Math.exp(-Math.abs(x))), sigmoid],
  softsign: [(x) => x / (1 + Math.abs(x)), (x) => 1 / (1 + Math.abs(x)) ** 2],
  swish: [(x) => x * sigmoid(x), (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x)))],
  gelu: [
    (x) => x * normalShare(x),
    (x) => normalShare(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  ],
}

/** Klambauer et al. 2017. */
const SELU_ALPHA = 1.6732632423543772
const SELU_SCALE = 1.0507009873554805

/** An activation on the tape. */
export function activated(tape: Tape, x: Values, name: ActivationName): Values {
  if (name === 'softmax') return softmaxOf(tape, x)
  const [value, slope] = functions[name]!
  return { shape: x.shape, at: Array.from(x.at, (at) => tape.apply(at, value, slope)) }
}

/** Softmax over the last axis, on the tape. */
export function softmaxOf(tape: Tape, { shape, at }: Values): Values {
  const channels = shape.at(-1)!
  const out: number[] = []
  for (let row = 0; row < at.length; row += channels) {
    const logits = Array.from({ length: channels }, (_, i) => at[row + i]!)
    const top = tape.constant(Math.max(...logits.map(tape.valueOf)))
    const powers = logits.map((x) => tape.exp(tape.subtract(x, top)))
    const sum = powers.reduce(tape.add)
    out.push(...powers.map((power) => tape.divide(power, sum)))
  }
  return { shape, at: out }
}

/** How many values a batch of this shape has. */
function sizeIn({ batch }: Planner, shape: readonly number[]): number {
  return shape.reduce((size, length) => size * length, batch)
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x))
}

/** Share of a standard normal below x, by the series of erf and, far out, its continued fraction. */
export function normalShare(x: number): number {
  const z = Math.abs(x) / Math.SQRT2
  let erf = 0
  if (z < 3) {
    for (let n = 0, term = z; n < 80; n++, term *= (-z * z) / n) erf += term / (2 * n + 1)
    erf *= 2 / Math.sqrt(Math.PI)
  } else {
    let fraction = 0
    for (let k = 60; k > 0; k--) fraction = k / 2 / (z + fraction)
    erf = 1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction)
  }
  return x > 0 ? (1 + erf) / 2 : (1 - erf) / 2
}
