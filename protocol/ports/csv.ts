import { Fault } from '../errors.ts'
import type { FaultFacts } from '../facts.ts'
import type { Manifest } from '../manifest.ts'
import { collectExamples, type Examples } from './examples.ts'

/**
 * Rows of a CSV file → examples. The host parses the text; here cells become numbers and labels, and what does not fit is named.
 *
 * An image model's file has the label column and height × width × channels others, in order: whole numbers 0..255.
 * A table model's file has the label column and every column of the manifest, by name, in any order; others are ignored.
 */
export interface CsvReader {
  /** The header first, then row by row; throws Fault data. */
  row(cells: readonly string[]): void
  /** Throws Fault data when there was no row. */
  finish(): Examples
}

export const DEFAULT_LABEL = 'label'

/** `labelled: false` reads rows to predict: a label column may be missing, and is not looked at. */
export function createCsvReader(
  manifest: Manifest,
  name: string,
  { labelled = true }: { labelled?: boolean } = {},
): CsvReader {
  const { input } = manifest
  const labelColumn = manifest.data.label ?? DEFAULT_LABEL
  const labels = new Map(manifest.output.labels.map((label, i) => [label, i]))
  const width =
    input.kind === 'image' ? input.shape.reduce((a, b) => a * b, 1) : input.columns.length
  const collector = collectExamples(width, input.kind === 'image' ? 'pixels' : 'numbers')
  const values = new Float64Array(width)
  const readCell = input.kind === 'image' ? readPixel : readNumber
  let places: Places | undefined
  let header: readonly string[] = []

  const readRow = (cells: readonly string[], { label, columns }: Places) => {
    const row = collector.size + 1
    if (cells.length !== header.length) {
      throw wrong(
        'wrong-row',
        { file: name, row, cells: cells.length, expected: header.length },
        `${name} row ${row} has ${cells.length} cells, expected ${header.length}`,
        ROW_HINT,
      )
    }
    for (let i = 0; i < width; i++) {
      const cell = cells[columns[i]!]!
      const value = readCell(cell)
      if (value === undefined) throw wrongCell(name, row, header[columns[i]!]!, cell, input.kind)
      values[i] = value
    }
    const text = labelled ? cells[label]!.trim() : manifest.output.labels[0]!
    const index = labels.get(text)
    if (index === undefined) throw unknownLabel(`${name} row ${row}`, text, manifest)
    collector.add(values, index)
  }

  return {
    row(cells) {
      if (places) return readRow(cells, places)
      header = cells.map((cell) => cell.trim())
      const label = labelled ? placeOf(header, labelColumn, name) : header.indexOf(labelColumn)
      const columns =
        input.kind === 'image'
          ? pixelPlaces(header, label, input.shape, name)
          : input.columns.map((column) => placeOf(header, column, name))
      places = { label, columns }
    },
    finish() {
      if (collector.size > 0) return collector.finish()
      const came = places ? 'a header and no rows' : 'nothing'
      throw wrong(
        'no-examples',
        { file: name, hasHeader: places !== undefined },
        `${name} holds ${came}, expected a header and at least one row`,
        'give a file with examples',
      )
    },
  }
}

/** Where in a row the label (−1 without one) and the values stand. */
interface Places {
  label: number
  columns: number[]
}

function pixelPlaces(
  header: readonly string[],
  label: number,
  shape: readonly number[],
  name: string,
): number[] {
  const columns = [...header.keys()].filter((i) => i !== label)
  const width = shape.reduce((a, b) => a * b, 1)
  if (columns.length === width) return columns
  throw wrong(
    'wrong-columns',
    { file: name, columns: columns.length, expected: width },
    `${name} has ${columns.length} pixel columns beside the label, expected ${width} (${shape.join('x')})`,
    'resize the images before you write the file, or give a folder of images',
  )
}

function placeOf(header: readonly string[], column: string, name: string): number {
  const at = header.indexOf(column)
  if (at >= 0) return at
  const some = header.slice(0, 5).map(quoted).join(', ')
  const more = header.length > 5 ? ` and ${header.length - 5} more` : ''
  throw wrong(
    'missing-column',
    { file: name, column, header },
    `${name} has no column ${quoted(column)}; its header has ${some}${more}`,
    'name the columns in the first line as the model does',
  )
}

function readNumber(cell: string): number | undefined {
  const value = Number(cell)
  return Number.isFinite(Math.fround(value)) && cell.trim() !== '' ? value : undefined
}

function readPixel(cell: string): number | undefined {
  const value = Number(cell)
  return Number.isInteger(value) && value >= 0 && value <= 255 && cell.trim() !== ''
    ? value
    : undefined
}

function wrongCell(
  name: string,
  row: number,
  column: string,
  cell: string,
  kind: 'image' | 'table',
): Fault {
  const expected = kind === 'image' ? 'a whole number 0 to 255' : 'a number'
  return wrong(
    'wrong-cell',
    { file: name, row, column, cell, input: kind },
    `${name} row ${row} column ${quoted(column)} is ${quoted(cell)}, expected ${expected}`,
    ROW_HINT,
  )
}

/** Also for folders that are no label. */
export function unknownLabel(where: string, label: string, manifest: Manifest): Fault {
  const { labels } = manifest.output
  const some = labels.slice(0, 12).map(quoted).join(', ')
  const more = labels.length > 12 ? ` and ${labels.length - 12} more` : ''
  return wrong(
    'unknown-label',
    { where, label, labels },
    `${where} has the label ${quoted(label)}, expected one of ${some}${more}`,
    'rename it, or take it out of the data',
  )
}

const ROW_HINT = 'correct that row, or take it out'

function wrong<T extends keyof FaultFacts>(
  type: T,
  facts: FaultFacts[T],
  message: string,
  hint: string,
): Fault {
  return new Fault<string>({ kind: 'data', type, message, hint, ...facts })
}

/** What came from a file, on one line and short. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 39)}…` : text)
}
