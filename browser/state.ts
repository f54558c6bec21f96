import type { FaultDetail } from '../protocol/errors.ts'
import type { Manifest } from '../protocol/manifest.ts'
import { type Examples, type Skips, skip } from '../protocol/ports/examples.ts'
import type { FetchProgress } from '../protocol/ports/store.ts'
import type { Metrics, Path, Phase, Report } from '../protocol/report.ts'
import type { Stroke } from './drawing.ts'
import type { Room } from './room.ts'
import { type Filters, type Route, readRoute } from './route.ts'
import type {
  Ancestor,
  Asked,
  Check,
  KeptRun,
  LinkedPeer,
  ListedModel,
  ModelList,
  NetworkView,
  OpenVersion,
  Progress,
  RunView,
  Speed,
  VersionHere,
} from './services.ts'
import { text } from './text.ts'

/**
 * All that the page shows, in one tree; `reduce` is the only thing that makes a new one, and `table` lists every action.
 * Nothing here knows the DOM, the network or the time: what happens comes in as an action.
 */
export interface AppState {
  route: Route
  network: NetworkView
  models: Models
  opened: Opened
  compared: Compared
  lineage: Lineage | undefined
  /** What a person brought, by the genesis it was brought for. */
  works: Readonly<Record<string, Work>>
  run: RunState | undefined
  /** What training takes here, by the CID of the version. */
  costs: Readonly<Record<string, Measured>>
  kept: KeptRun[] | undefined
  keptFault: FaultDetail | undefined
  /** What this browser keeps and serves. */
  versions: VersionHere[] | undefined
  versionsFault: FaultDetail | undefined
  room: Room | undefined
  joining: Joining
  selfTest: SelfTest
  owner: OwnerKey
  settings: Settings
  /** Bytes that swaps sent and received today. */
  today: number
}

export interface Models {
  type: 'loading' | 'listed' | 'failed'
  list: ModelList | undefined
  fault: FaultDetail | undefined
}

export type Opened =
  | { type: 'none' }
  | { type: 'fetching'; reference: string; progress: FetchProgress | undefined }
  | { type: 'open'; reference: string; version: OpenVersion }
  | { type: 'failed'; reference: string; fault: FaultDetail }

/** What is newer than the open version, to be tried beside it; `beside` is that version's CID, `number` the newer one's. */
export type Compared =
  | { type: 'none' }
  | { type: 'fetching' | 'ready'; beside: string; number: string }
  | { type: 'failed'; beside: string; number: string; fault: FaultDetail }

/** Where the version `of` that CID comes from, as far as it is known: parent first. */
export type Lineage = { of: string; ancestors: readonly Ancestor[] } & (
  | { type: 'fetching' | 'whole' }
  | { type: 'failed'; fault: FaultDetail }
)

export interface Work {
  /** What stands on each pad and is used for nothing yet: it outlives the tab that it was drawn on. */
  sketches: Readonly<Record<Pad, readonly Stroke[]>>
  drawings: readonly Drawing[]
  parts: readonly Part[]
  /** Drawings and files stay in this browser over a reload. */
  keep: boolean
  /** What is being read, in words. */
  reading: string | undefined
  fault: FaultDetail | undefined
  /** Why what should be kept is not. */
  unkept: FaultDetail | undefined
}

export type Pad = 'teach' | 'test'

export interface Drawing {
  /** Index into the manifest's labels. */
  label: number
  /** Uint8Array[width of an example] */
  pixels: Uint8Array
  /** By a camera; drawn otherwise. */
  isTaken?: true
}

/** Examples that came together. */
export interface Part {
  id: number
  source: 'sample' | 'imagefolder' | 'csv'
  name: string
  examples: Examples
  skips: Skips
}

export interface RunState {
  /** `starting` until the swarm is joined; `ending` while it finishes a round; `ended` keeps its figures on the screen. */
  type: 'starting' | 'running' | 'ending' | 'ended'
  genesis: string
  cid: string
  title: string
  phase: Phase
  /** Examples given at the start. */
  examples: number
  /** Was to go on from a checkpoint that is kept here. */
  resumes: boolean
  view: RunView | undefined
  /** How far is what takes long of what it does now, and the swap under way; nothing where all is quick. */
  progress: Progress | undefined
  transfer: Transfer | undefined
  round: number
  steps: number
  /** Examples that this run trained on, each as often as it was seen. */
  samples: number
  points: readonly RunPoint[]
  peers: Readonly<Record<string, RunPeer>>
  count: number
  direct: number
  bytesUp: number
  bytesDown: number
  swaps: number
  /** Trains alone for the rest of the day: its limit of traffic is reached. */
  limited: boolean
  /** Why the last checkpoint was not kept: what is trained is in this page's memory alone. */
  unsaved: FaultDetail | undefined
  /** Has trained for a while with nobody to swap with. */
  lonely: boolean
  pausedUntil: number | undefined
  fault: FaultDetail | undefined
}

/** What training a version takes here. */
export interface Measured {
  /** The last figure; undefined where there is none. */
  cost: Cost | undefined
  isMeasuring: boolean
  /** How far that is, where it takes long. */
  progress: Progress | undefined
  /** Why it could not be measured. */
  fault: FaultDetail | undefined
}

export interface Cost extends Speed {
  /** Milliseconds since 1970. */
  at: number
}

/** Bytes of both copies of a swap. */
export interface Transfer {
  with: string
  done: number
  total: number
}

/** One round on the chart. */
export interface RunPoint {
  round: number
  loss?: number
  trained?: Metrics
  averaged?: Metrics
}

export interface RunPeer {
  peer: string
  /** Of the last swap; undefined before the first. */
  path: Path | undefined
  swaps: number
  bytesUp: number
  bytesDown: number
  /** Milliseconds since 1970. */
  lastAt: number
  lastRound: number
  failure: string | undefined
}

export type Joining =
  | { type: 'idle' }
  | { type: 'dialling'; address: string }
  | { type: 'joined'; address: string }
  | { type: 'failed'; address: string; fault: FaultDetail }

export type SelfTest =
  | { type: 'unasked' | 'running' | 'done'; checks: readonly Check[] }
  | { type: 'failed'; checks: readonly Check[]; fault: FaultDetail }

/** The key that signs what is published here. */
export interface OwnerKey {
  /** As a peer id; undefined before there is one. */
  id: string | undefined
  doing: 'export' | 'import' | undefined
  done: 'exported' | 'imported' | undefined
  fault: FaultDetail | undefined
}

export const themes = ['auto', 'light', 'dark'] as const
export const intensities = [0.25, 0.5, 0.75, 1] as const
export interface Settings {
  theme: (typeof themes)[number]
  /** A run stops after so many rounds; 0 is no limit. */
  rounds: number
  /** The share of the time that training takes. */
  intensity: (typeof intensities)[number]
  /** Swaps send and receive so much in a day; 0 is no limit. */
  megabytes: number
  /** Single keys act. */
  shortcuts: boolean
}

/** Every action, with what it carries. */
export interface Actions {
  navigated: { hash: string }
  networked: { network: NetworkView }
  networkFailed: { fault: FaultDetail }
  joining: { joining: Joining }
  testing: { selfTest: SelfTest }
  listing: object
  listed: { list: ModelList }
  listFailed: { fault: FaultDetail }
  opening: { reference: string }
  fetched: { reference: string; progress: FetchProgress }
  opened: { reference: string; version: OpenVersion }
  openFailed: { reference: string; fault: FaultDetail }
  comparing: { compared: Compared }
  tracing: { lineage: Lineage }
  sketched: { genesis: string; pad: Pad; strokes: readonly Stroke[] }
  drawn: { genesis: string; drawing: Drawing }
  undrawn: { genesis: string }
  restored: { genesis: string; drawings: readonly Drawing[]; parts: readonly Part[] }
  keeping: { genesis: string; keep: boolean }
  unkept: { genesis: string; fault: FaultDetail | undefined }
  reading: { genesis: string; what: string }
  read: { genesis: string; part: Omit<Part, 'id'> }
  readFailed: { genesis: string; fault: FaultDetail }
  removed: { genesis: string; part: number }
  emptied: { genesis: string }
  started: { version: OpenVersion; examples: number; resumes: boolean }
  preparing: { progress: Progress }
  measuring: { cid: string; progress: Progress | undefined }
  measured: { cid: string; cost: Cost }
  /** Without a fault: called off. */
  unmeasured: { cid: string; fault: FaultDetail | undefined }
  joined: { view: RunView }
  reported: { report: Report; at: number }
  lonely: object
  unsaved: { fault: FaultDetail | undefined }
  pausing: { until: number | undefined }
  ending: object
  ended: { fault: FaultDetail | undefined }
  dismissed: object
  kept: { runs: KeptRun[] }
  keptFailed: { fault: FaultDetail }
  versions: { versions: VersionHere[] }
  versionsFailed: { fault: FaultDetail }
  roomMeasured: { room: Room }
  owned: { id: string | undefined }
  owning: { doing: 'export' | 'import' }
  ownerDone: { id: string; done: 'exported' | 'imported' }
  ownerFailed: { fault: FaultDetail }
  set: { settings: Partial<Settings> }
  metered: { today: number; limited: boolean }
}

export type Action = { [K in keyof Actions]: { type: K } & Actions[K] }[keyof Actions]

export function initialState(hash: string, settings: Settings): AppState {
  return {
    route: readRoute(hash),
    network: {
      ...{ phase: 'starting', peer: '', addresses: [], joined: [], peers: [] },
      ...{ registries: 0, introducers: 0, isOnline: true },
    },
    models: { type: 'loading', list: undefined, fault: undefined },
    opened: { type: 'none' },
    compared: { type: 'none' },
    lineage: undefined,
    works: {},
    run: undefined,
    costs: {},
    kept: undefined,
    keptFault: undefined,
    versions: undefined,
    versionsFault: undefined,
    room: undefined,
    joining: { type: 'idle' },
    selfTest: { type: 'unasked', checks: [] },
    owner: { id: undefined, doing: undefined, done: undefined, fault: undefined },
    settings,
    today: 0,
  }
}

export function reduce(state: AppState, action: Action): AppState {
  const change = table[action.type] as (state: AppState, action: Action) => AppState
  return change(state, action)
}

const table: { [K in keyof Actions]: (state: AppState, action: Actions[K]) => AppState } = {
  navigated: (state, { hash }) => ({ ...state, route: readRoute(hash), joining: { type: 'idle' } }),
  networked: (state, { network }) => ({ ...state, network }),
  networkFailed: (state, { fault }) => ({
    ...state,
    network: { ...state.network, phase: 'failed', fault },
  }),
  joining: (state, { joining }) => ({ ...state, joining }),
  testing: (state, { selfTest }) => ({ ...state, selfTest }),

  listing: (state) => ({
    ...state,
    models: { ...state.models, type: 'loading', fault: undefined },
  }),
  listed: (state, { list }) => ({ ...state, models: { type: 'listed', list, fault: undefined } }),
  listFailed: (state, { fault }) => ({
    ...state,
    models: { ...state.models, type: 'failed', fault },
  }),

  opening: (state, { reference }) => ({
    ...state,
    opened: { type: 'fetching', reference, progress: undefined },
    compared: { type: 'none' },
    lineage: undefined,
  }),
  fetched: (state, { reference, progress }) =>
    isFetching(state, reference)
      ? { ...state, opened: { type: 'fetching', reference, progress } }
      : state,
  opened: (state, { reference, version }) =>
    isFetching(state, reference)
      ? { ...state, opened: { type: 'open', reference, version } }
      : state,
  openFailed: (state, { reference, fault }) =>
    isFetching(state, reference)
      ? { ...state, opened: { type: 'failed', reference, fault } }
      : state,

  comparing: (state, { compared }) =>
    compared.type === 'none' || isOpen(state, compared.beside) ? { ...state, compared } : state,
  tracing: (state, { lineage }) => (isOpen(state, lineage.of) ? { ...state, lineage } : state),

  sketched: (state, { genesis, pad, strokes }) =>
    onWork(state, genesis, ({ sketches }) => ({ sketches: { ...sketches, [pad]: strokes } })),
  drawn: (state, { genesis, drawing }) =>
    onWork(state, genesis, (work) => ({ drawings: [...work.drawings, drawing] })),
  undrawn: (state, { genesis }) =>
    onWork(state, genesis, (work) => ({ drawings: work.drawings.slice(0, -1) })),
  restored: (state, { genesis, drawings, parts }) =>
    onWork(state, genesis, (work) => ({
      drawings: [...drawings, ...newAmong(work.drawings, drawings)],
      parts: [...parts, ...newAmong(work.parts, parts)].map((part, i) => ({ ...part, id: i + 1 })),
      keep: true,
    })),
  keeping: (state, { genesis, keep }) => onWork(state, genesis, () => ({ keep })),
  unkept: (state, { genesis, fault }) => onWork(state, genesis, () => ({ unkept: fault })),
  reading: (state, { genesis, what }) =>
    onWork(state, genesis, () => ({ reading: what, fault: undefined })),
  read: (state, { genesis, part }) =>
    onWork(state, genesis, ({ parts }) => ({
      reading: undefined,
      parts: [...parts, { ...part, id: 1 + (parts.at(-1)?.id ?? 0) }],
    })),
  readFailed: (state, { genesis, fault }) =>
    onWork(state, genesis, () => ({ reading: undefined, fault })),
  removed: (state, { genesis, part }) =>
    onWork(state, genesis, ({ parts }) => ({ parts: parts.filter(({ id }) => id !== part) })),
  emptied: (state, { genesis }) => onWork(state, genesis, () => ({ drawings: [], parts: [] })),

  started: (state, { version, ...given }) => ({ ...state, run: newRun(version, given) }),
  joined: (state, { view }) =>
    onRun(state, (run) => ({ type: isOver(run) ? run.type : 'running', view })),
  reported: (state, { report, at }) => onRun(state, (run) => reported(run, report, at)),
  preparing: (state, { progress }) =>
    onRun(state, () => ({
      phase: progress.of === 'device' ? 'checking-device' : 'preparing',
      progress,
    })),
  unsaved: (state, { fault }) => onRun(state, () => ({ unsaved: fault })),
  lonely: (state) => onRun(state, ({ phase }) => ({ lonely: isAlone(phase) })),
  pausing: (state, { until }) => onRun(state, () => ({ pausedUntil: until })),
  ending: (state) => onRun(state, () => ({ type: 'ending', pausedUntil: undefined })),
  ended: (state, { fault }) =>
    onRun(state, (run) => ({
      type: 'ended',
      pausedUntil: undefined,
      fault: fault ?? run.fault,
      phase: (fault ?? run.fault) ? 'failed' : 'stopped',
    })),
  dismissed: (state) => (state.run?.type === 'ended' ? { ...state, run: undefined } : state),

  measuring: (state, { cid, progress }) =>
    onCost(state, cid, { isMeasuring: true, progress, fault: undefined }),
  measured: (state, { cid, cost }) => onCost(state, cid, { ...emptyCost, cost }),
  unmeasured: (state, { cid, fault }) =>
    onCost(state, cid, { isMeasuring: false, progress: undefined, fault }),

  kept: (state, { runs }) => ({ ...state, kept: runs, keptFault: undefined }),
  keptFailed: (state, { fault }) => ({ ...state, keptFault: fault }),
  versions: (state, { versions }) => ({ ...state, versions, versionsFault: undefined }),
  versionsFailed: (state, { fault }) => ({ ...state, versionsFault: fault }),
  roomMeasured: (state, { room }) => ({ ...state, room }),
  owned: (state, { id }) => onOwner(state, { id }),
  owning: (state, { doing }) => onOwner(state, { doing, done: undefined, fault: undefined }),
  ownerDone: (state, { id, done }) => onOwner(state, { id, doing: undefined, done }),
  ownerFailed: (state, { fault }) => onOwner(state, { doing: undefined, fault }),
  metered: (state, { today, limited }) => ({ ...onRun(state, () => ({ limited })), today }),
  set: (state, { settings }) => ({ ...state, settings: { ...state.settings, ...settings } }),
}

/** Whether a checkpoint of it is kept here. */
export function isKept({ kept }: Pick<AppState, 'kept'>, genesis: string): boolean {
  return kept?.some((run) => run.genesis === genesis && run.rounds > 0) ?? false
}

/** What training this version takes here, as far as it is known. */
export function costOf({ costs }: Pick<AppState, 'costs'>, cid: string): Measured {
  return costs[cid] ?? emptyCost
}

const emptyCost: Measured = {
  cost: undefined,
  isMeasuring: false,
  progress: undefined,
  fault: undefined,
}

/** Multiply-adds of a step, and bytes of params, up to which a model is measured in well under a second: the engine takes 5 ms a step. */
const SMALL_STEP = 2 ** 27
const SMALL_BYTES = 2 ** 23

/** Whether nobody has to ask what it takes, where WebAssembly has SIMD: that is found before a person has read what stands beside it. */
export function isSoonMeasured({ demand, params }: OpenVersion): boolean {
  return demand.multiplyAdds <= SMALL_STEP && params.length <= SMALL_BYTES
}

/** What goes on from a version: the run of now, a run that is kept, or nothing. */
export function useOf({ run, kept }: Pick<AppState, 'run' | 'kept'>, cid: string): Use {
  if (isLive(run) && run.cid === cid) return 'trained'
  return kept?.some(({ version, damage }) => version === cid && !damage) ? 'resumed' : 'none'
}

export type Use = 'trained' | 'resumed' | 'none'

/** What a person brought for this model; the same empty work when nothing yet. */
export function workOf({ works }: Pick<AppState, 'works'>, genesis: string): Work {
  return works[genesis] ?? emptyWork
}

const emptyWork: Work = {
  sketches: { teach: [], test: [] },
  drawings: [],
  parts: [],
  keep: false,
  reading: undefined,
  fault: undefined,
  unkept: undefined,
}

/** Those that are not there already. */
function newAmong<T extends Drawing | Part>(some: readonly T[], there: readonly T[]): T[] {
  return some.filter((one) => !there.some((other) => isSame(other, one)))
}

/** Whether two drawings, or two parts, hold the same. */
export function isSame(a: Drawing | Part, b: Drawing | Part): boolean {
  if ('pixels' in a) return 'pixels' in b && a.label === b.label && isEqual(a.pixels, b.pixels)
  if ('pixels' in b || a.source !== b.source || a.name !== b.name) return false
  const [ours, theirs] = [a.examples, b.examples]
  return isEqual(ours.labels, theirs.labels) && isEqual(ours.inputs, theirs.inputs)
}

/** A version may bring data to begin with: a sample, or else what it is measured on. */
export function hasSample({ data }: Manifest): boolean {
  return (data.sample ?? data.eval) !== undefined
}

/** Examples of each label, every label of the manifest. */
export function countsOf({ drawings, parts }: Work, labels: readonly string[]): number[] {
  const counts = labels.map(() => 0)
  for (const { label } of drawings) counts[label]! += 1
  for (const { examples } of parts) for (const label of examples.labels) counts[label]! += 1
  return counts
}

export function sizeOfWork({ drawings, parts }: Work): number {
  return drawings.length + parts.reduce((sum, { examples }) => sum + examples.size, 0)
}

/** Everything as one: what a run is given. Pixels stay bytes unless some part has other numbers. */
export function examplesOf({ drawings, parts }: Work, width: number): Examples {
  const size = sizeOfWork({ drawings, parts } as Work)
  const isBytes = parts.every(({ examples }) => examples.inputs instanceof Uint8Array)
  const inputs = isBytes ? new Uint8Array(size * width) : new Float32Array(size * width)
  const labels = new Uint16Array(size)
  let at = 0
  for (const { examples } of parts) {
    inputs.set(examples.inputs, at * width)
    labels.set(examples.labels, at)
    at += examples.size
  }
  for (const { pixels, label } of drawings) {
    inputs.set(pixels, at * width)
    labels[at++] = label
  }
  return { size, width, inputs, labels }
}

/** Rows among which doubles are looked for: a page answers at once. */
const DOUBLES_AMONG = 20_000

/** Examples that came before, label or not: they count twice, and may be learned and measured with. */
export function doublesOf({ drawings, parts }: Pick<Work, 'drawings' | 'parts'>): number {
  const { rows, doubles } = rowsIn(parts)
  const drawn: Rows = new Map()
  return doubles + drawings.filter(({ pixels }) => !isNewIn(drawn, pixels, rows)).length
}

/** By their hashes. */
type Rows = Map<number, ArrayLike<number>[]>

/** A drawing more changes no part: those are looked through once. */
const looked = new WeakMap<readonly Part[], { rows: Rows; doubles: number }>()

function rowsIn(parts: readonly Part[]): { rows: Rows; doubles: number } {
  const before = looked.get(parts)
  if (before) return before
  const found = { rows: new Map() as Rows, doubles: 0 }
  let left = DOUBLES_AMONG
  for (const { examples } of parts) {
    const { size, width, inputs } = examples
    for (let row = 0; row < size && left > 0; row++, left--)
      if (!isNewIn(found.rows, inputs.subarray(row * width, (row + 1) * width))) found.doubles++
  }
  looked.set(parts, found)
  return found
}

/** Whether it is in neither; then it is in the first. */
function isNewIn(rows: Rows, row: ArrayLike<number>, others?: Rows): boolean {
  const hash = hashOf(row)
  const same = rows.get(hash) ?? []
  if ([...same, ...(others?.get(hash) ?? [])].some((other) => isEqual(other, row))) return false
  rows.set(hash, [...same, row])
  return true
}

/** FNV-1a over the values, as 32 bits. */
function hashOf(values: ArrayLike<number>): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < values.length; i++) hash = Math.imul(hash ^ (1000 * values[i]!), 0x01000193)
  return hash
}

function isEqual(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** What all parts left out, together. */
export function skipsOf({ parts }: Work): Skips {
  const all: Skips = { list: [], count: 0 }
  for (const { skips } of parts) {
    for (const { item, reason } of skips.list) skip(all, item, reason)
    all.count += skips.count - skips.list.length
  }
  return all
}

/** Less than this share of an even share is few. */
const FEW = 0.4

/** Labels nobody brought, and those with few beside the rest. */
export function imbalanceOf(counts: readonly number[]): { missing: number[]; few: number[] } {
  const present = counts.filter((count) => count > 0)
  const even = present.reduce((sum, count) => sum + count, 0) / Math.max(1, present.length)
  const places = [...counts.keys()]
  return {
    missing: places.filter((label) => counts[label] === 0),
    few: places.filter((label) => counts[label]! > 0 && counts[label]! < FEW * even),
  }
}

/** Whether closing the page would lose what nothing keeps: drawings, or params of a run. */
export function wouldLose({ works, run }: Pick<AppState, 'works' | 'run'>): boolean {
  if (run?.unsaved) return true
  return Object.values(works).some(
    ({ drawings, keep, unkept }) => drawings.length > 0 && (!keep || unkept !== undefined),
  )
}

/** The newest of each figure. */
export function latest(
  points: readonly RunPoint[],
  at: 'trained' | 'averaged',
): Metrics | undefined {
  return points.findLast((point) => point[at] !== undefined)?.[at]
}

/** Rounds after which a run ends by itself: what the person says, else the model's owner; undefined where neither does. */
export function roundsOf(
  settings: Pick<Settings, 'rounds'>,
  { train }: Manifest,
): number | undefined {
  return settings.rounds > 0 ? settings.rounds : train.stop?.rounds
}

export function isLive(run: RunState | undefined): run is RunState {
  return run !== undefined && run.type !== 'ended'
}

/** Was to go on from what is kept here, and could not read it. */
export function isAnew({ resumes, view }: RunState): boolean {
  return resumes && view?.resumed === false
}

/** On every page while it goes on, and with its fault until somebody has seen that. */
export function isInBar(run: RunState | undefined): run is RunState {
  return run !== undefined && (run.type !== 'ended' || run.fault !== undefined)
}

/** Nobody brings newcomers together: who is linked stays so, and nobody else can join. */
export function isClosed({ peers, introducers }: NetworkView): boolean {
  return peers.length > 0 && introducers === 0
}

export function phaseText({
  phase,
  limited,
  unsaved,
  progress,
  transfer,
  count,
}: RunState): string {
  if (phase === 'connecting' && transfer) return text.run.takingOver
  if (phase === 'stopped' && unsaved) return text.run.stoppedUnsaved
  if (limited && isAlone(phase)) return text.run.limited
  if (phase === 'training-alone' && count > 0) return text.run.apart(count)
  if (progress && (progress.of === 'device' || progress.of === 'data')) {
    const { of, done, total } = progress
    return text.run.preparing[of](text.phases[phase], done, total)
  }
  return text.phases[phase]
}

/** Training, with nobody to swap with. */
export function isAlone(phase: Phase): boolean {
  return phase === 'training-alone' || phase === 'offline-training'
}

/** Why a run that has long been alone is. */
export type Alone = 'offline' | 'noWebRTC' | 'unlinked' | 'apart' | 'nobody'

/** Undefined while there is nothing to explain. `webRTC`: whether this browser has it. */
export function whyAlone({ run, network }: AppState, webRTC: boolean): Alone | undefined {
  if (!isLive(run) || !run.lonely || run.limited) return undefined
  if (!network.isOnline) return 'offline'
  const byWebSocket = network.peers.some(({ path }) => path === 'ws')
  if (!webRTC && (!byWebSocket || run.count > 0)) return 'noWebRTC'
  if (network.peers.length === 0) return 'unlinked'
  return run.count > 0 ? 'apart' : 'nobody'
}

function isOver({ type }: RunState): boolean {
  return type === 'ending' || type === 'ended'
}

function isFetching({ opened }: AppState, reference: string): boolean {
  return opened.type === 'fetching' && opened.reference === reference
}

/** Another version may be open by the time that something is fetched. */
function isOpen({ opened }: AppState, cid: string): boolean {
  return opened.type === 'open' && opened.version.cid === cid
}

function onWork(state: AppState, genesis: string, change: (work: Work) => Partial<Work>): AppState {
  const work = workOf(state, genesis)
  return { ...state, works: { ...state.works, [genesis]: { ...work, ...change(work) } } }
}

function onCost(state: AppState, cid: string, change: Partial<Measured>): AppState {
  return { ...state, costs: { ...state.costs, [cid]: { ...costOf(state, cid), ...change } } }
}

function onOwner(state: AppState, change: Partial<OwnerKey>): AppState {
  return { ...state, owner: { ...state.owner, ...change } }
}

function onRun(state: AppState, change: (run: RunState) => Partial<RunState>): AppState {
  return state.run ? { ...state, run: { ...state.run, ...change(state.run) } } : state
}

function newRun(
  { genesis, cid, manifest }: OpenVersion,
  given: Pick<RunState, 'examples' | 'resumes'>,
): RunState {
  return {
    type: 'starting',
    genesis,
    cid,
    title: manifest.title,
    phase: 'checking-device',
    ...given,
    view: undefined,
    progress: undefined,
    transfer: undefined,
    round: 0,
    steps: 0,
    samples: 0,
    points: [],
    peers: {},
    count: 0,
    direct: 0,
    bytesUp: 0,
    bytesDown: 0,
    swaps: 0,
    limited: false,
    unsaved: undefined,
    lonely: false,
    pausedUntil: undefined,
    fault: undefined,
  }
}

function reported(run: RunState, report: Report, at: number): Partial<RunState> {
  if (report.ev === 'phase') {
    const lonely = run.lonely && isAlone(report.phase)
    return { phase: report.phase, lonely, progress: undefined, transfer: undefined }
  }
  if (report.ev === 'progress') return underWay(report)
  if (report.ev === 'peers') return { count: report.count, direct: report.direct }
  if (report.ev === 'round') {
    const { round, steps, loss } = report
    const samples = run.samples + report.samples
    const points = withPoint(run.points, { round, loss })
    return { round, steps, samples, points, progress: nextRound(run, report) }
  }
  if (report.ev === 'eval') {
    const points = withPoint(run.points, { round: report.round, [report.at]: report.metrics })
    return { points, progress: afterEvaluation(run) }
  }
  if (report.ev === 'swap') {
    const { bytesUp, bytesDown } = report
    return {
      transfer: undefined,
      swaps: run.swaps + 1,
      bytesUp: run.bytesUp + bytesUp,
      bytesDown: run.bytesDown + bytesDown,
      peers: withPeer(run, report.with, (peer) => ({
        path: report.path,
        swaps: peer.swaps + 1,
        bytesUp: peer.bytesUp + bytesUp,
        bytesDown: peer.bytesDown + bytesDown,
        lastAt: at,
        lastRound: report.round,
        failure: undefined,
      })),
    }
  }
  if (report.ev === 'swap-failed') {
    const peers = withPeer(run, report.with, () => ({ failure: report.reason }))
    return { peers, transfer: undefined }
  }
  if (report.ev === 'stopped') {
    const { bytesUp, bytesDown } = report
    return { phase: 'stopped', bytesUp, bytesDown, progress: undefined, transfer: undefined }
  }
  if (report.ev === 'failed') {
    const { type = 'unexpected', message, hint } = report
    return { phase: 'failed', fault: { kind: 'unexpected', type, message, hint } }
  }
  return {}
}

function underWay(report: Extract<Report, { ev: 'progress' }>): Partial<RunState> {
  const { of, done, total, with: peer = '' } = report
  if (of !== 'swap') return { progress: { of, done, total } }
  return { transfer: done < total ? { with: peer, done, total } : undefined }
}

/** What it measured long enough to be watched gives way to the next round. */
function afterEvaluation({ progress, phase, steps: total }: RunState): Progress | undefined {
  if (progress?.of !== 'evaluation') return progress
  return phase === 'evaluating' ? undefined : { of: 'round', done: 0, total }
}

/** Where a round was long enough to be watched, so is the next: its bar keeps its place. */
function nextRound(
  { progress }: RunState,
  { steps: total }: Extract<Report, { ev: 'round' }>,
): Progress | undefined {
  const isLong = progress?.of === 'round' && progress.done > 0
  return isLong ? { of: 'round', done: 0, total } : undefined
}

/** Rounds on the chart; older ones go. */
const POINTS_LIMIT = 5_000

/** Merges what comes for a round into that round's point; rounds come in order, evaluations of one may come later. */
function withPoint(points: readonly RunPoint[], point: RunPoint): readonly RunPoint[] {
  const at = points.findLastIndex(({ round }) => round <= point.round)
  if (points[at]?.round === point.round) return points.with(at, { ...points[at], ...point })
  return points.toSpliced(at + 1, 0, point).slice(-POINTS_LIMIT)
}

function withPeer(
  { peers }: RunState,
  peer: string,
  change: (peer: RunPeer) => Partial<RunPeer>,
): RunState['peers'] {
  const known = peers[peer] ?? newPeer(peer)
  return { ...peers, [peer]: { ...known, ...change(known) } }
}

function newPeer(peer: string): RunPeer {
  return {
    peer,
    path: undefined,
    swaps: 0,
    bytesUp: 0,
    bytesDown: 0,
    lastAt: 0,
    lastRound: 0,
    failure: undefined,
  }
}

/** The models that the filters let through, in their order. */
export function listed(models: readonly ListedModel[], filters: Filters): ListedModel[] {
  const words = filters.query.toLowerCase().split(/\s+/).filter(Boolean)
  return models
    .filter(({ task }) => filters.task === '' || task === filters.task)
    .filter((model) => {
      const { name, title, version, task, tags, labels } = model
      const text = [name, title, version, task, ...tags, ...labels]
      return words.every((word) => text.some((part) => part.toLowerCase().includes(word)))
    })
    .sort(orders[filters.sort])
}

const byName = (a: ListedModel, b: ListedModel) => a.title.localeCompare(b.title)
const orders: Record<Filters['sort'], (a: ListedModel, b: ListedModel) => number> = {
  name: byName,
  fresh: (a, b) => (b.issuedAt ?? 0) - (a.issuedAt ?? 0) || byName(a, b),
  peers: (a, b) => (b.peers ?? -1) - (a.peers ?? -1) || byName(a, b),
}

/** Whether there may be models for these filters that this list lacks: it is a part of them, or an answer to another question. */
export function isPartial({ asked, listed, total }: ModelList, { query, task }: Asked): boolean {
  const isAll = asked.query === '' && asked.task === ''
  const isSame = asked.query === query && asked.task === task
  return !isSame && (!isAll || listed < total)
}

export function tasksOf(models: readonly ListedModel[]): string[] {
  return [...new Set(models.map(({ task }) => task))].sort()
}

/** Indices of the `most` largest, largest first. */
export function topOf(shares: ArrayLike<number>, most: number): number[] {
  return Array.from({ length: shares.length }, (_, i) => i)
    .sort((a, b) => shares[b]! - shares[a]!)
    .slice(0, most)
}

/** A few examples from everything: the newest drawings first, then rows spread over the parts. */
export function someOf(
  { drawings, parts }: Work,
  most: number,
): { inputs: Uint8Array | Float32Array; label: number }[] {
  const drawn = drawings
    .slice(-most)
    .reverse()
    .map(({ pixels, label }) => ({ inputs: pixels, label }))
  const rows = parts.flatMap(({ examples: { size, width, inputs, labels } }) => {
    const wanted = Math.min(size, Math.ceil((most - drawn.length) / parts.length))
    const stride = Math.floor(size / wanted)
    return Array.from({ length: wanted }, (_, i) => {
      // A step further each time: where labels take turns, an even stride may meet only one of them.
      const row = Math.floor((i * size) / wanted) + (i % stride)
      return { inputs: inputs.subarray(row * width, (row + 1) * width), label: labels[row]! }
    })
  })
  return [...drawn, ...rows].slice(0, most)
}

/**
 * Who we swapped with, or tried to, the latest first, by the best path there is now, or else that of the last swap. Others that
 * are linked may train something else, or nothing.
 */
export function peersOf({ run, network }: AppState): (RunPeer & { rttMs: number | undefined })[] {
  const linked = new Map(network.peers.map((link) => [link.peer, link]))
  return Object.values(run?.peers ?? {})
    .map((row) => {
      const link = linked.get(row.peer)
      return { ...row, path: link?.path ?? row.path, rttMs: link?.rttMs }
    })
    .sort((a, b) => b.lastAt - a.lastAt)
}

/** What listings name as the newest, where it is neither this one nor one that this came from. */
export function newerOf(
  { cid, genesis, manifest }: OpenVersion,
  models: readonly ListedModel[],
): ListedModel | undefined {
  const listed = models.find((model) => model.genesis === genesis)
  const isBehind = listed?.version === cid || manifest.parents.includes(listed?.version ?? '')
  return isBehind || listed?.manifestVersion === manifest.version ? undefined : listed
}

export type PeerRole = LinkedPeer['roles'][number] | 'trains'

/** What a linked peer does: for everybody, and with us, where it swaps what the run of now trains. */
export function rolesOf({ run }: Pick<AppState, 'run'>, { peer, roles }: LinkedPeer): PeerRole[] {
  return [...roles, ...(isLive(run) && run.peers[peer] ? (['trains'] as const) : [])]
}

export type Role = 'newest' | 'here' | 'parent' | 'ancestor' | 'genesis'

export interface LineageEntry {
  cid: string
  roles: Role[]
  number: string | undefined
  accuracy: number | undefined
}

/** The versions that this one, its ancestors and the listings know of, newest first, each once with all its roles. */
export function lineageOf(
  { cid, genesis, manifest }: OpenVersion,
  models: readonly ListedModel[],
  ancestors: readonly Ancestor[] = [],
): LineageEntry[] {
  const newest = models.find((model) => model.genesis === genesis)
  const all: [Role, string][] = [
    ...(newest ? [['newest', newest.version] as [Role, string]] : []),
    ['here', cid],
    ...manifest.parents.map((parent): [Role, string] => ['parent', parent]),
    ...ancestors.map((ancestor): [Role, string] => ['ancestor', ancestor.cid]),
    ['genesis', genesis],
  ]
  const said = new Map<string, Omit<Ancestor, 'cid'>>([
    ...(newest
      ? [[newest.version, { number: newest.manifestVersion, accuracy: undefined }] as const]
      : []),
    ...ancestors.map((ancestor) => [ancestor.cid, ancestor] as const),
    [cid, { number: manifest.version, accuracy: manifest.metrics?.accuracy }],
  ])
  return [...Map.groupBy(all, ([, version]) => version)].map(([version, found]) => ({
    cid: version,
    // Who has a nearer name needs no further one.
    roles: found.map(([role]) => role).filter((role) => role !== 'ancestor' || found.length === 1),
    number: said.get(version)?.number,
    accuracy: said.get(version)?.accuracy,
  }))
}
