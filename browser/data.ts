import type { Fault } from '../protocol/errors.ts'
import type { Manifest } from '../protocol/manifest.ts'
import { createCsvReader, DEFAULT_LABEL } from '../protocol/ports/csv.ts'
import {
  collectExamples,
  type DataReport,
  type Examples,
  type Skips,
  skip,
} from '../protocol/ports/examples.ts'
import { affineOf, fillInto, type Pixels, pixelsFor } from '../protocol/ports/preprocess.ts'
import { text } from './text.ts'
import { pageFault } from './words.ts'

/**
 * What a person drops or chooses → examples, all of it inside this page.
 *
 * A picture's label is the folder it lies in, or the one that was said beside it. What cannot be used is left out, counted and
 * named, pictures that came twice included; a wrong CSV file throws a Fault of kind data, as it does in Node.
 */
export interface ReadData {
  format: DataReport['format']
  name: string
  examples: Examples
  /** False: nothing says what they are, and their labels mean nothing. */
  isLabelled: boolean
  /** Where each picture lay; rows of a table have none. */
  paths: readonly string[]
  skips: Skips
}

/** A file and where it lay: `digits/3/a.png`. */
export interface FoundFile {
  path: string
  file: File
}

export interface ReadOptions {
  /** All pictures are of this label, whatever their folders say. */
  label?: string
  /** Other names of a CSV file's columns: what the model calls it → what the file does. */
  columns?: Readonly<Record<string, string>>
  /** They are only tried: what comes without any label is read all the same, and a picture that came twice counts twice. */
  toTry?: boolean
  onProgress?: (done: number, total: number) => void
  decode?: (file: File) => Promise<Pixels>
}

/** The same limit as in Node. */
const MAX_IMAGE_BYTES = 64 * 1024 * 1024

/** Reads one CSV file, or pictures. Throws Fault data. */
export async function readFiles(
  files: readonly FoundFile[],
  manifest: Manifest,
  options: ReadOptions = {},
): Promise<ReadData> {
  const visible = files.filter(({ path }) => !/(^|\/)\./.test(path))
  // A text by itself is a table; beside pictures it is somebody's note.
  const tables = visible.filter(({ path }) => isCsv(path, visible.length === 1))
  const { accept } = manifest.data
  if (tables.length > 0 && accept.includes('csv')) {
    if (tables.length === 1 && visible.length === 1) return readCsv(tables[0]!, manifest, options)
    throw pageFault('data', 'several-files', { files: visible.length, tables: tables.length })
  }
  if (manifest.input.kind === 'table' || !accept.includes('imagefolder')) {
    throw pageFault('data', 'wrong-format', { came: nameOf(visible) })
  }
  return readPictures(visible, manifest, options)
}

/** The files below what was dropped: folders are walked. Throws Fault `unreadable`. */
export async function filesOfDrop(transfer: DataTransfer): Promise<FoundFile[]> {
  // All entries first: after the first wait, the browser has forgotten them.
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? [])
  if (entries.length === 0) return filesOfList(transfer.files)
  const found: FoundFile[] = []
  for (const entry of entries) await walkInto(found, entry, entry.name)
  return found
}

export function filesOfList(files: Iterable<File>): FoundFile[] {
  return [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }))
}

/** Whether pictures of a folder or on their own are data for a model, and whether tables are. */
export const takesImages = ({ input, data }: Manifest) =>
  input.kind === 'image' && data.accept.includes('imagefolder')
export const takesCsv = ({ data }: Manifest) => data.accept.includes('csv')

/** One picture as the model takes it, to try it. Throws Fault data. */
export async function readPicture(file: File, manifest: Manifest): Promise<Uint8Array> {
  const pixels = await readPixels(file, manifest, decodePicture)
  if (pixels instanceof Uint8Array) return pixels
  throw pageFault('data', 'wrong-image', { file: file.name, why: pixels.reason })
}

/** Examples as the model takes them: Float32Array[size × width], scaled. */
export function scaled(examples: Examples, manifest: Manifest): Float32Array {
  const { size, width } = examples
  const batch = { inputs: new Float32Array(size * width), labels: new Int32Array(size) }
  const rows = Uint32Array.from({ length: size }, (_, row) => row)
  fillInto(batch, examples, rows, 0, size, affineOf(manifest))
  return batch.inputs
}

/** One example by itself, as raw values. */
export function single(inputs: Uint8Array | Float32Array): Examples {
  return { size: 1, width: inputs.length, inputs, labels: new Uint16Array(1) }
}

/** Values of one example. */
export function widthOf({ input }: Manifest): number {
  return input.kind === 'image' ? input.shape.reduce((a, b) => a * b, 1) : input.columns.length
}

/** The columns a CSV file must have by name, the label's first; pixels have none. */
export function wantedColumns({ input, data }: Manifest): string[] {
  return [data.label ?? DEFAULT_LABEL, ...(input.kind === 'table' ? input.columns : [])]
}

/** A header is looked for in so much of a file. */
const HEADER_BYTES = 256 * 1024

/** The names in a CSV file's first line. */
export async function readHeader(file: File): Promise<string[]> {
  const { default: Papa } = await import('papaparse')
  const { data } = Papa.parse<string[]>(await file.slice(0, HEADER_BYTES).text(), { preview: 1 })
  return (data[0] ?? []).map((cell) => cell.trim()).filter(Boolean)
}

async function readPictures(
  files: readonly FoundFile[],
  manifest: Manifest,
  { label, toTry = false, onProgress, decode = decodePicture }: ReadOptions,
): Promise<ReadData> {
  const labelOf = (path: string) => label ?? path.split('/').at(-2)
  const indexOf = (path: string) => manifest.output.labels.indexOf(labelOf(path) ?? '')
  const isLabelled = !toTry || files.some(({ path }) => indexOf(path) >= 0)
  const paths: string[] = []
  const collector = collectExamples(widthOf(manifest), 'pixels')
  const skips: Skips = { list: [], count: 0 }
  const seen = new Map<string, string>()
  let done = 0
  for (const { path, file } of files) {
    onProgress?.(done++, files.length)
    const index = isLabelled ? indexOf(path) : 0
    if (index < 0) {
      skip(skips, path, unknownFolder(labelOf(path), manifest))
      continue
    }
    const pixels = await readPixels(file, manifest, decode)
    if (!(pixels instanceof Uint8Array)) {
      skip(skips, path, pixels.reason)
      continue
    }
    const print = fingerprint(pixels)
    const twin = seen.get(print)
    if (twin !== undefined && !toTry) {
      skip(skips, path, text.leftOut.twin(twin))
      continue
    }
    seen.set(print, path)
    collector.add(pixels, index)
    paths.push(path)
  }
  if (collector.size === 0) throw nothingRead(files, skips)
  const examples = collector.finish()
  return { format: 'imagefolder', name: nameOf(files), examples, isLabelled, paths, skips }
}

async function readPixels(
  file: File,
  manifest: Manifest,
  decode: (file: File) => Promise<Pixels>,
): Promise<Uint8Array | { reason: string }> {
  if (file.size > MAX_IMAGE_BYTES) {
    return { reason: text.leftOut.large(file.size, MAX_IMAGE_BYTES) }
  }
  const decoded = await decode(file).catch(() => undefined)
  if (!decoded) return { reason: text.leftOut.unreadable }
  const pixels = pixelsFor(manifest, decoded)
  return pixels instanceof Uint8Array ? pixels : { reason: text.leftOut.misfit(pixels) }
}

/** Decoded as it was stored: no colour management, so that the same file gives the same numbers as in Node. */
async function decodePicture(file: File): Promise<Pixels> {
  const bitmap = await createImageBitmap(file, {
    premultiplyAlpha: 'none',
    colorSpaceConversion: 'none',
  })
  try {
    const { width, height } = bitmap
    const context = new OffscreenCanvas(width, height).getContext('2d', {
      willReadFrequently: true,
    })
    if (!context) throw new Error('this browser gives no canvas')
    context.drawImage(bitmap, 0, 0)
    return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data }
  } finally {
    bitmap.close()
  }
}

async function readCsv(
  { file }: FoundFile,
  manifest: Manifest,
  { columns = {}, toTry = false }: ReadOptions,
): Promise<ReadData> {
  const isLabelled = !toTry || (await readHeader(file)).includes(wantedColumns(manifest)[0]!)
  const reader = createCsvReader(manifest, file.name, { labelled: isLabelled })
  const examples = await parseCsv(file, reader, columns)
  const skips = { list: [], count: 0 }
  return { format: 'csv', name: file.name, examples, isLabelled, paths: [], skips }
}

async function parseCsv(
  file: File,
  reader: ReturnType<typeof createCsvReader>,
  columns: Readonly<Record<string, string>>,
): Promise<Examples> {
  const { default: Papa } = await import('papaparse')
  let isHeader = true
  return new Promise((resolve, reject) => {
    Papa.parse<string[]>(file, {
      skipEmptyLines: 'greedy',
      step: ({ data }, parser) => {
        try {
          reader.row(isHeader ? asCalled(data, columns) : data)
          isHeader = false
        } catch (error) {
          reject(error) // first: aborting calls complete
          parser.abort()
        }
      },
      complete: () => {
        try {
          resolve(reader.finish())
        } catch (error) {
          reject(error)
        }
      },
      error: ({ message }) => reject(unreadableFile(file.name, message)),
    })
  })
}

/**
 * A header with the model's names for its columns; `columns` says what the model calls one → what the file does. Where another
 * was chosen in the place of a column, that column has no name any more: the first of a name is read.
 */
export function asCalled(
  header: readonly string[],
  columns: Readonly<Record<string, string>>,
): string[] {
  const ours = new Map(Object.entries(columns).map(([name, theirs]) => [theirs, name]))
  return header.map((cell) => {
    const name = cell.trim()
    return ours.get(name) ?? (Object.hasOwn(columns, name) ? '' : name)
  })
}

async function walkInto(found: FoundFile[], entry: FileSystemEntry, path: string): Promise<void> {
  const unreadable = (error: Error) => {
    throw unreadableFile(path, error.message)
  }
  if (isFile(entry)) {
    const file = await new Promise<File>((resolve, reject) => entry.file(resolve, reject)).catch(
      unreadable,
    )
    found.push({ path, file })
    return
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader()
  // Gives a hundred at a time, and an empty list at the end.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    ).catch(unreadable)
    if (entries.length === 0) return
    for (const inner of entries) await walkInto(found, inner, `${path}/${inner.name}`)
  }
}

function isFile(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile
}

/** Two 32-bit FNV-1a sums over the pixels, one of them backwards. */
function fingerprint(pixels: Uint8Array): string {
  let forward = 0x811c9dc5
  let backward = 0x811c9dc5
  for (let i = 0; i < pixels.length; i++) {
    forward = Math.imul(forward ^ pixels[i]!, 0x01000193)
    backward = Math.imul(backward ^ pixels[pixels.length - 1 - i]!, 0x01000193)
  }
  return `${forward} ${backward}`
}

function unknownFolder(name: string | undefined, { output: { labels } }: Manifest): string {
  if (name === undefined) return text.leftOut.loose
  const some = labels.slice(0, 5).join(', ')
  return text.leftOut.folder(name, `${some}${labels.length > 5 ? ' …' : ''}`)
}

function nothingRead(files: readonly FoundFile[], { list: [first] }: Skips): Fault {
  return pageFault('data', 'no-examples', { files: files.length, first })
}

function nameOf(files: readonly FoundFile[]): string {
  if (files.length === 0) return text.data.nothing
  const [folder, below] = files[0]!.path.split('/')
  if (files.length === 1 || below === undefined) {
    return files.length === 1 ? files[0]!.file.name : text.data.fileCount(files.length)
  }
  return `${folder}/`
}

function isCsv(path: string, isAlone: boolean): boolean {
  return (isAlone ? /\.(csv|tsv|txt)$/i : /\.(csv|tsv)$/i).test(path)
}

function unreadableFile(file: string, why: string): Fault {
  return pageFault('data', 'unreadable', { file, why: why.replace(/[.\s]+$/, '') })
}
