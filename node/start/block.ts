import { styleText } from 'node:util'
import { phaseSentences, type Report } from '../../protocol/index.ts'
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
    case 'stopped':
      // Totals: they count what was served to peers who pulled, too.
      row.up = report.bytesUp
      row.down = report.bytesDown
      return
    default:
      return
  }
}

/** The block, at most 79 columns wide: a row a peer, then what most of them do. */
export function block(rows: readonly PeerRow[], seconds: number): string {
  const names = namesOf(rows)
  const head = cells(columns.map(({ name }) => name))
  const lines = rows.map((row) =>
    cells([
      shortName(row.name),
      row.labels,
      String(row.round),
      row.loss === undefined ? '–' : row.loss.toFixed(3),
      `${percent(row.trained, '')} → ${percent(row.averaged)}`,
      String(row.swaps),
      megabytes(row.up),
      megabytes(row.down),
      shorten(pathsOf(row, names)),
    ]),
  )
  return [dim(head), ...lines, `${phaseOf(rows)} ${dim(`· ${Math.round(seconds)} s`)}`].join('\n')
}

/** Numbers stand to the right. */
const columns = [
  { name: 'peer', width: 4 },
  { name: 'holds', width: 5 },
  { name: 'round', width: 5, right: true },
  { name: 'loss', width: 5, right: true },
  { name: 'own → averaged', width: 15, right: true },
  { name: 'swaps', width: 5, right: true },
  { name: '↑ MB', width: 5, right: true },
  { name: '↓ MB', width: 5, right: true },
  { name: 'paths', width: 0 },
]
/** What the columns before it leave of 79. */
const PATHS_WIDTH = 14

/** A line that a terminal wraps cannot be drawn over: what has no room is left out, and said to be. */
function shorten(text: string): string {
  return text.length > PATHS_WIDTH ? `${text.slice(0, PATHS_WIDTH - 2)} …` : text
}

function cells(texts: readonly string[]): string {
  return texts
    .map((text, i) => {
      const { width, right } = columns[i]!
      return right ? text.padStart(width) : text.padEnd(width)
    })
    .join('  ')
}

/** Five columns, up to 99 GB. */
function megabytes(bytes: number): string {
  const value = bytes / 1e6
  return value.toFixed(value < 999.95 ? 1 : 0)
}

/** For logs, as much as the block: a line for all, then one a peer. */
export function lines(rows: readonly PeerRow[], seconds: number): string {
  const names = namesOf(rows)
  const peers = rows.map((row) => {
    const parts = [
      `round ${row.round}`,
      row.loss === undefined ? '' : `loss ${row.loss.toFixed(3)}`,
      `${percent(row.trained)} → ${percent(row.averaged)} averaged`,
      `swaps ${row.swaps}`,
      `sent ${sizeText(row.up)}, received ${sizeText(row.down)}`,
      pathsOf(row, names),
    ]
    return `  ${row.name} · ${parts.filter(Boolean).join(' · ')}`
  })
  return [`${Math.round(seconds)} s · ${phaseOf(rows)}`, ...peers].join('\n')
}

/** Names of the peers of this terminal, by their peer ids. */
function namesOf(rows: readonly PeerRow[]): Map<string, string> {
  return new Map(rows.map(({ peer, name }) => [peer, shortName(name)]))
}

/** `2` for `peer-2`. */
function shortName(name: string): string {
  return name.replace('peer-', '')
}

/** `tcp 2 3 +1`: the path, the peers it leads to, and how many who came from outside. */
function pathsOf({ paths }: PeerRow, names: ReadonlyMap<string, string>): string {
  const byPath = new Map<string, { ours: string[]; guests: number }>()
  for (const [peer, path] of paths) {
    const group = byPath.get(path) ?? { ours: [], guests: 0 }
    const name = names.get(peer)
    if (name) group.ours.push(name)
    else group.guests += 1
    byPath.set(path, group)
  }
  const texts = [...byPath].map(([path, { ours, guests }]) =>
    [path, ...ours.sort(), ...(guests > 0 ? [`+${guests}`] : [])].join(' '),
  )
  return texts.join(', ') || '–'
}

/** The phase most peers are in, as its sentence. */
function phaseOf(rows: readonly PeerRow[]): string {
  const counts = new Map<string, number>()
  for (const { phase } of rows) counts.set(phase, (counts.get(phase) ?? 0) + 1)
  const [most] = [...counts].sort(([, a], [, b]) => b - a)
  const phase = most?.[0] ?? 'starting'
  return phase in phaseSentences
    ? phaseSentences[phase as keyof typeof phaseSentences]
    : 'Starting the peers'
}

export function percent(share: number | undefined, unit = ' %'): string {
  return share === undefined ? '–' : `${(100 * share).toFixed(1)}${unit}`
}

function dim(text: string): string {
  return styleText('dim', text, { stream: process.stderr })
}
