import type { FaultDetail } from '../protocol/errors.ts'
import type { Manifest } from '../protocol/manifest.ts'
import type { DataReport, Examples, Skips } from '../protocol/ports/examples.ts'
import type { Command, WorkerEvent, WorkerInit } from '../protocol/ports/trainer/commands.ts'
import type { Device } from '../protocol/ports/trainer/learner.ts'

/** What the window and its worker say to each other. A worker's first message is its job; it has one for as long as it lives. */
export type Job = LearnJob | MeasureJob | PredictJob

/** Hosts a learner: every other message is a Command, what comes back are LearnEvents. */
export interface LearnJob {
  type: 'learn'
  init: WorkerInit
  own: OwnData
  /** What people call the model: a checkpoint remembers it. */
  title: string
}

export type LearnEvent =
  | WorkerEvent
  /** A checkpoint could not be kept, and why; without a fault it is kept again. Training goes on either way. */
  | { type: 'kept'; fault: FaultDetail | undefined }

/** What the person brought, before it is split and scaled. */
export interface OwnData {
  examples: Examples
  format: DataReport['format']
  skips: Skips
}

/** Measures what training takes here, as a learner does when it begins, and ends. */
export interface MeasureJob {
  type: 'measure'
  init: Pick<WorkerInit, 'manifest' | 'modelJson' | 'params' | 'frozen' | 'backend'>
  /** There would be to train on. */
  examples: number
}

/** `progress` of the device, then one of the others; nothing follows. */
export type MeasureEvent = Extract<WorkerEvent, { type: 'progress' | 'failed' }> | Device

/** Predicts by the params it is told: every other message is a PredictCommand, what comes back are PredictEvents. */
export interface PredictJob {
  type: 'predict'
  manifest: Manifest
  modelJson: string
  /** Frozen weights, float32 little-endian; empty when there are none. */
  frozen: Uint8Array
}

export type PredictCommand =
  /** float32, little-endian, in tensor order; for every `predict` that follows. */
  | { type: 'load'; params: Uint8Array }
  /** Answered by `predicted`. Float32Array[size × width], as the model takes them. */
  | { type: 'predict'; id: number; inputs: Float32Array; size: number }

export type PredictEvent =
  | { type: 'predicted'; id: number; probabilities: Float32Array }
  /** Nothing follows. */
  | { type: 'failed'; detail: FaultDetail }

export type { Command, WorkerEvent }
