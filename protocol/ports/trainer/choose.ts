import type { Simd } from '../../engine/engine.ts'
import type { Config } from '../../engine/layers/rule.ts'
import { Fault, faultFrom } from '../../errors.ts'
import { sizeOf } from '../../params.ts'
import { normal, randomFrom } from '../../random.ts'
import type { BackendName } from './commands.ts'
import { unplannedLayersOf } from './engine.ts'
import { sayRemark } from './remarks.ts'
import type { Topology } from './topology.ts'
import type { Batch, Trainer } from './trainer.ts'

/** The ways to train that a host has. */
export interface Ways {
  engine(topology: Topology, simd: Simd | 'auto'): Promise<Trainer>
  tfjs(topology: Topology, backend: 'auto' | 'wasm' | 'cpu'): Promise<Trainer>
  /** What it has besides: a GPU's backend in a page, `tfjs-node` where the operator installed it. */
  others: readonly Candidate[]
  /** Milliseconds, monotonic. */
  now(): number
}

export interface Candidate {
  /** What its trainer calls itself when it is what computes. */
  backend: string
  start(topology: Topology): Promise<Trainer>
}

/** Who trains a model, as far as that follows from what was asked for and from its layers. */
export type Choice =
  | { type: 'engine'; simd: Simd | 'auto' }
  | { type: 'tfjs'; backend: 'auto' | 'wasm' | 'cpu' }
  /** One of the host's others. */
  | { type: 'other'; backend: BackendName }

/**
 * The one place that chooses what computes. What was asked for is taken. `auto` takes the engine where it plans every layer,
 * else TensorFlow.js; or one of the host's others, when a trial step of it has the same loss, gradient and predictions and
 * is faster. Who was passed over, and any backend that is not the one asked for, stands in the trainer's `remarks`.
 * Throws Fault `no-backend` when what was asked for cannot train the model or does not start.
 */
export async function startTrainer(
  topology: Topology,
  { backend, batchSize }: { backend: BackendName; batchSize: number },
  ways: Ways,
): Promise<Trainer> {
  const choice = chooseTrainer(backend, unplannedLayersOf(topology))
  if (choice.type === 'other') return startOther(topology, choice.backend, ways)
  const own: Candidate = {
    backend: nameOf(choice),
    start: (topology) =>
      choice.type === 'engine'
        ? ways.engine(topology, choice.simd)
        : ways.tfjs(topology, choice.backend),
  }
  const { winner, remarks } =
    backend === 'auto' && ways.others.length > 0
      ? await tryAll(own, topology, batchSize, ways)
      : { winner: own, remarks: [] }
  const trainer = await winner.start(topology)
  const other = otherOf(winner, trainer)
  return { ...trainer, remarks: other ? [...remarks, other] : remarks }
}

async function startOther(
  topology: Topology,
  backend: BackendName,
  { others }: Ways,
): Promise<Trainer> {
  const candidate = others.find((other) => other.backend === backend)
  if (!candidate) throw noBackend(backend, `there is no ${backend} here`)
  const trainer = await candidate.start(topology)
  const other = otherOf(candidate, trainer)
  if (other === undefined) return trainer
  trainer.close()
  throw noBackend(backend, other)
}

/** As `startTrainer` has it, without the host's others. */
export function chooseTrainer(backend: BackendName, unplanned: readonly string[]): Choice {
  if (backend === 'wasm' || backend === 'cpu') return { type: 'tfjs', backend }
  if (!trainsByEngine(backend)) return { type: 'other', backend }
  if (unplanned.length === 0)
    return { type: 'engine', simd: backend === 'engine-plain' ? 'plain' : 'auto' }
  if (backend === 'auto') return { type: 'tfjs', backend }
  throw noBackend(backend, `the backend ${backend} does not train ${unplanned.join(', ')}`)
}

/** Whether what was asked for may be the engine. */
export function trainsByEngine(
  backend: BackendName,
): backend is 'auto' | 'engine' | 'engine-plain' {
  return backend === 'auto' || backend === 'engine' || backend === 'engine-plain'
}

/** What a choice is called when it is what computes: of an engine either build will do. */
function nameOf(choice: Exclude<Choice, { type: 'other' }>): string {
  if (choice.type === 'engine') return 'engine'
  return choice.backend === 'auto' ? 'wasm' : choice.backend
}

/** That something else computes, or undefined. */
function otherOf({ backend }: Candidate, trainer: Trainer): string | undefined {
  const name = trainer.backend === 'engine-plain' ? 'engine' : trainer.backend
  return name === backend ? undefined : sayRemark('another', { backend, other: trainer.backend })
}

/** Relative difference of two trials that we blame on rounding. */
const ROUNDING = 1e-3
/** A backend that gains less than this is not worth what it may do differently. */
const GAIN = 1.1
const TRIAL_SEED = 1
/** Of which the quickest counts: the first compiles. */
const TRIAL_STEPS = 4

interface Trial {
  ms: number
  loss: number
  gradient: Float32Array
  probabilities: Float32Array
}

/** One after another, since two backends of TensorFlow.js cannot run at once; the first is what the others are held to. */
async function tryAll(
  own: Candidate,
  topology: Topology,
  batchSize: number,
  { others, now }: Ways,
): Promise<{ winner: Candidate; remarks: string[] }> {
  const bare = withoutChance(topology)
  const reference = await tryOne(own)
  let best = { candidate: own, ms: reference.ms }
  const remarks: string[] = []
  for (const candidate of others) {
    const { backend } = candidate
    try {
      const trial = await tryOne(candidate)
      const difference = differenceOf(trial, reference)
      if (!(difference <= ROUNDING))
        remarks.push(
          sayRemark('differs', {
            ...{ backend, difference: difference.toPrecision(2), most: String(ROUNDING) },
          }),
        )
      else if (trial.ms * GAIN > best.ms)
        remarks.push(
          sayRemark('slower', {
            ...{ backend, ms: trial.ms.toFixed(2) },
            ...{ other: best.candidate.backend, otherMs: best.ms.toFixed(2) },
          }),
        )
      else best = { candidate, ms: trial.ms }
    } catch (thrown) {
      remarks.push(sayRemark('failed', { backend, why: faultFrom(thrown).message }))
    }
  }
  return { winner: best.candidate, remarks }

  async function tryOne(candidate: Candidate): Promise<Trial> {
    const trainer = await candidate.start(bare)
    try {
      const other = otherOf(candidate, trainer)
      if (other && candidate !== own) throw noBackend(candidate.backend, other)
      return trialOf(trainer, batchSize, now)
    } finally {
      trainer.close()
    }
  }
}

function trialOf(trainer: Trainer, batchSize: number, now: () => number): Trial {
  const { params, batch } = problemOf(trainer, batchSize)
  const learning = learningOf(trainer, batch)
  const own = trainer.floats(params.length)
  const gradient = trainer.floats(params.length)
  let ms = Number.POSITIVE_INFINITY
  let loss = 0
  for (let step = 0; step < TRIAL_STEPS; step++) {
    own.set(params) // BatchNorm statistics have moved
    const startedAt = now()
    loss = learning.trainer.gradientInto(gradient, own, learning.batch)
    ms = Math.min(ms, now() - startedAt)
  }
  trainer.load(params)
  const probabilities = trainer.predict(batch.inputs, batch.size)
  return { ms, loss, gradient: gradient.slice(), probabilities }
}

/** What a step in training is: where the features of a frozen start are kept, one of the rest on them, with the same gradient. */
function learningOf(trainer: Trainer, batch: Batch): { trainer: Trainer; batch: Batch } {
  const { features } = trainer
  if (!features) return { trainer, batch }
  const inputs = features.of(batch.inputs, batch.size)
  return { trainer: features.rest, batch: { ...batch, inputs } }
}

/** Small random params and inputs; they stand for whole numbers where the model wants some. */
function problemOf({ tensors, inputSize, outputSize }: Trainer, size: number) {
  const random = randomFrom(TRIAL_SEED)
  const params = new Float32Array(sizeOf(tensors))
  let at = 0
  for (const { shape, role } of tensors) {
    const count = shape.reduce((a, b) => a * b, 1)
    const spread = 1 / Math.sqrt(count / shape.at(-1)! + 1)
    for (const end = at + count; at < end; at++)
      params[at] = role === 'trainable' ? spread * normal(random) : role === 'mean' ? 0 : 1
  }
  const batch: Batch = {
    inputs: Float32Array.from({ length: size * inputSize }, () => 2 * random()),
    labels: Int32Array.from({ length: size }, (_, i) => i % outputSize),
    ...{ size, seed: TRIAL_SEED },
  }
  return { params, batch }
}

/** The largest of three relative differences: of loss, gradient and predictions. */
function differenceOf(trial: Trial, reference: Trial): number {
  return Math.max(
    Math.abs(trial.loss - reference.loss) / Math.abs(reference.loss),
    relative(trial.gradient, reference.gradient),
    relative(trial.probabilities, reference.probabilities),
  )
}

function relative(got: Float32Array, wanted: Float32Array): number {
  let difference = 0
  let size = 0
  for (let i = 0; i < wanted.length; i++) {
    difference += (got[i]! - wanted[i]!) ** 2
    size += wanted[i]! ** 2
  }
  return Math.sqrt(difference / size)
}

/** Each backend drops other units: a trial drops none. */
function withoutChance(topology: Topology): Topology {
  const layers = topology.layers.map((layer) => ({ ...layer, config: steady(layer.config) }))
  return { ...topology, layers }
}

/** A layer's settings without rates of dropout, and those of a layer in it. */
function steady(config: Config): Config {
  const inner = config.layer as { config: Config } | undefined
  return {
    ...config,
    ...('rate' in config ? { rate: 0 } : {}),
    ...('dropout' in config ? { dropout: 0 } : {}),
    ...(inner ? { layer: { ...inner, config: steady(inner.config) } } : {}),
  }
}

function noBackend(backend: string, message: string): Fault {
  const hint = 'try --backend auto'
  return new Fault({ kind: 'resource', type: 'no-backend', backend, message, hint })
}
