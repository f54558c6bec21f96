import { styleText } from 'node:util'
import { type Report, phaseSentences } from '../../protocol/index.ts'
import { sizeText } from '../print.ts'

/** What the demonstration knows of each peer: a fold over its reports. */
export interface PeerRow {
  name: string
  labels: string
  phase: string
  round: number
  loss: number | undefined
  trained: number | undefined
  averaged: number | undefined
  swaps: number
  up: number
  down: number
  /** Peer ids met, with the path to each. */
  paths: Map<string, string>
  peer: string
}

export function newRow(name: string, labels: string): PeerRow {
  return {
    name,
    labels,
    phase: 'starting',
    round: 0,
    loss: undefined,
    trained: undefined,
    averaged: undefined,
    swaps: 0,
    up: 0,
    down: 0,
    paths: new Map(),
    peer: '',
  }
}

export function fold(row: PeerRow, report: Report): void {
  switch (report.ev) {
    case 'joined':
      row.peer = report.peer
      return
    case 'phase':
      row.phase = report.phase
      return
    case 'round':
      row.round = report.round
      row.loss = report.loss
      return
    case 'eval':
      row[report.at] = report.metrics.accuracy
      return
    case 'swap':
      row.swaps += 1
      row.up += report.bytesUp
      row.down += report.bytesDown
      row.paths.set(report.with, report.path)
      return
    default:
      return
  }
}

/** The block, at most 78 columns wide. */
export function block(rows: readonly PeerRow[], seconds: number): string {
  const names = new Map(rows.map(({ peer, name }) => [peer, name]))
  const head = 'peer    digits     round    loss   accuracy: own → averaged   swaps  sent'
  const lines = rows.map((row) => {
    const { name, labels, round, loss, trained, averaged, swaps, up } = row
    const cells = [
      name.padEnd(7),
      labels.padEnd(10),
      String(round).padStart(5),
      (loss === undefined ? '—' : loss.toFixed(3)).padStart(7),
      `${percent(trained).padStart(14)} → ${bold(percent(averaged))}`,
      String(swaps).padStart(12),
      sizeText(up).padStart(8),
    ]
    return cells.join(' ').trimEnd()
  })
  const paths = rows.map((row) => `${row.name} ${pathsOf(row, names)}`).join('   ')
  return [`${dim(head)}`, ...lines, dim(`paths  ${paths}`), `${phaseOf(rows)}  ${dim(`${Math.round(seconds)} s`)}`].join('\n')
}

/** One line for logs. */
export function line(rows: readonly PeerRow[], seconds: number): string {
  const peers = rows.map(({ name, round, trained, averaged }) => `${name} round ${round} ${percent(trained)} → ${percent(averaged)}`)
  return `${Math.round(seconds)} s  ${peers.join('   ')}`
}

function pathsOf({ paths }: PeerRow, names: ReadonlyMap<string, string>): string {
  if (paths.size === 0) return '–'
  return [...paths].map(([peer, path]) => `${path}→${names.get(peer) ?? peer.slice(-4)}`).join(' ')
}

/** The phase most peers are in, as its sentence. */
function phaseOf(rows: readonly PeerRow[]): string {
  const counts = new Map<string, number>()
  for (const { phase } of rows) counts.set(phase, (counts.get(phase) ?? 0) + 1)
  const [most] = [...counts].sort(([, a], [, b]) => b - a)
  const phase = most?.[0] ?? 'starting'
  return phase in phaseSentences ? phaseSentences[phase as keyof typeof phaseSentences] : 'Starting the peers'
}

export function percent(share: number | undefined): string {
  return share === undefined ? '—' : `${(100 * share).toFixed(1)} %`
}

function bold(text: string): string {
  return styleText('bold', text.padEnd(7), { stream: process.stderr })
}

function dim(text: string): string {
  return styleText('dim', text, { stream: process.stderr })
}
