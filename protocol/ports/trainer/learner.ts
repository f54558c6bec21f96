import { sha256 } from 'multiformats/hashes/sha2'
import type { AggregatorState, Momentum } from '../../aggregate/aggregator.ts'
import { adoptMomentum, startRound, stepped, weightOf } from '../../aggregate/momentum.ts'
import { aggregators } from '../../aggregate/table.ts'
import { VALUE_CAP } from '../../codec/codec.ts'
import { diverged } from '../../codec/float32.ts'
import { decodeStateInto, encodeState } from '../../codec/state.ts'
import { codecs } from '../../codec/table.ts'
import { Fault, faultFrom, invariant } from '../../errors.ts'
import type { Optimizer } from '../../optimizer.ts'
import { sizeOf } from '../../params.ts'
import type { DataReport, Examples, Split } from '../examples.ts'
import { type Affine, affineOf } from '../preprocess.ts'
import { awaited, tellerOf, watched } from '../progress.ts'
import { type Batches, createBatches, type Place } from './batches.ts'
import { breathe } from './breathe.ts'
import {
  type Checkpoint,
  type CheckpointFile,
  encodeCheckpoint,
  readCheckpoint,
} from './checkpoint.ts'
import type { Command, ProgressOf, WorkerEvent, WorkerInit } from './commands.ts'
import { allRows, evaluate } from './evaluate.ts'
import { featuresOf, fits, unchanged } from './features.ts'
import { sayRemark } from './remarks.ts'
import type { Features, Trainer } from './trainer.ts'

/**
 * The learner: what both hosts' workers run. It owns the live params and moves them by data (Trainer, Optimizer) and by
 * neighbours (Aggregator); commands come in, events go out, and every command is served between two steps.
 *
 * The same seed, data and order of commands between steps give the same params to the last bit.
 */
export interface Learner {
  /** Takes a command; answers come as events. After `stop` all are ignored. */
  receive(command: Command): void
  /** Resolves after `stopped` or `failed`. */
  ended: Promise<void>
}

/** What a host brings. */
export interface LearnerPorts {
  createTrainer(init: WorkerInit): Promise<Trainer>
  /** Reads and splits the user's data, and reads the version's. Throws Fault data. */
  loadData(init: WorkerInit, seed: number): Promise<LearnerData>
  checkpoints: CheckpointFile
  send(event: WorkerEvent, transfer: ArrayBuffer[]): void
  /** Milliseconds, monotonic. */
  now(): number
}

export interface LearnerData {
  /** The user's, and its rows for training and validation. */
  examples: Examples
  split: Split
  report: DataReport
  /** What the version brought to measure on. */
  evaluation: Examples | undefined
}

/** A checkpoint is written after this many settled swaps, or this long after the last one, whichever comes first. */
const SWAPS_PER_CHECKPOINT = 20
const CHECKPOINT_EVERY_MS = 60_000
/** The first comes sooner: whoever stays for a minute only keeps something, and a full disk is told of early. */
const FIRST_CHECKPOINT_MS = 10_000
/** An offerer answers for this many of its last swaps. */
const OUTCOMES_KEPT = 64
/** Rests are gathered until they last this long: a browser's timers are no finer than 4 ms. */
const REST_MS = 20
/** Who computes features for longer than this is told of it before. */
const PREPARING_MS = 1000
/**
 * Between steps messages are let in this often, not after each: a turn of a browser's event loop takes some 50 to 80 µs, and a
 * step of a small model half a millisecond.
 */
const BREATHE_MS = 4
/** Steps timed before anything else, of which the quickest counts: the first compiles. */
const TRIAL_STEPS = 3

/**
 * Builds the trainer, says `device`, reads data and checkpoint, says `ready` and serves; where a model begins with frozen layers,
 * `device` comes after the data. Errors come as `failed`, never as a throw. Takes over
 * `init`: its bytes are let go once they are read.
 */
export function runLearner(init: WorkerInit, ports: LearnerPorts): Learner {
  const queue: Command[] = []
  let wake = () => {}
  const woken = (limitMs: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  return {
    receive(command) {
      queue.push(command)
      wake()
    },
    ended: live(init, ports, { queue, woken }),
  }
}

interface Mailbox {
  queue: Command[]
  /** Resolves at the next command, or after the limit. */
  woken(limitMs: number): Promise<void>
}

async function live(init: WorkerInit, ports: LearnerPorts, mailbox: Mailbox): Promise<void> {
  let mind: Mind | undefined
  try {
    mind = await awaken(init, ports)
    await serveAll(mind, mailbox)
    await save(mind)
    ports.send({ type: 'stopped' }, [])
  } catch (thrown) {
    ports.send({ type: 'failed', detail: faultFrom(thrown).detail }, [])
  } finally {
    mind?.whole.close()
  }
}

/** All state there is. */
interface Mind {
  init: WorkerInit
  ports: LearnerPorts
  /** What the host made, to be closed; and what takes the data's examples, the whole or what follows its frozen start. */
  whole: Trainer
  trainer: Trainer
  data: LearnerData
  /** Prepares the data's examples for it. */
  affine: Affine
  batches: Batches | undefined
  state: AggregatorState
  optimizer: Optimizer
  gradient: Float32Array
  seed: number
  steps: number
  rounds: number
  swaps: number
  outcomes: string[]
  place: Place
  /** Swaps settled since the last checkpoint, when that was, and whether anything has moved since. */
  unsaved: number
  savedAt: number
  moved: boolean
  /** When messages were last let in. */
  breathedAt: number
  pace: Pace
}

/** How hard a learner works. */
interface Pace {
  /** Of the time, for steps. */
  share: number
  /** Milliseconds of rest that the steps so far have earned; below 0 they were paid in advance. */
  owed: number
}

async function awaken(init: WorkerInit, ports: LearnerPorts): Promise<Mind> {
  const trainer = await ports.createTrainer(init)
  try {
    return await awakenWith(trainer, init, ports)
  } catch (thrown) {
    trainer.close()
    throw thrown
  }
}

async function awakenWith(trainer: Trainer, init: WorkerInit, ports: LearnerPorts): Promise<Mind> {
  const { features } = trainer
  const early = features ? undefined : sayDevice(trainer, init, ports)
  const found = init.resume
    ? await readCheckpoint(ports.checkpoints, init.genesis, sizeOf(trainer.tensors))
    : undefined
  const seed = found?.facts.seed ?? init.seed
  const given = await ports.loadData(init, seed)
  // Whether a step runs the frozen start, and how often that runs before, follows from how much data there is.
  const device = early ?? sayDevice(trainer, init, ports, countOf(given))
  const mind = newMind(init, ports, await preparedFor(trainer, given, init, ports), seed)
  Object.assign(init, { params: new Uint8Array(0), frozen: undefined, evalFiles: [] }) // read: nothing holds them any longer
  if (found) restore(mind, found)
  const { steps, rounds, swaps, outcomes } = mind
  const resumed = found !== undefined
  const ready = { steps, rounds, swaps, outcomes, resumed, data: given.report }
  ports.send({ ...device, type: 'ready', ...ready }, [])
  return mind
}

export type Device = Extract<WorkerEvent, { type: 'device' }>

/** Times what training will do with so many examples, where it is to train at all, and says it. */
function sayDevice(trainer: Trainer, init: WorkerInit, ports: LearnerPorts, count = 0): Device {
  const { backend, threads, remarks = [] } = trainer
  const device: Device = init.data
    ? measureDevice(trainer, init, ports, count)
    : { type: 'device', backend, threads, msPerStep: 0, remarks }
  ports.send(device, [])
  return device
}

/** What this device does with a model in training, on so many examples. Nothing is learned from it; `send` hears how far it is. */
export function measureDevice(
  trainer: Trainer,
  init: Pick<WorkerInit, 'manifest' | 'params'>,
  ports: Pick<LearnerPorts, 'now' | 'send'>,
  count: number,
): Device {
  const { backend, threads, features, remarks = [] } = trainer
  const kept = features && fits(features, count) ? features : undefined
  const msPerStep = timeStep(kept?.rest ?? trainer, init, ports)
  const more = features ? remarkOn(trainer, features, init, ports, count) : []
  return { type: 'device', backend, threads, msPerStep, remarks: [...remarks, ...more] }
}

/** What the frozen start costs: before the first round, or in each step. */
function remarkOn(
  { inputSize }: Trainer,
  features: Features,
  { manifest }: Pick<WorkerInit, 'manifest'>,
  ports: Pick<LearnerPorts, 'now' | 'send'>,
  count: number,
): string[] {
  const examples = count.toLocaleString('en')
  if (!fits(features, count)) return [sayRemark('no-room', { examples })]
  const size = manifest.train.batchSize
  const inputs = new Float32Array(size * inputSize)
  const ms = (timed(ports, () => features.of(inputs, size)) * count) / size
  if (ms < PREPARING_MS) return []
  return [sayRemark('features-first', { examples, seconds: String(Math.ceil(ms / 1000)) })]
}

function countOf({ examples, evaluation }: LearnerData): number {
  return examples.size + (evaluation?.size ?? 0)
}

/** Data, and who trains on it after which preparation. */
type Prepared = Pick<Mind, 'whole' | 'trainer' | 'data' | 'affine'>

/** With features in place of examples where the model begins with frozen layers, and there is room for them. */
async function preparedFor(
  whole: Trainer,
  data: LearnerData,
  { manifest }: WorkerInit,
  ports: LearnerPorts,
): Promise<Prepared> {
  const { features } = whole
  const affine = affineOf(manifest)
  const count = countOf(data)
  if (!features || !fits(features, count)) return { whole, trainer: whole, data, affine }
  const far = tellerOf(ports.now(), awaited, sayFar(ports, 'data', count))
  const kept = (examples: Examples, before: number) =>
    featuresOf(features, examples, affine, async (done) => {
      far(ports.now(), before + done)
      await breathe()
    })
  const examples = await kept(data.examples, 0)
  const evaluation = data.evaluation && (await kept(data.evaluation, examples.size))
  return {
    ...{ whole, trainer: features.rest, affine: unchanged },
    data: { ...data, examples, evaluation },
  }
}

function newMind(init: WorkerInit, ports: LearnerPorts, prepared: Prepared, seed: number): Mind {
  const { train, gossip } = init.manifest
  const { trainer, data, affine } = prepared
  const { tensors } = trainer
  const params = trainer.floats(sizeOf(tensors))
  params.set(floatsFrom(init.params, params.length))
  const momentum = init.noMomentum ? 0 : train.momentum
  const rows = data.split.train
  const options = { batchSize: train.batchSize, seed }
  return {
    init,
    ports,
    ...prepared,
    batches: rows.length > 0 ? createBatches(data.examples, rows, affine, options) : undefined,
    state: aggregators[gossip.rule].init(params, {
      ...{ tensors, momentum },
      stepsPerRound: train.stepsPerRound,
      floats: trainer.floats,
    }),
    optimizer: trainer.createOptimizer(train.optimizer),
    gradient: trainer.floats(params.length),
    seed,
    steps: 0,
    rounds: 0,
    swaps: 0,
    outcomes: [],
    place: { epoch: 0, position: 0 },
    unsaved: 0,
    savedAt: ports.now() - CHECKPOINT_EVERY_MS + FIRST_CHECKPOINT_MS,
    moved: false,
    breathedAt: Number.NEGATIVE_INFINITY,
    pace: { share: 1, owed: 0 },
  }
}

/** Times a step of the version's params on a batch of zeros: nothing is learned from it. */
function timeStep(
  trainer: Trainer,
  { manifest, params: bytes }: Pick<WorkerInit, 'manifest' | 'params'>,
  ports: Pick<LearnerPorts, 'now' | 'send'>,
): number {
  const size = manifest.train.batchSize
  const inputs = new Float32Array(size * trainer.inputSize)
  const batch = { inputs, labels: new Int32Array(size), size, seed: 0 }
  const params = floatsFrom(bytes, sizeOf(trainer.tensors))
  const gradient = new Float32Array(params.length)
  return timed(ports, () => trainer.gradientInto(gradient, params, batch))
}

/** Milliseconds of the quickest of some runs. */
function timed(ports: Pick<LearnerPorts, 'now' | 'send'>, work: () => unknown): number {
  const far = tellerOf(ports.now(), awaited, sayFar(ports, 'device', TRIAL_STEPS))
  const times = Array.from({ length: TRIAL_STEPS }, (_, i) => {
    const startedAt = ports.now()
    work()
    const endedAt = ports.now()
    far(endedAt, i + 1)
    return endedAt - startedAt
  })
  return Math.min(...times)
}

/** Sends how much of something is done. */
function sayFar({ send }: Pick<LearnerPorts, 'send'>, of: ProgressOf, total: number) {
  return (done: number) => send({ type: 'progress', of, done, total }, [])
}

/** Commands in order, until `stop`. */
async function serveAll(mind: Mind, mailbox: Mailbox): Promise<void> {
  for (;;) {
    const command = mailbox.queue.shift()
    if (command?.type === 'stop') return
    if (command?.type === 'train') await train(mind, mailbox, command.steps)
    else if (command?.type === 'evaluate') await measure(mind, mailbox, command)
    else if (command) await serve(mind, command)
    else await mailbox.woken(msToCheckpoint(mind))
    await saveIfDue(mind)
  }
}

/**
 * Between two steps: lets messages in, if that is due, and serves those that do not wait for the running job. Answers whether to go on; after
 * `stop` the job is dropped, and so are the jobs behind it, once what came before the stop has been served.
 */
async function pause(mind: Mind, { queue }: Mailbox): Promise<boolean> {
  await breatheIfDue(mind)
  const stop = queue.findIndex(({ type }) => type === 'stop')
  const came = stop < 0 ? queue.splice(0) : queue.splice(0, stop)
  for (const command of came) {
    if (!isJob(command)) await serve(mind, command)
    else if (stop < 0) queue.push(command)
  }
  await saveIfDue(mind)
  return stop < 0
}

async function breatheIfDue(mind: Mind): Promise<void> {
  if (mind.ports.now() - mind.breathedAt < BREATHE_MS) return
  await breathe()
  mind.breathedAt = mind.ports.now()
}

/** Jobs wait for each other; all other commands go before the next step. */
function isJob({ type }: Command): boolean {
  return type === 'train' || type === 'evaluate'
}

async function train(mind: Mind, mailbox: Mailbox, steps: number): Promise<void> {
  let done = 0
  let loss = 0
  let samples = 0
  let ms = 0
  const far = tellerOf(mind.ports.now(), watched, sayFar(mind.ports, 'round', steps))
  startRound(mind.state)
  for (let goOn = true; goOn && done < steps; goOn = await rest(mind, mailbox)) {
    const startedAt = mind.ports.now()
    const { batch } = takeStep(mind)
    loss += batch.loss
    samples += batch.size
    done++
    const endedAt = mind.ports.now()
    const stepMs = endedAt - startedAt
    ms += stepMs
    earnRest(mind.pace, stepMs)
    far(endedAt, done)
  }
  checkFinite(mind)
  mind.rounds++
  const facts = { steps: done, totalSteps: mind.steps, loss: loss / Math.max(1, done), samples, ms }
  mind.ports.send({ type: 'trained', ...facts }, [])
}

function earnRest(pace: Pace, stepMs: number): void {
  pace.owed += stepMs * (1 / pace.share - 1)
}

/** A pause, then rest where the pace asks for it: commands are served meanwhile, and a new pace holds at once. */
async function rest(mind: Mind, mailbox: Mailbox): Promise<boolean> {
  const startedAt = mind.ports.now()
  const left = () => mind.pace.owed - (mind.ports.now() - startedAt)
  let goOn = await pause(mind, mailbox)
  while (goOn && mind.pace.owed >= REST_MS && left() > 0) {
    if (mailbox.queue.every(isJob)) await mailbox.woken(Math.ceil(left()))
    goOn = await pause(mind, mailbox)
  }
  mind.pace.owed = Math.max(-REST_MS, left())
  return goOn
}

function takeStep(mind: Mind): { batch: { loss: number; size: number } } {
  const { trainer, batches, state, optimizer, gradient } = mind
  if (!batches) throw noData(mind)
  const { batch, next } = batches.take(mind.place, dropoutSeed(mind))
  const loss = trainer.gradientInto(gradient, state.params, batch)
  if (!Number.isFinite(loss)) throw lossDiverged(mind.steps, loss)
  const { momentum } = state
  optimizer.step(state.params, gradient, momentum?.direction, momentum && weightOf(momentum))
  stepped(state, optimizer.rate)
  mind.place = next
  mind.steps++
  mind.moved = true
  return { batch: { loss, size: batch.size } }
}

async function measure(
  mind: Mind,
  mailbox: Mailbox,
  { at, on }: Extract<Command, { type: 'evaluate' }>,
): Promise<void> {
  const { data, affine, trainer, state } = mind
  const own = on === 'validation' || (on === undefined && data.evaluation === undefined)
  const examples = own ? data.examples : (data.evaluation ?? { ...data.examples, size: 0 })
  const rows = own ? data.split.validation : allRows(examples)
  const startedAt = mind.ports.now()
  const far = tellerOf(startedAt, watched, sayFar(mind.ports, 'evaluation', rows.length))
  const metrics = await evaluate(trainer, state.params, examples, rows, affine, (done) => {
    far(mind.ports.now(), done)
    return pause(mind, mailbox)
  })
  const ms = mind.ports.now() - startedAt
  if (metrics) mind.ports.send({ type: 'evaluated', at, metrics, examples: rows.length, ms }, [])
}

type Served = Exclude<Command, { type: 'train' | 'evaluate' | 'stop' }>

async function serve(mind: Mind, command: Command): Promise<void> {
  const handler = handlers[command.type as Served['type']] as (
    mind: Mind,
    command: Command,
  ) => Promise<void>
  await handler(mind, command)
}

const handlers: {
  [T in Served['type']]: (mind: Mind, command: Extract<Command, { type: T }>) => Promise<void>
} = {
  async give({ state, init, ports }, { nonce, codec }) {
    const params = aggregators[init.manifest.gossip.rule].give(state)
    const bytes = codecs[codec].encode(params, state.tensors)
    ports.send({ type: 'gave', nonce, bytes, digest: await digestOf(bytes) }, [bytes.buffer])
  },

  async settle(mind, { nonce, role, codec: name, sent, received }) {
    const codec = codecs[name]
    const rule = aggregators[mind.init.manifest.gossip.rule]
    const distance = rule.settle(
      mind.state,
      sent && { codec, bytes: sent },
      received.map((bytes) => ({ codec, bytes })),
    )
    mind.swaps++
    mind.unsaved++
    mind.moved = true
    if (role === 'offerer') mind.outcomes = [...mind.outcomes, nonce].slice(-OUTCOMES_KEPT)
    mind.ports.send({ type: 'settled', nonce, distance }, [])
  },

  async 'give-state'({ state, steps, ports }, { nonce }) {
    const bytes = encodeState(state.params, state.momentum?.direction, state.tensors)
    ports.send({ type: 'gave-state', nonce, bytes, digest: await digestOf(bytes), steps }, [
      bytes.buffer,
    ])
  },

  async adopt(mind, { nonce, bytes, steps }) {
    const { state } = mind
    adoptMomentum(state, decodeStateInto(state.params, bytes, state.tensors))
    mind.steps = steps
    mind.moved = true
    mind.ports.send({ type: 'adopted', nonce, steps }, [])
  },

  async pace(mind, { share }) {
    invariant(share > 0 && share <= 1, `a pace is a share of the time, got ${share}`)
    mind.pace = { share, owed: 0 }
  },

  async checkpoint(mind) {
    await save(mind)
  },

  async version({ state, ports }) {
    const bytes = codecs.float32.encode(state.params, state.tensors)
    ports.send({ type: 'version-params', bytes }, [bytes.buffer])
  },
}

async function saveIfDue(mind: Mind): Promise<void> {
  const due = mind.unsaved >= SWAPS_PER_CHECKPOINT || msToCheckpoint(mind) <= 0
  if (mind.moved && due) await save(mind)
}

/** How long until a checkpoint is due; without anything to save, a whole period. */
function msToCheckpoint({ moved, savedAt, ports }: Mind): number {
  return moved ? Math.max(0, savedAt + CHECKPOINT_EVERY_MS - ports.now()) : CHECKPOINT_EVERY_MS
}

/** Params that diverged are never written: the checkpoint before them is worth more. */
async function save(mind: Mind): Promise<void> {
  checkFinite(mind)
  const startedAt = mind.ports.now()
  const parts = await encodeCheckpoint(checkpointOf(mind))
  await mind.ports.checkpoints.write(parts)
  mind.savedAt = mind.ports.now()
  mind.unsaved = 0
  mind.moved = false
  const bytes = parts.reduce((sum, part) => sum + part.length, 0)
  mind.ports.send({ type: 'checkpointed', ms: mind.savedAt - startedAt, bytes }, [])
}

function checkpointOf({ init, state, optimizer, place, ...mind }: Mind): Checkpoint {
  const { params, momentum } = state
  const { seed, steps, rounds, swaps, outcomes } = mind
  return {
    facts: {
      genesis: init.genesis,
      version: init.version,
      ...{ seed, steps, rounds, swaps, outcomes },
      ...place,
      optimizer: { name: optimizer.name, steps: optimizer.steps },
      momentum: momentum ? clockOf(momentum) : null,
    },
    arrays: {
      params,
      ...(momentum && { direction: momentum.direction, anchor: momentum.anchor }),
      ...Object.fromEntries(optimizer.slots.map((slot, i) => [`slot${i}`, slot])),
    },
  }
}

function clockOf({ rateSum, steps, rounds }: Momentum) {
  return { rateSum, steps, rounds }
}

/** Takes over all that still fits: a newer recipe may have another optimizer or no momentum. */
function restore(mind: Mind, { facts, arrays }: Checkpoint): void {
  const { state, optimizer } = mind
  const { steps, rounds, swaps, outcomes, epoch, position } = facts
  Object.assign(mind, { steps, rounds, swaps, outcomes, place: { epoch, position } })
  state.params.set(arrays.params!)
  if (state.momentum) {
    state.momentum.direction.set(arrays.direction ?? state.momentum.direction)
    state.momentum.anchor.set(arrays.anchor ?? state.params)
    Object.assign(state.momentum, facts.momentum ?? {})
  }
  if (facts.optimizer.name !== optimizer.name) return
  optimizer.steps = facts.optimizer.steps
  optimizer.slots.forEach((slot, i) => slot.set(arrays[`slot${i}`] ?? slot))
}

/** What no codec would carry is divergence too: nobody could take it over, and no release could hold it. */
function checkFinite({ state: { params } }: Mind): void {
  for (let i = 0; i < params.length; i++) {
    if (!(Math.abs(params[i]!) <= VALUE_CAP)) throw diverged(i, params[i]!)
  }
}

function lossDiverged(step: number, loss: number): Fault {
  return new Fault({
    kind: 'diverged',
    type: 'diverged',
    step,
    loss,
    message: `training diverged: the loss at step ${step} is ${loss}, expected a finite number`,
    hint: "lower the recipe's learning rate, or check the data's scale",
  })
}

function noData({ data, init }: Mind): Fault {
  const came = init.data ? `${data.split.train.length} examples to train on` : 'no data'
  return new Fault({
    kind: 'data',
    type: 'no-data',
    examples: init.data ? data.split.train.length : 0,
    message: `cannot train: got ${came}, expected at least 1 example`,
    hint: 'give data with --data',
  })
}

/** Dropout draws by the step, so a resumed run drops what it would have dropped. */
function dropoutSeed({ seed, steps }: Mind): number {
  return (seed + 7919 * steps) % 2 ** 31
}

/** float32 little-endian bytes, at any alignment, as an array of our own. */
export function floatsFrom(bytes: Uint8Array, size: number): Float32Array {
  invariant(
    bytes.length === 4 * size,
    `${size} float32 values take ${4 * size} bytes, got ${bytes.length}`,
  )
  const values = new Float32Array(size)
  codecs.float32.decodeBlockInto(values, bytes, 0, size, 0)
  return values
}

async function digestOf(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return (await sha256.digest(bytes)).digest.slice()
}
