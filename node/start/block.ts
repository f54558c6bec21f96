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
  const names = new Map(rows.map(({ peer, name }) => [peer, name]))
  const head = cells([
    'peer',
    'holds',
    'round',
    'loss',
    'own → averaged',
    'swaps',
    'traffic',
    'paths',
  ])
  const lines = rows.map((row) =>
    cells([
      row.name,
      row.labels,
      String(row.round),
      row.loss === undefined ? '–' : row.loss.toFixed(3),
      `${percent(row.trained, '')} → ${percent(row.averaged)}`,
      String(row.swaps),
      sizeText(row.up + row.down),
      shorten(pathsOf(row, names)),
    ]),
  )
  return [dim(head), ...lines, `${phaseOf(rows)} ${dim(`· ${Math.round(seconds)} s`)}`].join('\n')
}

/** Widths of the columns; numbers stand to the right. */
const columns = [
  { width: 6 },
  { width: 5 },
  { width: 5, right: true },
  { width: 6, right: true },
  { width: 14, right: true },
  { width: 5, right: true },
  { width: 7, right: true },
  { width: 0 },
]
/** What the columns before it leave of 79. */
const PATHS_WIDTH = 17

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

/** One line for logs. */
export function line(rows: readonly PeerRow[], seconds: number): string {
  const peers = rows.map(({ name, round, trained, averaged }) => {
    return `${name} round ${round} ${percent(trained)} → ${percent(averaged)}`
  })
  return `${Math.round(seconds)} s  ${peers.join('   ')}`
}

/** `tcp 2 3 +1`: the path, the peers it leads to, and how many who came from outside. */
function pathsOf({ paths }: PeerRow, names: ReadonlyMap<string, string>): string {
  const byPath = new Map<string, { ours: string[]; guests: number }>()
  for (const [peer, path] of paths) {
    const group = byPath.get(path) ?? { ours: [], guests: 0 }
    const name = names.get(peer)?.replace('peer-', '')
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
