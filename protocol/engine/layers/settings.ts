import { Fault } from '../../errors.ts'
import type { Config, Shape, Where } from './rule.ts'

/** Settings of a layer, read from a stranger's model.json: each comes back checked, or a Fault says what came instead. */

export const MAX_RANK = 5
/** One value array per example; the largest a shape may ask for. */
export const MAX_ACTIVATION = 2 ** 28
export const MAX_UNITS = 2 ** 22

/** What stands for every initialiser: the params come from the version. */
export const zeros = { class_name: 'Zeros', config: {} }

export const activations = [
  'linear',
  'relu',
  'relu6',
  'sigmoid',
  'tanh',
  'softmax',
  'elu',
  'selu',
  'softplus',
  'softsign',
  'swish',
  'gelu',
] as const
export type ActivationName = (typeof activations)[number]

export function activation(name: unknown, where: string): ActivationName {
  const known = name ?? 'linear'
  if ((activations as readonly unknown[]).includes(known)) return known as ActivationName
  throw wrong(where, quoted(name), `one of ${activations.join(', ')}`)
}

/** The one input of a layer that takes one. */
export function only(inputs: readonly Shape[]): Shape {
  const [shape] = inputs
  if (inputs.length === 1 && shape) return shape
  throw wrong('the graph', `${inputs.length} inputs of a layer`, '1')
}

/** The length of the last axis. */
export function channelsOf(shape: Shape, where: Where): number {
  const channels = shape.at(-1)
  if (channels === undefined) throw wrong(where('input'), 'no axis', 'at least one axis')
  return channels
}

export function absent(config: Config, where: Where, keys: readonly string[]): void {
  for (const key of keys) {
    if ((config[key] ?? null) !== null) throw wrong(where(key), quoted(config[key]), 'none')
  }
}

export function record(value: unknown, where: string): Config {
  if (value instanceof Object && !Array.isArray(value)) return value as Config
  throw wrong(where, quoted(value), 'an object')
}

export function integer(value: unknown, least: number, most: number, where: string): number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most)
    return value as number
  throw wrong(where, quoted(value), `a whole number from ${least} to ${most}`)
}

export function finite(value: unknown, least: number, most: number, where: string): number {
  if (typeof value === 'number' && value >= least && value <= most) return value
  throw wrong(where, quoted(value), `a number from ${least} to ${most}`)
}

export function flag(value: unknown, absent: boolean, where: string): boolean {
  if (value === undefined || value === null) return absent
  if (typeof value === 'boolean') return value
  throw wrong(where, quoted(value), 'true or false')
}

export function product(shape: readonly number[]): number {
  return shape.reduce((size, length) => size * length, 1)
}

export function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing'
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`
}

export function wrong(field: string, came: unknown, expected: string, cause?: unknown): Fault {
  const message = `model.json: ${field} is ${came}, expected ${expected}`
  const hint = 'fetch it again from its owner; if it is yours, correct it and run mlstore check'
  return new Fault({ kind: 'verification', type: 'wrong-model', message, hint, field }, cause)
}
