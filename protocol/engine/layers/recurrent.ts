/** LSTM and GRU: what both share. The cells' arithmetic is in kernels/recurrent.ts. */
import { multiplyInto } from '../multiply.ts'
import { type Address, FLOAT_BYTES, type Planner } from '../planner.ts'
import { isKept, limitOf, MAX_RATE } from './dropout.ts'
import type {
  Config,
  LayerRule,
  Read,
  ReferenceContext,
  Shape,
  Tape,
  Values,
  Where,
} from './rule.ts'
import { absent, finite, flag, integer, MAX_UNITS, only, quoted, wrong, zeros } from './settings.ts'

/** In the order of the kernels' numbers. */
const cellActivations = ['linear', 'relu', 'tanh', 'sigmoid', 'hard_sigmoid'] as const
type CellActivation = (typeof cellActivations)[number]

/** A kind of cell: gates [z ...] = inputs · kernel + states · recurrent_kernel + bias. */
export interface Cell {
  /** Of its kernels: `lstmForward`. */
  name: 'lstm' | 'gru' | 'gruAfter'
  gates: number
  /** One of the inputs' product alone, or another of the states' product: [2, gates * units]. */
  biases: 1 | 2
  /** Arrays of [steps, batch, units] that forward keeps beside the gates and the states; the first has a step more. */
  kept: readonly ('states' | 'steps')[]
  /** Floats of scratch a kernel takes for the packed recurrent kernel. */
  packed(units: number): number
  /** What forward left that backward reads. */
  seen(states: Address, kept: Address[]): Address[]
  /** Whether backward takes scratch of [batch, units], too. */
  spare: boolean
  /** Gradient of the recurrent kernel, from the gates' gradient z. */
  weigh(places: Weighing): void
  /** One step on the tape, from z = inputs · kernel + bias of one example: the next states, the output first. */
  step(step: ReferenceStep): number[][]
}

interface Weighing {
  planner: Planner
  z: Address
  states: Address
  kept: Address[]
  to: Address
  rows: number
  units: number
}

interface ReferenceStep {
  tape: Tape
  z: number[]
  states: number[][]
  recurrent: Values
  bias: Values | undefined
  units: number
  activate(x: number): number
  gate(x: number): number
}

const panels = (columns: number) => Math.ceil(columns / 8)

export const lstm: Cell = {
  name: 'lstm',
  gates: 4,
  biases: 1,
  kept: ['states', 'steps'],
  seen: (_, kept) => kept,
  spare: true,
  packed: (units) => 8 * Math.max(units * panels(4 * units), 4 * units * panels(units)),

  weigh({ planner, z, states, to, rows, units }) {
    multiplyInto(planner, 'backward', {
      ...{ a: states, aRow: 1, aColumn: units },
      ...{ b: z, bRow: 4 * units, bColumn: 1 },
      ...{ to, rows: units, columns: 4 * units, depth: rows },
    })
  },

  step({ tape, z, states: [h, c], recurrent, units, activate, gate }) {
    const sums = z.map((x, j) => tape.add(x, along(tape, h!, recurrent, j)))
    const part = (k: number) => sums.slice(k * units, (k + 1) * units)
    const [i, f, o] = [part(0).map(gate), part(1).map(gate), part(3).map(gate)]
    const g = part(2).map(activate)
    const next = c!.map((x, u) => tape.multiplyAdd(f[u]!, x, tape.multiply(i[u]!, g[u]!)))
    return [next.map((x, u) => tape.multiply(o[u]!, activate(x))), next]
  },
}

export const gru: Cell = {
  name: 'gru',
  gates: 3,
  biases: 1,
  kept: ['steps'],
  seen: (states) => [states],
  spare: true,
  packed: (units) => 8 * units * (Math.max(panels(2 * units), 2 * panels(units)) + panels(units)),

  weigh({ planner, z, states, kept: [reset], to, rows, units }) {
    const gates = { aRow: 1, aColumn: units, bRow: 3 * units, bColumn: 1, toRow: 3 * units }
    const size = { ...gates, rows: units, depth: rows }
    multiplyInto(planner, 'backward', { ...size, a: states, b: z, to, columns: 2 * units })
    const third = 2 * units * FLOAT_BYTES
    const candidate = { a: reset!, b: z + third, to: to + third, columns: units }
    multiplyInto(planner, 'backward', { ...size, ...candidate })
  },

  step({ tape, z, states: [h], recurrent, units, activate, gate }) {
    const sums = z.map((x, j) => (j < 2 * units ? tape.add(x, along(tape, h!, recurrent, j)) : x))
    const keep = sums.slice(0, units).map(gate)
    const reset = sums.slice(units, 2 * units).map((x, u) => tape.multiply(gate(x), h![u]!))
    const next = sums.slice(2 * units).map((x, u) => {
      const candidate = activate(tape.add(x, along(tape, reset, recurrent, 2 * units + u)))
      return tape.multiplyAdd(keep[u]!, tape.subtract(h![u]!, candidate), candidate)
    })
    return [next]
  },
}

/** The reset gate after the product, not before it, and a bias in between: Keras' default, as cuDNN and PyTorch have it. */
export const gruAfter: Cell = {
  name: 'gruAfter',
  gates: 3,
  biases: 2,
  kept: ['steps'],
  seen: (states, kept) => [states, ...kept],
  spare: false,
  packed: gru.packed,

  weigh({ planner, z, states, kept: [product], to, rows, units }) {
    const gates = { a: states, aRow: 1, aColumn: units, bColumn: 1, toRow: 3 * units }
    const size = { ...gates, rows: units, depth: rows }
    multiplyInto(planner, 'backward', { ...size, b: z, bRow: 3 * units, to, columns: 2 * units })
    const third = 2 * units * FLOAT_BYTES
    const candidate = { b: product!, bRow: units, to: to + third, columns: units }
    multiplyInto(planner, 'backward', { ...size, ...candidate })
  },

  step({ tape, z, states: [h], recurrent, bias, units, activate, gate }) {
    const product = z.map((_, j) => {
      const sum = along(tape, h!, recurrent, j)
      return bias ? tape.add(sum, bias.at[z.length + j]!) : sum
    })
    const gates = z.slice(0, 2 * units).map((x, j) => gate(tape.add(x, product[j]!)))
    const next = z.slice(2 * units).map((x, u) => {
      const after = tape.multiply(gates[units + u]!, product[2 * units + u]!)
      const candidate = activate(tape.add(x, after))
      return tape.multiplyAdd(gates[u]!, tape.subtract(h![u]!, candidate), candidate)
    })
    return [next]
  },
}

/** The cell that checked settings ask for. */
export function cellOf(cell: Cell, { reset_after }: RecurrentConfig): Cell {
  return reset_after ? gruAfter : cell
}

const initialisers = ['kernel_initializer', 'recurrent_initializer', 'bias_initializer']
const refused = ['kernel', 'recurrent', 'bias'].flatMap((name) => [
  `${name}_regularizer`,
  `${name}_constraint`,
])
/** Settings that change nothing here: how weights start, and how others compute the same. */
const passed = [
  ...initialisers,
  'unit_forget_bias',
  'implementation',
  'unroll',
  'use_cudnn',
  'seed',
]
/** Settings of which only the absent or false one is known here. */
const off = ['return_state', 'stateful', 'time_major', 'zero_output_for_mask']

export const recurrentSettings = [
  ...[
    'units',
    'activation',
    'recurrent_activation',
    'use_bias',
    'return_sequences',
    'go_backwards',
    'reset_after',
  ],
  ...['dropout', 'recurrent_dropout', 'activity_regularizer', ...passed, ...refused, ...off],
]

/** Checked settings of an LSTM or GRU. */
export interface RecurrentConfig extends Config {
  units: number
  activation: CellActivation
  recurrent_activation: CellActivation
  return_sequences: boolean
  go_backwards: boolean
  /** Of a GRU alone. */
  reset_after?: boolean
  /** Share of the input's values that a step of training drops: the same of an example at all steps and for all gates. */
  dropout?: number
}

/** Shape rule of both. A missing recurrent_activation is hard_sigmoid and a missing reset_after false, as in tfjs-layers. */
export function readRecurrent(
  cell: Cell,
  config: Config,
  inputs: readonly Shape[],
  where: Where,
): Read {
  const shape = only(inputs)
  if (shape.length !== 2) throw wrong(where('input'), `[${shape}]`, 'two axes: steps and values')
  const [steps, width] = shape as [number, number]
  absent(config, where, [...refused, 'activity_regularizer'])
  for (const key of off) {
    if (flag(config[key], false, where(key))) throw wrong(where(key), 'true', 'false')
  }
  finite(config.recurrent_dropout ?? 0, 0, 0, where('recurrent_dropout'))
  const dropout = finite(config.dropout ?? 0, 0, MAX_RATE, where('dropout'))
  const units = integer(config.units, 1, MAX_UNITS, where('units'))
  const useBias = flag(config.use_bias, true, where('use_bias'))
  const resetAfter = flag(config.reset_after, false, where('reset_after'))
  if (resetAfter && cell === lstm)
    throw wrong(where('reset_after'), 'true', 'false: an LSTM has no reset gate')
  const sequences = flag(config.return_sequences, false, where('return_sequences'))
  const known = (key: string, missing: CellActivation) =>
    cellActivation(config[key] ?? missing, where(key))
  const clean: RecurrentConfig = {
    units,
    activation: known('activation', 'tanh'),
    recurrent_activation: known('recurrent_activation', 'hard_sigmoid'),
    use_bias: useBias,
    return_sequences: sequences,
    go_backwards: flag(config.go_backwards, false, where('go_backwards')),
    ...Object.fromEntries(initialisers.map((key) => [key, zeros])),
    ...(cell === gru ? { reset_after: resetAfter } : { unit_forget_bias: false }),
    ...(dropout > 0 ? { dropout } : {}),
  }
  const columns = cell.gates * units
  const weight = (name: string, of: number[]) => ({ name, shape: of, role: 'trainable' as const })
  return {
    config: clean,
    outputShape: sequences ? [steps, units] : [units],
    weights: [
      weight('kernel', [width, columns]),
      weight('recurrent_kernel', [units, columns]),
      ...(useBias ? [weight('bias', resetAfter ? [2, columns] : [columns])] : []),
    ],
  }
}

function cellActivation(name: unknown, where: string): CellActivation {
  if ((cellActivations as readonly unknown[]).includes(name)) return name as CellActivation
  throw wrong(where, quoted(name), `one of ${cellActivations.join(', ')}`)
}

/** Multiply-adds of one example's run over the steps. */
export function workOf(cell: Cell, config: Config, [steps, width]: Shape): number {
  const { units } = config as RecurrentConfig
  return steps! * cell.gates * units * (width! + units)
}

/** Where the outputs of a run over the steps go; distances in bytes, negative ones to turn time round. */
export interface Outputs {
  to: Address
  byStep: number
  byExample: number
}

export interface Run {
  cell: Cell
  config: RecurrentConfig
  /** Before the weights' names: `forward_lstm/`. */
  prefix: string
  /** [steps, width] of an example. */
  inputShape: readonly number[]
  outputs: Outputs
  /** Where their gradient lies, in the same order. */
  gradients: Outputs
  /** For draws of dropout. */
  salt: number
  /** Adds to the input's gradient, since another run has written there. */
  addsGradient: boolean
}

/**
 * Emits a run over the steps and its gradient.
 *
 * Time comes first in here, so that each step's rows lie together: one product for all inputs, one small product a step, and
 * one product for each weight's gradient over all steps and examples.
 */
export function runInto(planner: Planner, run: Run): void {
  const { cell, config, prefix, outputs, gradients } = run
  const [steps, width] = run.inputShape as [number, number]
  const { batch } = planner
  const { units } = config
  const columns = cell.gates * units
  const rows = steps * batch
  const state = batch * units
  const weight = (name: string) => planner.weight(prefix + name)
  const x = planner.keep(rows * width)
  const z = planner.keep(rows * columns)
  const states = planner.keep(state + rows * units)
  const kept = cell.kept.map((kind) => planner.keep(rows * units + (kind === 'states' ? state : 0)))
  const packed = cell.packed(units)
  const settings = [steps, batch, units, ...codesOf(config)]
  const ofProduct = FLOAT_BYTES * columns // where the second bias begins

  const inputs = inOrder(planner.input(0), width)
  const timeMajor = { to: x, byStep: FLOAT_BYTES * batch * width, byExample: FLOAT_BYTES * width }
  copyInto(planner, 'forward', inputs, timeMajor, { steps, width })
  dropInto('forward')
  multiplyInto(planner, 'forward', {
    ...{ a: x, aRow: width, aColumn: 1 },
    ...{ b: weight('kernel'), bRow: columns, bColumn: 1 },
    ...{ to: z, rows, columns, depth: width, bias: weight('bias') },
  })
  planner.forward(
    `${cell.name}Forward`,
    ...[z, weight('recurrent_kernel'), planner.scratch(packed), states, ...kept, ...settings],
    ...(cell.biases === 2 ? [weight('bias') && weight('bias') + ofProduct] : []),
  )
  const every = config.return_sequences
  const shown = every ? { steps, width: units } : { steps: 1, width: units }
  const stateBytes = FLOAT_BYTES * state
  const ofState = { byStep: stateBytes, byExample: FLOAT_BYTES * units }
  const first = every ? 1 : steps
  copyInto(planner, 'forward', { to: states + first * stateBytes, ...ofState }, outputs, shown)
  if (!planner.training) return

  const gradient = planner.keep(rows * units)
  if (!every) planner.backward('clear', gradient, rows * units)
  const last = { to: gradient + (every ? 0 : (steps - 1) * stateBytes), ...ofState }
  copyInto(planner, 'backward', gradients, last, shown)
  const scratch = planner.scratch(packed + (cell.spare ? state : 0))
  planner.backward(
    `${cell.name}Backward`,
    ...[z, weight('recurrent_kernel'), scratch, ...cell.seen(states, kept), gradient],
    ...(cell.spare ? [scratch + FLOAT_BYTES * packed] : []),
    ...settings,
  )
  const [kernel, recurrent, bias] = ['kernel', 'recurrent_kernel', 'bias'].map((name) =>
    planner.weightGradient(prefix + name),
  ) as [Address, Address, Address]
  if (bias) planner.backward('sumRows', z, bias, rows, columns)
  if (bias && cell.biases === 2) {
    const [from, to] = [bias, bias + ofProduct]
    copyInto(planner, 'backward', rowAt(from), rowAt(to), {
      steps: 1,
      examples: 1,
      width: 2 * units,
    })
    planner.backward('sumRows', kept[0]!, to + 2 * FLOAT_BYTES * units, rows, units)
  }
  if (recurrent) cell.weigh({ planner, z, states, kept, to: recurrent, rows, units })
  if (kernel)
    multiplyInto(planner, 'backward', {
      ...{ a: x, aRow: 1, aColumn: width },
      ...{ b: z, bRow: columns, bColumn: 1 },
      ...{ to: kernel, rows: width, columns, depth: rows },
    })
  const to = planner.inputGradient(0)
  if (!to) return
  multiplyInto(planner, 'backward', {
    ...{ a: z, aRow: columns, aColumn: 1 },
    ...{ b: weight('kernel'), bRow: 1, bColumn: columns },
    ...{ to: x, rows, columns: width, depth: columns },
  })
  dropInto('backward')
  copyInto(planner, 'backward', timeMajor, inOrder(to, width), {
    ...{ steps, width },
    add: run.addsGradient,
  })

  /** Drops values of the input, or of its gradient, where a layer learns: a frozen one makes the same of an example always. */
  function dropInto(direction: 'forward' | 'backward'): void {
    const { dropout = 0 } = config
    if (dropout === 0 || !planner.training || planner.frozen) return
    const drawn = [limitOf(dropout), 1 / (1 - dropout), planner.seed, run.salt, width]
    planner[direction]('dropoutSteps', x, steps, batch * width, ...drawn)
  }

  /** Batch-major places in the order of the run. */
  function inOrder(at: Address, values: number): Outputs {
    const byStep = FLOAT_BYTES * values
    const byExample = steps * byStep
    if (!config.go_backwards) return { to: at, byStep, byExample }
    return { to: at + (steps - 1) * byStep, byStep: -byStep, byExample }
  }
}

function rowAt(to: Address): Outputs {
  return { to, byStep: 0, byExample: 0 }
}

function copyInto(
  planner: Planner,
  direction: 'forward' | 'backward',
  from: Outputs,
  to: Outputs,
  size: { steps: number; examples?: number; width: number; add?: boolean },
): void {
  const { steps, examples = planner.batch, width, add = false } = size
  planner[direction](
    'copyRows',
    ...[from.to, from.byStep, from.byExample, to.to, to.byStep, to.byExample],
    ...[steps, examples, width, add ? 1 : 0],
  )
}

function codesOf({ activation, recurrent_activation }: RecurrentConfig): number[] {
  return [activation, recurrent_activation].map((name) => cellActivations.indexOf(name))
}

/** The outputs of a run as [batch][step][units] in the run's own order, on the tape. */
export function ranOver(
  cell: Cell,
  config: RecurrentConfig,
  x: Values,
  context: ReferenceContext,
): number[][][] {
  const { tape, weight } = context
  const [batch, steps, width] = x.shape as [number, number, number]
  const { units } = config
  const [kernel, recurrent, bias] = [weight('kernel')!, weight('recurrent_kernel')!, weight('bias')]
  const functions = functionsOf(tape)
  const [activate, gate] = [functions[config.activation], functions[config.recurrent_activation]]
  const nothing = tape.constant(0)
  const { dropout = 0 } = config
  const scale = tape.constant(1 / (1 - dropout))
  const kept = (value: number, place: number) => {
    if (dropout === 0 || !context.training) return value
    return isKept(context, dropout, place) ? tape.multiply(value, scale) : nothing
  }
  return Array.from({ length: batch }, (_, b) => {
    const count = cell.kept.filter((kind) => kind === 'states').length + 1
    let states = Array.from({ length: count }, () => Array.from({ length: units }, () => nothing))
    return Array.from({ length: steps }, (_, t) => {
      const at = (b * steps + (config.go_backwards ? steps - 1 - t : t)) * width
      const values = Array.from({ length: width }, (_, i) => kept(x.at[at + i]!, b * width + i))
      const z = Array.from({ length: cell.gates * units }, (_, j) => {
        const sum = along(tape, values, kernel, j)
        return bias ? tape.add(sum, bias.at[j]!) : sum
      })
      states = cell.step({ tape, z, states, recurrent, bias, units, activate, gate })
      return states[0]!
    })
  })
}

/** Outputs as a layer gives them: every step, or the last. */
export function shownOf(
  outputs: number[][][],
  { return_sequences, units }: RecurrentConfig,
): Values {
  if (return_sequences)
    return { shape: [outputs.length, outputs[0]!.length, units], at: outputs.flat(2) }
  return { shape: [outputs.length, units], at: outputs.flatMap((steps) => steps.at(-1)!) }
}

function functionsOf(tape: Tape): Record<CellActivation, (x: number) => number> {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
  const within = (x: number) => Math.abs(x) < 2.5
  const applied = (value: (x: number) => number, slope: (x: number) => number) => (x: number) =>
    tape.apply(x, value, slope)
  return {
    linear: (x) => x,
    relu: applied(
      (x) => Math.max(0, x),
      (x) => (x > 0 ? 1 : 0),
    ),
    tanh: applied(Math.tanh, (x) => 1 - Math.tanh(x) ** 2),
    sigmoid: applied(sigmoid, (x) => sigmoid(x) * (1 - sigmoid(x))),
    hard_sigmoid: applied(
      (x) => Math.min(1, Math.max(0, 0.2 * x + 0.5)),
      (x) => (within(x) ? 0.2 : 0),
    ),
  }
}

/** Σ values[i] · matrix[i, column] */
function along(tape: Tape, values: number[], { shape, at }: Values, column: number): number {
  const columns = shape[1]!
  return values.reduce(
    (sum, x, i) => tape.multiplyAdd(x, at[i * columns + column]!, sum),
    tape.constant(0),
  )
}

/** An LSTM or GRU layer. */
export function recurrentLayer(cell: Cell): LayerRule {
  return {
    settings: recurrentSettings,
    read: (config, inputs, where) => readRecurrent(cell, config, inputs, where),
    work: ({ config, inputShapes: [shape] }) => workOf(cell, config, shape!),

    plan({ config, inputShapes: [shape] }, planner) {
      const checked = config as RecurrentConfig
      const byStep = FLOAT_BYTES * checked.units
      const byExample = checked.return_sequences ? shape![0]! * byStep : byStep
      runInto(planner, {
        ...{ cell: cellOf(cell, checked), config: checked, prefix: '', inputShape: shape! },
        outputs: { to: planner.output(), byStep, byExample },
        gradients: { to: planner.training ? planner.outputGradient() : 0, byStep, byExample },
        ...{ salt: planner.salt, addsGradient: false },
      })
    },

    reference({ config }, [x], context) {
      const checked = config as RecurrentConfig
      return shownOf(ranOver(cellOf(cell, checked), checked, x!, context), checked)
    },
  }
}
