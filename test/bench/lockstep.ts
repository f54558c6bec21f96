import {
  type Digits,
  dealDigits,
  digitsDraft,
  digitsModelJson,
  digitsParams,
  readDigits,
  splitDigits,
} from '../../node/samples/digits.ts'
import { createTrainer } from '../../node/trainer.ts'
import type { AggregatorState } from '../../protocol/aggregate/aggregator.ts'
import { follow, stepped, weightOf } from '../../protocol/aggregate/momentum.ts'
import { aggregators } from '../../protocol/aggregate/table.ts'
import { codecs } from '../../protocol/codec/table.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { createOptimizer } from '../../protocol/optimizer.ts'
import { type Examples, splitRows } from '../../protocol/ports/examples.ts'
import { affineOf } from '../../protocol/ports/preprocess.ts'
import { createBatches } from '../../protocol/ports/trainer/batches.ts'
import { allRows, evaluate } from '../../protocol/ports/trainer/evaluate.ts'
import type { Trainer } from '../../protocol/ports/trainer/trainer.ts'
import { type Random, randomFrom, shuffle } from '../../protocol/random.ts'

/**
 * What a swarm is compared with, in one process and in step: each peer alone, centralised training, exact FedAvg. All
 * use the shipped trainer, batches, optimiser and quasi-global momentum, so only the way of averaging differs.
 * `swap` in step is the same with the shipped aggregator and codec: what the network costs is what a real swarm lacks of it.
 */
export type Method = 'alone' | 'central' | 'fedavg' | 'swap'

export interface Lab {
  trainer: Trainer
  manifest: Manifest
}

export interface LockstepOptions {
  method: Method
  /** Local steps between two averages: H. */
  stepsPerRound: number
  rounds: number
  swapsPerRound?: number
  learningRate: number
  seed: number
}

/** Gossip-only swaps at the end, as the Peer does. */
export const SETTLE_SWAPS = 8
export const PEERS = 4

export async function openLab(): Promise<Lab> {
  const { batchSize } = digitsDraft.train
  const trainer = await createTrainer(digitsModelJson, { backend: 'wasm', batchSize })
  return { trainer, manifest: digitsDraft as Manifest }
}

export interface Skew {
  /** What each peer trains on. */
  shares: Examples[]
  /** What all are measured on. */
  test: Examples
}

/** 8,000 digits sorted by label, cut in 8 pieces, 2 for each of 4 peers; 2,000 to test on. */
export async function skewedDigits(seed: number): Promise<Skew> {
  const { train, test } = splitDigits(await readDigits())
  return { shares: dealDigits(train, PEERS, seed).map(examplesOf), test: examplesOf(test) }
}

/** The same without the test digits: 10 % of each peer's are held out, and measured on together. */
export function heldOut({ shares }: Skew, seed: number): Skew {
  const splits = shares.map(({ size }) => splitRows(size, 0.1, randomFrom(seed)))
  return {
    shares: shares.map((share, i) => rowsOf(share, splits[i]!.train)),
    test: joined(shares.map((share, i) => rowsOf(share, splits[i]!.validation))),
  }
}

/** Trains in step and gives each model there is: one of `central` and `fedavg`, one a peer of the others. */
export function train(
  lab: Lab,
  shares: readonly Examples[],
  options: LockstepOptions,
): Float32Array[] {
  const { method, rounds, stepsPerRound, seed } = options
  const data = method === 'central' ? [joined(shares)] : shares
  const walkers = data.map((examples, i) => newWalker(lab, examples, options, i))
  const random = randomFrom(seed)
  // Centralised training sees all the data as often as the peers together do.
  const steps = method === 'central' ? stepsPerRound * shares.length : stepsPerRound
  for (let round = 0; round < rounds; round++) {
    for (const walker of walkers) for (let step = 0; step < steps; step++) walk(lab, walker)
    meet(walkers, options, random)
  }
  if (method === 'swap') for (let i = 0; i < SETTLE_SWAPS; i++) swapAll(walkers, random)
  return walkers.map(({ state }) => state.params)
}

export async function accuracyOf(
  { trainer, manifest }: Lab,
  params: Float32Array,
  examples: Examples,
): Promise<number> {
  const rows = allRows(examples)
  const metrics = await evaluate(
    trainer,
    params,
    examples,
    rows,
    affineOf(manifest),
    async () => true,
  )
  return metrics!.accuracy
}

interface Walker {
  state: AggregatorState
  batches: ReturnType<typeof createBatches>
  place: { epoch: number; position: number }
  optimizer: ReturnType<typeof createOptimizer>
  gradient: Float32Array
}

function newWalker(
  { trainer, manifest }: Lab,
  examples: Examples,
  { learningRate, seed, stepsPerRound }: LockstepOptions,
  index: number,
): Walker {
  const params = new Float32Array(digitsParams(seed).buffer)
  const { tensors } = trainer
  const { batchSize, momentum } = manifest.train
  const options = { batchSize, seed: walkerSeed(seed, index) }
  return {
    state: aggregators.swap.init(params, { tensors, momentum, stepsPerRound }),
    batches: createBatches(examples, allRows(examples), affineOf(manifest), options),
    place: { epoch: 0, position: 0 },
    optimizer: createOptimizer({ name: 'sgd', learningRate }, tensors),
    gradient: new Float32Array(params.length),
  }
}

/** The order of a peer's batches, here and in its own process. */
export function walkerSeed(seed: number, index: number): number {
  return 100 * seed + index
}

function walk({ trainer }: Lab, walker: Walker): void {
  const { state, batches, optimizer, gradient } = walker
  const { batch, next } = batches.take(walker.place, 0)
  trainer.gradientInto(gradient, state.params, batch)
  optimizer.step(
    state.params,
    gradient,
    state.momentum?.direction,
    state.momentum && weightOf(state.momentum),
  )
  stepped(state, optimizer.rate)
  walker.place = next
}

function meet(
  walkers: readonly Walker[],
  { method, swapsPerRound = 1 }: LockstepOptions,
  random: Random,
): void {
  if (method === 'fedavg') averageAll(walkers)
  if (method === 'swap') for (let i = 0; i < swapsPerRound; i++) swapAll(walkers, random)
  else for (const { state } of walkers) follow(state)
}

/** Exact: in float64, equal shares. */
function averageAll(walkers: readonly Walker[]): void {
  const size = walkers[0]!.state.params.length
  for (let i = 0; i < size; i++) {
    let sum = 0
    for (const { state } of walkers) sum += state.params[i]!
    for (const { state } of walkers) state.params[i] = sum / walkers.length
  }
}

/** Everybody meets one other, in pairs drawn at random. */
function swapAll(walkers: readonly Walker[], random: Random): void {
  const order = shuffle(random, [...walkers])
  for (let i = 0; i + 1 < order.length; i += 2) swapPair(order[i]!.state, order[i + 1]!.state)
}

function swapPair(a: AggregatorState, b: AggregatorState): void {
  const codec = codecs.int8
  const [ofA, ofB] = [a, b].map(({ params, tensors }) => ({
    codec,
    bytes: codec.encode(params, tensors),
  }))
  aggregators.swap.settle(a, ofA, [ofB!])
  aggregators.swap.settle(b, ofB, [ofA!])
}

function examplesOf({ size, pixels, labels }: Digits): Examples {
  return { size, width: pixels.length / size, inputs: pixels, labels: Uint16Array.from(labels) }
}

function rowsOf({ width, inputs, labels }: Examples, rows: Uint32Array): Examples {
  const taken = new Uint8Array(rows.length * width)
  rows.forEach((row, i) =>
    taken.set((inputs as Uint8Array).subarray(row * width, (row + 1) * width), i * width),
  )
  return {
    size: rows.length,
    width,
    inputs: taken,
    labels: Uint16Array.from(rows, (row) => labels[row]!),
  }
}

function joined(parts: readonly Examples[]): Examples {
  const { width } = parts[0]!
  const size = parts.reduce((sum, part) => sum + part.size, 0)
  const whole = { size, width, inputs: new Uint8Array(size * width), labels: new Uint16Array(size) }
  let at = 0
  for (const { size, inputs, labels } of parts) {
    whole.inputs.set(inputs, at * width)
    whole.labels.set(labels, at)
    at += size
  }
  return whole
}
