import { plain } from '../protocol/ports/plain.ts'
import { type Phase, phaseSentences, type Report } from '../protocol/report.ts'
import { type Print, sizeText } from './print.ts'

/**
 * The live block of a training run, redrawn in place on a terminal; elsewhere one line now and then. It is a fold over
 * reports: what it shows follows from them alone.
 */
export interface Live {
  take(report: Report): void
  /** A line that stays, above the block. */
  note(text: string): void
  /** Leaves the last picture standing. */
  end(): void
}

/** Off a terminal a line is said this often. */
const LINE_EVERY_MS = 5000
/** On one, the block is drawn this often at most. */
const DRAW_EVERY_MS = 100
const PEERS_SHOWN = 8

interface State {
  phase: string
  /** Its name: a phase that only says how far it is makes no line of its own in a log. */
  phaseName: Phase
  round: number
  loss: number | undefined
  trained: number | undefined
  averaged: number | undefined
  peers: number
  direct: number
  swaps: number
  failed: number
  up: number
  down: number
  partners: Map<string, { path: string; swaps: number; at: number }>
  /** What takes long enough to be watched, as it was last told. */
  far: Partial<Record<Far['of'], Far>>
}

type Far = Extract<Report, { ev: 'progress' }>

export async function createLive(
  print: Print,
  now: () => number = () => performance.now(),
): Promise<Live> {
  const logUpdate = print.live ? (await import('log-update')).default : undefined
  const state: State = {
    phase: phaseSentences['checking-device'],
    phaseName: 'checking-device',
    round: 0,
    loss: undefined,
    trained: undefined,
    averaged: undefined,
    peers: 0,
    direct: 0,
    swaps: 0,
    failed: 0,
    up: 0,
    down: 0,
    partners: new Map(),
    far: {},
  }
  let saidAt = Number.NEGATIVE_INFINITY
  // Until the peer has joined, notes say what happens, one below the other.
  let isDrawing = false
  let phaseSaid: Phase | undefined
  /** How it ends by an error is said by who tells the error. */
  const sayBegun = (report: Report) => {
    if (report.ev === 'phase' && report.phase !== 'failed') print.note(`${report.text} ...`)
  }
  const every = print.live ? DRAW_EVERY_MS : LINE_EVERY_MS
  return {
    take(report) {
      fold(state, report, now())
      isDrawing ||= report.ev === 'joined'
      if (print.quiet || print.json) return
      if (!isDrawing) return sayBegun(report)
      const isNews = !print.live && state.phaseName !== phaseSaid
      if (!isNews && now() - saidAt < every) return
      saidAt = now()
      phaseSaid = state.phaseName
      if (logUpdate) logUpdate(blockOf(state, now()))
      else print.note(lineOf(state))
    },
    note(text) {
      if (isDrawing) logUpdate?.clear()
      print.note(text)
    },
    end() {
      if (!logUpdate || !isDrawing) return
      logUpdate(blockOf(state, now()))
      logUpdate.done()
    },
  }
}

function fold(state: State, report: Report, now: number): void {
  switch (report.ev) {
    case 'phase':
      state.phase = report.text
      state.phaseName = report.phase
      state.far = {}
      return
    case 'progress':
      if (report.done < report.total) state.far[report.of] = report
      else delete state.far[report.of]
      return
    case 'round':
      state.round = report.round
      state.loss = report.loss
      delete state.far.round
      return
    case 'eval':
      delete state.far.evaluation
      state[report.at] = report.metrics.accuracy
      return
    case 'peers':
      state.peers = report.count
      state.direct = report.direct
      return
    case 'swap': {
      const partner = state.partners.get(report.with) ?? { path: '', swaps: 0, at: 0 }
      state.partners.set(report.with, { path: report.path, swaps: partner.swaps + 1, at: now })
      state.swaps += 1
      state.up += report.bytesUp
      state.down += report.bytesDown
      delete state.far.swap
      return
    }
    case 'swap-failed':
      state.failed += 1
      delete state.far.swap
      return
    default:
      return
  }
}

/** One line: what a log shows. */
export function lineOf(state: State): string {
  const parts = [
    `round ${state.round}`,
    ...farText(state),
    state.loss === undefined ? '' : `loss ${state.loss.toFixed(3)}`,
    accuracyText(state),
    `peers ${state.direct} direct of ${state.peers}`,
    `swaps ${state.swaps}`,
    `sent ${sizeText(state.up)}, received ${sizeText(state.down)}`,
  ]
  return `${state.phase} · ${parts.filter(Boolean).join(' · ')}`
}

function blockOf(state: State, now: number): string {
  const rows = [
    state.phase,
    `  round ${state.round}${state.loss === undefined ? '' : `   loss ${state.loss.toFixed(4)}`}   ${accuracyText(state)}`,
    `  peers ${state.direct} direct of ${state.peers} known   swaps ${state.swaps}${state.failed > 0 ? `, ${state.failed} given up` : ''}   ↑ ${sizeText(state.up)}  ↓ ${sizeText(state.down)}`,
  ]
  const far = farText(state)
  if (far.length > 0) rows.push(`  ${far.join('   ')}`)
  const partners = [...state.partners].sort(([, a], [, b]) => b.at - a.at).slice(0, PEERS_SHOWN)
  for (const [peer, { path, swaps, at }] of partners) {
    rows.push(
      `    …${plain(peer).slice(-8)}  ${path.padEnd(13)} ${swaps} swaps, last ${Math.round((now - at) / 1000)} s ago`,
    )
  }
  return rows.join('\n')
}

/** How far the round, the measurement and the swap under way are. */
function farText({ round, far }: State): string[] {
  const { round: steps, evaluation, swap } = far
  return [
    steps && `round ${round + 1} at step ${steps.done} of ${steps.total}`,
    evaluation && `measured on ${evaluation.done} of ${evaluation.total} examples`,
    swap &&
      `to and from …${plain(swap.with ?? '').slice(-8)}: ${sizeText(swap.done)} of ${sizeText(swap.total)}`,
  ].filter((text) => text !== undefined)
}

function accuracyText({ trained, averaged }: State): string {
  if (trained === undefined && averaged === undefined) return ''
  const text = (value: number | undefined) =>
    value === undefined ? '—' : `${(100 * value).toFixed(1)} %`
  return `accuracy ${text(trained)} → ${text(averaged)} averaged`
}
