import type { Manifest } from '../../protocol/manifest.ts'
import { createOptimizer } from '../../protocol/optimizer.ts'
import type { CheckpointFile } from '../../protocol/ports/trainer/checkpoint.ts'
import type { WorkerEvent } from '../../protocol/ports/trainer/commands.ts'
import { runLearner } from '../../protocol/ports/trainer/learner.ts'
import type { Trainer } from '../../protocol/ports/trainer/trainer.ts'
import type { Learner } from '../../protocol/swarm.ts'
import { denseJson, tableManifest } from '../support/models.ts'

/**
 * The shipped learner over a trainer whose every step moves each param by the same `drift`. What steps did to the sum
 * of params is then known to the last step, and what is left was moved by swaps alone.
 */
export interface Drifter {
  learner: Learner
  ready: Extract<WorkerEvent, { type: 'ready' }>
  /** Sum of the live params without what our own steps added: only swaps change it. */
  ledger(): number
}

/** 400 KB a copy: a few data frames, less than one credit window. */
export const PARAMS = 100_000
const RATE = 1 / 128

const json = denseJson([2, 2])
export const driftManifest: Manifest = {
  ...tableManifest(json, { inputs: 2, classes: 2 }),
  gossip: { rule: 'swap', codec: 'float32', swapsPerRound: 2 },
  tensors: [{ name: 'w', shape: [PARAMS], role: 'trainable' }],
  train: {
    ...tableManifest(json, { inputs: 2, classes: 2 }).train,
    optimizer: { name: 'sgd', learningRate: RATE },
    momentum: 0,
    strict: false,
  },
}

export interface DriftOptions {
  genesis: string
  /** Each param at the start. */
  start: number
  /** Each step adds drift / 128 to each param. */
  drift: number
  /** A step takes this long. */
  stepMs: number
  checkpoints: CheckpointFile
  resume: boolean
}

/** Resolves when the learner is ready. */
export async function startDrifter(options: DriftOptions): Promise<Drifter> {
  const { genesis, start, drift, stepMs, checkpoints, resume } = options
  const steps = { count: 0, isWarm: false }
  let live = new Float32Array(0)
  const trainer: Trainer = {
    backend: 'drift',
    threads: 1,
    tensors: driftManifest.tensors,
    inputSize: 2,
    outputSize: 2,
    floats: (length) => new Float32Array(length),
    createOptimizer: (recipe) => createOptimizer(recipe, driftManifest.tensors),
    gradientInto(gradient, params) {
      gradient.fill(-drift)
      if (!steps.isWarm) return 1
      live = params as Float32Array<ArrayBuffer>
      steps.count++
      Atomics.wait(still, 0, 0, stepMs)
      return 1
    },
    load: () => {},
    predict: (_, size) => new Float32Array(2 * size).fill(0.5),
    close: () => {},
  }
  const { promise, resolve, reject } = Promise.withResolvers<Drifter['ready']>()
  let listener = (_: WorkerEvent): void => {}
  const running = runLearner(
    {
      manifest: driftManifest,
      genesis,
      version: genesis,
      modelJson: json,
      params: new Uint8Array(new Float32Array(PARAMS).fill(start).buffer),
      data: { path: 'none' },
      seed: 1,
      checkpointPath: 'none',
      resume,
      backend: 'cpu',
    },
    {
      createTrainer: async () => trainer,
      loadData: async () => ({ ...nothingToSee, evaluation: undefined }),
      checkpoints,
      send(event) {
        if (event.type === 'failed') reject(new Error(event.detail.message))
        if (event.type !== 'ready') return listener(event)
        steps.isWarm = true
        resolve(event)
      },
      now: () => performance.now(),
    },
  )
  const ready = await promise
  return {
    ready,
    learner: {
      send: running.receive,
      listen: (next) => {
        listener = next
      },
    },
    ledger: () => {
      if (live.length === 0) return start * PARAMS
      let sum = 0
      for (const value of live) sum += value
      return sum - steps.count * drift * RATE * PARAMS
    },
  }
}

const still = new Int32Array(new SharedArrayBuffer(4))

/** Four rows, so that there is something to take batches of. */
const nothingToSee = {
  examples: { size: 4, width: 2, inputs: new Float32Array(8), labels: new Uint16Array(4) },
  split: { train: Uint32Array.of(0, 1, 2), validation: Uint32Array.of(3) },
  report: {
    format: 'csv' as const,
    read: 4,
    skipped: [],
    skippedCount: 0,
    labels: {},
    train: 3,
    validation: 1,
  },
}
