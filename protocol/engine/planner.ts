export const FLOAT_BYTES = 4

/** A byte address in the engine's memory, a multiple of 4; 0 is nothing. */
export type Address = number

/** An exported function of the binary. */
export type KernelName = string

/**
 * What a layer's plan rule sees: places in one memory, and two lists of kernel calls to append to.
 *
 * All values are float32, row-major, channels last, batch first: an output is [batch, ...node.outputShape]. A buffer starts
 * at a multiple of 64 bytes (weights: of 4) and may be read, never written, up to 64 bytes past its end.
 * A rule asks for no more memory at a smaller batch.
 */
export interface Planner {
  readonly batch: number
  readonly training: boolean
  /** The node's weights never move: BatchNorm keeps to its moving statistics, in training too. */
  readonly frozen: boolean

  /** Values of the node's input i. */
  input(i: number): Address
  /** The node's values: the forward calls fill them. */
  output(): Address
  /** The output is input 0 under another shape (Flatten, Reshape, identity): shares values and gradient, copies nothing. */
  view(): void

  /** Gradient of the output, complete when the backward calls run; this node's to overwrite, nobody reads it later. */
  outputGradient(): Address
  /** Gradient of input i, to be overwritten (never added to); 0 where nobody needs it. */
  inputGradient(i: number): Address

  /** A weight's values; 0 when the layer goes without. BatchNorm statistics may be written by forward calls in training. */
  weight(name: string): Address
  /** A weight's gradient, to be overwritten once a step; 0 when absent, frozen or no gradient is asked for. */
  weightGradient(name: string): Address

  /** A buffer that lives from the node's forward calls to its backward calls. */
  keep(floats: number): Address
  /** A buffer that lives within one call; all calls share it, so ask once per call for all that it needs. */
  scratch(floats: number): Address
  /** A buffer of the node's own that is zero before the first step: what writes inside keeps the rest zero. */
  zeros(floats: number): Address
  /**
   * Where an i32 lies that is new in every step: what Dropout draws from. Mix it with `salt`. Behind it another: the place of
   * the first example here in the batch, of which this may be a part.
   */
  readonly seed: Address
  /** The node's own number, for draws from `seed`. */
  readonly salt: number

  /** Appends a call. Arguments are addresses, whole numbers or floats, as the kernel declares them. */
  forward(kernel: KernelName, ...args: number[]): void
  /**
   * Appends a call in order within the node; nodes run backward in reverse. The plan keeps none of a node whose output's
   * gradient nobody needs.
   */
  backward(kernel: KernelName, ...args: number[]): void
}
