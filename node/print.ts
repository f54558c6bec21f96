/**
 * What a command says. Data goes to stdout, progress and complaints to stderr; `--json` turns data into
 * JSON, `-q` keeps only ids. No colour under NO_COLOR or off a terminal, nothing that moves off a terminal.
 */
import { styleText } from 'node:util'
import type { Fault } from '../protocol/errors.ts'
import type { Report } from '../protocol/report.ts'

export interface Print {
  readonly json: boolean
  readonly quiet: boolean
  /** Whether stderr may be redrawn. */
  readonly live: boolean
  /** The answer of a command: `id` alone with -q, `object` with --json, else the `text` for people. */
  answer(forms: { id?: string; object: object; text: string }): void
  /** One event a line with --json, adding `t`; nothing without. */
  event(event: Report): void
  /** One line of progress on stderr; silent with -q. */
  note(text: string): void
  /** How far a transfer is; redrawn on a terminal, said every few seconds elsewhere. */
  progress(what: string, done: number, total: number): void
  failed(fault: Fault): void
  /**
   * Awaits `work` and says every 15 s what it waits for. `text` may change while it waits.
   */
  waiting<T>(text: string | (() => string), work: Promise<T>): Promise<T>
  /** Resolves when stdout and stderr have taken everything, or after the limit. */
  flushed(limitMs: number): Promise<void>
}

/** A wait longer than this says what it waits for, and again after as long. */
const SILENCE_LIMIT_MS = 15_000
/** Off a terminal progress is said this often at most. */
const PROGRESS_EVERY_MS = 5_000
/** On a terminal it is redrawn this often at most. */
const REDRAW_EVERY_MS = 100

export function createPrint({ json, quiet }: { json: boolean; quiet: boolean }): Print {
  const live = process.stderr.isTTY === true && !quiet && !json
  ignoreBrokenPipes()
  let drawn = false
  let saidAt = 0
  const clear = () => {
    if (drawn) process.stderr.write('\r\u001b[2K')
    drawn = false
  }
  const out = (line: string) => {
    clear()
    process.stdout.write(`${line}\n`)
  }
  const err = (line: string) => {
    clear()
    process.stderr.write(`${line}\n`)
  }
  const print: Print = {
    json,
    quiet,
    live,
    answer({ id, object, text }) {
      if (json) out(JSON.stringify(object))
      else out(quiet && id !== undefined ? id : text)
    },
    event(event) {
      if (json) out(JSON.stringify({ t: new Date().toISOString(), ...event }))
    },
    note(text) {
      if (!quiet) err(text)
    },
    progress(what, done, total) {
      if (quiet) return
      const now = performance.now()
      const ended = done >= total
      if (!ended && now - saidAt < (live ? REDRAW_EVERY_MS : PROGRESS_EVERY_MS)) return
      saidAt = now
      if (!live) return err(`${what} ${sizeText(done)} of ${sizeText(total)}`)
      process.stderr.write(
        `\r\u001b[2K${what} ${bar(done, total)} ${sizeText(done)} of ${sizeText(total)}`,
      )
      drawn = true
      if (ended) clear()
    },
    failed(fault) {
      const { message, hint, type } = fault.detail
      print.event({ ev: 'failed', code: fault.exitCode, type, message, hint })
      err(`${styled('red', 'mlstore:')} ${message}; ${hint}`)
    },
    async waiting(text, work) {
      const startedAt = performance.now()
      const timer = setInterval(() => {
        const seconds = Math.round((performance.now() - startedAt) / 1_000)
        const what = typeof text === 'string' ? text : text()
        err(`waiting ${seconds} s for ${what}`)
      }, SILENCE_LIMIT_MS)
      try {
        return await work
      } finally {
        clearInterval(timer)
      }
    },
    flushed: (limitMs) =>
      Promise.race([
        Promise.all([drained(process.stdout), drained(process.stderr)]).then(() => undefined),
        new Promise<void>((resolve) => setTimeout(resolve, limitMs)),
      ]),
  }
  return print
}

/** 1.2 MB; decimal units, as disks and networks count. */
export function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  let value = bytes
  for (; value >= 1_000 && unit < units.length - 1; unit++) value /= 1_000
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`
}

/** Columns of equal width, two spaces apart. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length)
    })
  }
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Coloured on a terminal unless NO_COLOR says otherwise; styleText looks at both. */
export function styled(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: process.stderr })
}

function bar(done: number, total: number): string {
  const width = 20
  const full = total > 0 ? Math.min(width, Math.floor((done / total) * width)) : width
  return '█'.repeat(full) + '░'.repeat(width - full)
}

function drained(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableLength === 0) resolve()
    else stream.write('', () => resolve())
  })
}

let pipesWatched = false

/** A reader that went away (`mlstore ls | head -1`) is no error: leave quietly, as other tools do. */
function ignoreBrokenPipes(): void {
  if (pipesWatched) return
  pipesWatched = true
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      throw error
    })
  }
}
