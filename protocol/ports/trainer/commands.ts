import type { CodecName } from '../../codec/codec.ts'
import type { FaultDetail } from '../../errors.ts'
import type { Manifest } from '../../manifest.ts'
import type { DataReport } from '../examples.ts'
import type { Metrics } from './trainer.ts'

/**
 * What a host's thread and its worker say to each other. The worker owns params, trainer, aggregator and data; the host
 * sees encoded copies only. Every buffer is transferred, so whoever sends one has lost it.
 *
 * Commands are served between two steps, also while a round or an evaluation runs: `train` and `evaluate` wait for each
 * other in order, all others go before the next step.
 */
export type Command =
  /** One round; answered by `trained`. */
  | { type: 'train'; steps: number }
  /** Answered by `gave`: the live params, encoded. */
  | { type: 'give'; nonce: string; codec: CodecName }
  /** Moves the live params by checked copies; answered by `settled`. A puller sent nothing. */
  | {
      type: 'settle'
      nonce: string
      role: SwapRole
      codec: CodecName
      sent?: Uint8Array
      received: Uint8Array[]
    }
  /** Answered by `gave-state`, for a newcomer. */
  | { type: 'give-state'; nonce: string }
  /** We are the newcomer: params and direction as `gave-state` carries them. Answered by `adopted`. */
  | { type: 'adopt'; nonce: string; bytes: Uint8Array; steps: number }
  /**
   * Answered by `evaluated`. Measures the params of the moment it starts, on the version's eval data, or without one on
   * our own validation split; `on` asks for one of them.
   */
  | { type: 'evaluate'; at: EvaluatedAt; on?: 'eval' | 'validation' }
  /** Answered by `checkpointed`. */
  | { type: 'checkpoint' }
  /** Steps take this share of the time from now on, 0 < share <= 1: between them the learner rests, and serves. */
  | { type: 'pace'; share: number }
  /** Answered by `version-params`, for a release or an export. */
  | { type: 'version' }
  /** Finish the step, write a checkpoint, answer `stopped`, end. */
  | { type: 'stop' }

export type WorkerEvent =
  /**
   * The first: what this device does with the model, found before any data is read; where the model begins with frozen layers,
   * once it is read, for that decides whether each step computes them.
   */
  | {
      type: 'device'
      /** What really computes; a host shows it when it is not what was asked for. */
      backend: string
      /** Threads on one batch. */
      threads: number
      /** One training step, measured; 0 where nothing is to be trained. */
      msPerStep: number
      /** As the trainer has them, and what its frozen layers cost. */
      remarks: readonly string[]
    }
  /**
   * How far it is with what takes long: before `ready` once a second, trial steps of `device` and then examples of `data` whose
   * features are computed; after it steps of a round and examples of an evaluation, after half a second, four times a second.
   */
  | { type: 'progress'; of: ProgressOf; done: number; total: number }
  | {
      type: 'ready'
      /** As `device` has them. */
      backend: string
      threads: number
      /** Steps behind the params, rounds and swaps done, as the checkpoint had them or 0. */
      steps: number
      rounds: number
      swaps: number
      /** Nonces of the last swaps we offered and settled, oldest first. */
      outcomes: string[]
      resumed: boolean
      data: DataReport
      /** As `device` has them. */
      msPerStep: number
      remarks: readonly string[]
    }
  | {
      type: 'trained'
      /** Steps of this round, and of all behind the params. */
      steps: number
      totalSteps: number
      /** Mean over the round. */
      loss: number
      samples: number
      /** Time in steps, without the commands served and the rests between them: a round is as long in steps at any pace. */
      ms: number
    }
  | { type: 'gave'; nonce: string; bytes: Uint8Array; digest: Uint8Array }
  /** A state (codec/state.ts), and its SHA-256. */
  | { type: 'gave-state'; nonce: string; bytes: Uint8Array; digest: Uint8Array; steps: number }
  | { type: 'adopted'; nonce: string; steps: number }
  | { type: 'settled'; nonce: string; distance: number }
  /** `ms` is the time from its start to its end. */
  | { type: 'evaluated'; at: EvaluatedAt; metrics: Metrics; examples: number; ms: number }
  | { type: 'checkpointed'; ms: number; bytes: number }
  /** float32, little-endian, in tensor order. */
  | { type: 'version-params'; bytes: Uint8Array }
  | { type: 'stopped' }
  /** Nothing follows. */
  | { type: 'failed'; detail: FaultDetail }

/**
 * What computes: our engine, or TensorFlow.js on WebAssembly or in plain JavaScript. `auto` takes the engine when it plans
 * every layer of the model; `engine-plain` is the engine whose results are the same bits on every machine. The last three are
 * TensorFlow.js where a host has them: `auto` tries them too.
 */
export type BackendName = (typeof backendNames)[number]
export const backendNames = [
  ...(['auto', 'engine', 'engine-plain', 'wasm', 'cpu'] as const),
  ...(['tfjs-node', 'webgl', 'webgpu'] as const),
] as const

/** More threads than this nobody is given: each has a memory of its own. */
export const THREADS_LIMIT = 64

export type ProgressOf = 'device' | 'data' | 'round' | 'evaluation'
export type SwapRole = 'offerer' | 'accepter' | 'puller'
export type EvaluatedAt = 'trained' | 'averaged'

/** What a worker starts from; structured-cloned to it, `params` transferred. */
export interface WorkerInit {
  manifest: Manifest
  /** CID of the model's first version: a checkpoint of another model is refused. */
  genesis: string
  /** CID of the version that `params` come from; a checkpoint remembers it. */
  version: string
  /** model.json as the version has it; read again, within limits, before anything is built. */
  modelJson: string
  /** Weights of frozen layers, float32 little-endian; empty or absent when there are none. */
  frozen?: Uint8Array
  /** float32, little-endian, in tensor order: the version's own params. */
  params: Uint8Array
  /** The user's data; without it the worker gives, settles and evaluates, and cannot train. */
  data: { path: string } | undefined
  /** Evaluation data that came inside the version: only its path ('eval/digits.csv') tells its format. */
  evalFiles?: { path: string; bytes: Uint8Array }[]
  /** Order of batches, validation split, dropout. A checkpoint's own seed wins, so that a resumed run is the same run. */
  seed: number
  checkpointPath: string
  /** Go on from the checkpoint, if there is one. */
  resume: boolean
  backend: BackendName
  /** Threads on one batch; unless given, as many as the model gains by, and one core less than there are at most. */
  threads?: number | undefined
  /** What the model may take, bytes; what the host says unless given. */
  memoryBytes?: number | undefined
  noMomentum?: boolean
}
