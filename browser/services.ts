import type { FaultDetail } from '../protocol/errors.ts'
import type { Listing } from '../protocol/listing.ts'
import type { Manifest } from '../protocol/manifest.ts'
import type { DataReport, Examples, Skips } from '../protocol/ports/examples.ts'
import type { FetchProgress } from '../protocol/ports/store.ts'
import type { ProgressOf } from '../protocol/ports/trainer/commands.ts'
import type { Path, Report } from '../protocol/report.ts'

/**
 * What the page can do, as its state and views ask for it: the network, the store and training behind one face. The one
 * that does it is made in host.ts and training.ts; nothing here knows Vue, and no view knows libp2p.
 *
 * What fails throws a Fault: its message says what came and what was expected, its hint what to do.
 */
export interface Services {
  /** How the network stands now, and whenever it changes; gives a function that ends it. */
  onNetwork(listener: (network: NetworkView) => void): () => void
  /** Dials an address that the person gave, and remembers it once that went well. Throws a Fault that says why it did not. */
  join(address: string): Promise<void>
  /** Remembers it no more. */
  unjoin(address: string): void
  /** What registries in reach list, and what is kept here; `answered` tells whether anybody did, `at` how old it is. */
  listModels(asked: Asked, signal?: AbortSignal): Promise<ModelList>
  /** Fetches a version by CID or by a listing's name, from `via` too; from the cache where it is there already. */
  openVersion(reference: string, via: readonly string[], options: OpenOptions): Promise<OpenVersion>
  /** A version's ancestors, parent first, back to the genesis; manifests alone are fetched. Throws a Fault at the first that nobody has. */
  ancestorsOf(version: OpenVersion, signal: AbortSignal): AsyncIterable<Ancestor>
  /** Data that came with a version (its `sample`, or else its `eval` data), as examples. */
  sampleOf(version: OpenVersion, signal?: AbortSignal): Promise<Examples | undefined>
  /** What training it would take here: its trainer is made and timed, and gone again. Throws a Fault that says why it cannot be. */
  measure(version: OpenVersion, options: MeasureOptions): Promise<Speed>
  /** Joins the version's swarm and trains; one run at a time, in this profile (Fault `already-training`). */
  train(version: OpenVersion, options: TrainOptions): Promise<Run>
  /** Predictions by a version's own params, without training. Close it. */
  predictor(version: OpenVersion): Promise<Predictor>
  /** What this profile has trained, newest first: checkpoints that can be resumed. */
  runs(): Promise<KeptRun[]>
  /**
   * The params in the newest whole checkpoint of a model, float32 in tensor order; undefined where there is none. Throws Fault
   * `wrong-checkpoint`.
   */
  keptParams(version: OpenVersion): Promise<Uint8Array | undefined>
  /** Forgets a checkpoint. */
  forgetRun(genesis: string): Promise<void>
  /** What this browser keeps and serves, the last kept first. */
  versions(): Promise<VersionHere[]>
  /**
   * Drops a version, and the room that only it took. `training`: the genesis that this page trains now, if any. Throws Fault
   * `trained-elsewhere` while another tab trains.
   */
  freeVersion(cid: string, training: string | undefined): Promise<void>
  /** Tries out the network and this browser: tells all checks at the start, and whenever one has ended. */
  selfTest(tell: (checks: readonly Check[]) => void): Promise<void>
  /** Whose key signs what this profile publishes, as a peer id; undefined before there is one. */
  owner(): Promise<string | undefined>
  /** The owner's key as a file under a passphrase; makes one where there is none. Throws Fault `weak-passphrase`. */
  exportOwner(passphrase: string): Promise<{ name: string; text: string }>
  /**
   * Takes over the key of such a file and gives its owner; the key before is gone. Throws Fault `wrong-key-file` or
   * `wrong-passphrase`.
   */
  importOwner(file: Blob, passphrase: string): Promise<string>
}

export interface NetworkView {
  phase: 'starting' | 'looking' | 'online' | 'offline' | 'failed'
  peer: string
  /** Where others reach this page. */
  addresses: string[]
  /** Addresses that the person gave and this browser remembers, the last given first. */
  joined: string[]
  /** Peers that answer the listing protocol. */
  registries: number
  /** Peers that bring newcomers together: bootstraps and Node peers. */
  introducers: number
  /** What the browser says of its own connection. */
  isOnline: boolean
  /** One row a peer, by its best path. */
  peers: LinkedPeer[]
  fault?: FaultDetail
}

export interface LinkedPeer {
  peer: string
  path: Path
  rttMs: number | undefined
  /** What it does for others: brings newcomers together, lists models. */
  roles: readonly ('introduces' | 'lists')[]
}

export type CheckName = 'listing' | 'ping' | 'relay' | 'webrtc' | 'home' | 'backend'

/** One line of the self-test. */
export interface Check {
  check: CheckName
  /** Who was asked, where somebody was. */
  peer?: string
  state: 'running' | 'ok' | 'failed'
  /** How long it took. */
  ms?: number
  /** Models that are listed there. */
  count?: number
  /** How a visitor came. */
  path?: Path
  fault?: FaultDetail
}

export interface ModelList {
  /** Those that are listed first, then what is kept here beside them. */
  models: ListedModel[]
  /** How many of them are listed for what was asked, and how many there are in all. */
  listed: number
  total: number
  asked: Asked
  /** Registries that answered; 0: what is kept here alone. */
  answered: number
  /** When somebody last answered, milliseconds since 1970; undefined when nobody ever did. */
  at: number | undefined
}

/** What registries are asked for: words, and a task. '' is all. */
export interface Asked {
  query: string
  task: string
}

export interface ListedModel {
  /** `kept`: in this profile, and not listed by anybody in reach. */
  listing: Listing | undefined
  name: string
  title: string
  task: string
  tags: string[]
  labels: string[]
  genesis: string
  version: string
  manifestVersion: string
  bytes: number
  /** Peers whose cards registries have; undefined until asked. */
  peers: number | undefined
  kept: boolean
  issuedAt: number | undefined
}

export interface OpenOptions {
  onProgress(progress: FetchProgress): void
  signal?: AbortSignal
}

export interface OpenVersion {
  cid: string
  genesis: string
  manifest: Manifest
  /** README.md as it came: untrusted Markdown. */
  readme: string
  modelJson: string
  /** float32 in tensor order, little-endian. */
  params: Uint8Array
  /** The same of frozen layers; empty when there are none. */
  frozen: Uint8Array
  /** What training takes anywhere: bytes of memory, multiply-adds of a step. */
  demand: { memoryBytes: number; multiplyAdds: number }
}

export interface Ancestor {
  cid: string
  /** 1.2.0 */
  number: string
  /** What its manifest says, 0 to 1. */
  accuracy: number | undefined
}

/** How quickly this device trains a version, and by what. */
export interface Speed {
  backend: string
  msPerStep: number
  /** Who was passed over to compute it, and why. */
  remarks: readonly string[]
}

export interface MeasureOptions {
  /** There would be to train on. */
  examples: number
  /** Called while a step takes long. */
  onProgress(progress: Progress): void
  signal: AbortSignal
}

export interface TrainOptions {
  /** The person's examples, as the manifest's input has them, before scaling. */
  examples: Examples
  format: DataReport['format']
  skips: Skips
  /** Go on from this profile's checkpoint, if there is one. */
  resume: boolean
  /** Ends by itself after so many; a run that has them behind ends after as many again. */
  rounds?: number
  /** The share of the time that training takes, until setPace(); all of it unless given. */
  pace?: number
  /** False begins without swaps, until allowSwaps(true). */
  swapping?: boolean
  /** Begins from these params, float32 in tensor order, rather than from a checkpoint or the version's own. */
  from?: Uint8Array
  /** Called when a checkpoint cannot be kept, with the reason, and without one when it can again. Training goes on. */
  onKept?(fault: FaultDetail | undefined): void
  /** How far the check of the device and what the data needs are, before the run is there. */
  onPreparing?(progress: Progress): void
}

/** Trial steps of the device, examples of the data. */
export interface Progress {
  of: ProgressOf
  done: number
  total: number
}

/** One run: reports in order, ends after `stopped`; a fault is thrown at the reader. */
export interface Run {
  reports: AsyncIterable<Report>
  view: RunView
  pause(): void
  resume(): void
  /** Finishes its round, settles with the others, then ends by itself. */
  finish(): void
  leave(reason: string): Promise<void>
  /** Training takes this share of the time from now on, 0 < share <= 1. */
  setPace(share: number): void
  /** Bytes of copies sent and received in this run. */
  readonly traffic: { readonly up: number; readonly down: number }
  /** Whether copies may travel; while not, it trains alone. */
  allowSwaps(allowed: boolean): void
  /** Probabilities Float32Array[size × classes] by the params of now. */
  predict(inputs: Float32Array, size: number): Promise<Float32Array>
  /** The params of now: float32 in tensor order. */
  params(): Promise<Uint8Array>
}

export interface RunView extends Speed {
  resumed: boolean
  /** The one after which it ends by itself; 0 is none. */
  rounds: number
  data: DataReport
}

export interface Predictor {
  /** Probabilities Float32Array[size × classes]; inputs as the model takes them, scaled. */
  predict(inputs: Float32Array, size: number): Promise<Float32Array>
  close(): void
}

export interface KeptRun {
  genesis: string
  title: string
  version: string
  rounds: number
  at: number
  bytes: number
  /** Why it cannot be read, if it cannot: nothing goes on from it then, and its version is the genesis. */
  damage?: string
}

/** A version that this browser keeps. */
export interface VersionHere {
  cid: string
  genesis: string
  title: string
  /** 1.2.0 */
  number: string
  /** Of its files. What versions share is there once. */
  bytes: number
  /** Since when, milliseconds since 1970; undefined for what came before that was noted. */
  at: number | undefined
  /** A listing of its model is known: it is found again under Models. */
  listed: boolean
  /** Its manifest cannot be read here. */
  isDamaged: boolean
}
