import type { FaultDetail } from '../errors.ts'
import type { Binaries, Room, Simd, Space } from './engine.ts'
import type { Graph } from './graph.ts'

/**
 * What a helper starts from, structured-cloned to its thread. The three buffers are shared, not copied: the leader writes
 * `params` and, before its first order, `frozen`, which all helpers read; `own` is this helper's channel.
 */
export interface HelperInit {
  graph: Graph
  binaries: Binaries
  simd: Simd
  /** The largest part of a prediction. */
  batch: number
  room: Room
  space: Space
  /** float32[d] */
  params: SharedArrayBuffer
  /** Weights that never move. */
  frozen: SharedArrayBuffer
  own: SharedArrayBuffer
}

/** What a helper says before it serves; from then on it speaks through its channel alone. */
export type HelperSaid = { type: 'ready' } | { type: 'failed'; detail: FaultDetail }

/** The memory in which a leader tells one helper what to do, and finds what it did. */
export interface Channel {
  /** Numbers at the places below. */
  control: Int32Array<SharedArrayBuffer>
  /** A part's share of the mean loss. */
  loss: Float64Array<SharedArrayBuffer>
  /** One line of UTF-8: what went wrong. */
  complaint: Uint8Array<SharedArrayBuffer>
  inputs: Float32Array<SharedArrayBuffer>
  labels: Int32Array<SharedArrayBuffer>
  /**
   * Of a gradient Float32Array[d], with the moved BatchNorm statistics at their own places; of a prediction the
   * probabilities or logits Float32Array[size × outputUnits].
   */
  results: Float32Array<SharedArrayBuffer>
}

/** Counts orders: the leader raises ORDER, and the helper follows with DONE when the results lie there. */
export const ORDER = 0
export const DONE = 1
export const KIND = 2
/** Which params to take, not 0: they are copied when this number is new. */
export const VERSION = 3
export const SIZE = 4
export const FIRST = 5
export const WHOLE = 6
export const SEED = 7
/** Bytes of the complaint; 0 when all went well. */
export const FAILED = 8

export const GRADIENT = 1
export const PREDICT = 2
export const END = 3
/** Logits where PREDICT gives probabilities. */
export const LOGITS = 4

const CONTROL_BYTES = 64
const LOSS_AT = 48
const COMPLAINT_BYTES = 512

export interface ChannelSizes {
  batch: number
  inputSize: number
  outputUnits: number
  /** Values per flat array of params. */
  size: number
}

export function channelBytes(sizes: ChannelSizes): number {
  return lay(sizes).end
}

export function channelOf(own: SharedArrayBuffer, sizes: ChannelSizes): Channel {
  const { inputs, labels, results } = lay(sizes)
  return {
    control: new Int32Array(own, 0, LOSS_AT / 4),
    loss: new Float64Array(own, LOSS_AT, 1),
    complaint: new Uint8Array(own, CONTROL_BYTES, COMPLAINT_BYTES),
    inputs: new Float32Array(own, inputs, sizes.batch * sizes.inputSize),
    labels: new Int32Array(own, labels, sizes.batch),
    results: new Float32Array(own, results, resultsOf(sizes)),
  }
}

function lay(sizes: ChannelSizes): Record<'inputs' | 'labels' | 'results' | 'end', number> {
  const { batch, inputSize } = sizes
  const inputs = CONTROL_BYTES + COMPLAINT_BYTES
  const labels = inputs + 4 * batch * inputSize
  const results = labels + 4 * batch
  return { inputs, labels, results, end: results + 4 * resultsOf(sizes) }
}

function resultsOf({ batch, outputUnits, size }: ChannelSizes): number {
  return Math.max(size, batch * outputUnits)
}
