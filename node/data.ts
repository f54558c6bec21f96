import { createReadStream } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { Readable } from 'node:stream'
import Papa from 'papaparse'
import { Fault } from '../protocol/errors.ts'
import type { Manifest } from '../protocol/manifest.ts'
import { createCsvReader, unknownLabel } from '../protocol/ports/csv.ts'
import {
  collectExamples,
  type DataReport,
  type Examples,
  noExamples,
  reportOf,
  type Skips,
  skip,
  splitRows,
} from '../protocol/ports/examples.ts'
import { pixelsFor } from '../protocol/ports/preprocess.ts'
import type { WorkerInit } from '../protocol/ports/trainer/commands.ts'
import type { LearnerData } from '../protocol/ports/trainer/learner.ts'
import { randomFrom } from '../protocol/random.ts'
import { decodeImage, MAX_IMAGE_BYTES } from './image.ts'
import { kindOf, unreadable } from './place.ts'

/**
 * Files → examples. A folder is an ImageFolder (one folder per label, PNG and JPEG inside), a file is CSV with a header.
 *
 * What cannot be read is left out and reported; what does not fit the model (size, columns, labels, cells) throws a Fault of
 * kind data, because leaving it out in silence would train on less than was given.
 */
export interface ReadData {
  format: DataReport['format']
  examples: Examples
  skips: Skips
}

/** What the learner asks for: the user's data, split by `seed`, and the data that came with the version. */
export async function loadData(init: WorkerInit, seed: number): Promise<LearnerData> {
  const { manifest, data, evalFiles } = init
  const { format, examples, skips } = data ? await readData(data.path, manifest) : nothing(manifest)
  if (data) checkEnough(examples, manifest, data.path)
  const split = splitRows(examples.size, manifest.train.validation, randomFrom(seed))
  const report = reportOf(format, examples, manifest.output.labels, split, skips)
  const evaluation = evalFiles?.length ? await readEvalFiles(evalFiles, manifest) : undefined
  return { examples, split, report, evaluation }
}

/** Reads a folder or a file. Throws Fault data. */
export async function readData(path: string, manifest: Manifest): Promise<ReadData> {
  const kind = await kindOf(path)
  const format = kind === 'folder' ? 'imagefolder' : 'csv'
  const { accept } = manifest.data
  if (!accept.includes(format) || (format === 'imagefolder' && manifest.input.kind === 'table')) {
    throw wrong(
      'wrong-format',
      `${path} is ${formats[format]}, and the model takes ${accept.map((name) => formats[name]).join(' or ')}`,
      'give --data what the model takes',
    )
  }
  return kind === 'folder' ? readFolder(path, manifest) : readCsvFile(path, manifest)
}

const formats = {
  imagefolder: 'a folder of images (one folder per label)',
  csv: 'a CSV file with a header',
}

/** Data that came with a version, as bytes. Throws Fault verification: its owner erred, not our user. */
export async function readEvalFiles(
  files: readonly { path: string; bytes: Uint8Array }[],
  manifest: Manifest,
): Promise<Examples> {
  const [file] = files
  if (!file || files.length > 1 || extname(file.path) !== '.csv') {
    throw wrongEval(
      `eval data is ${files.map(({ path }) => path).join(', ')}, expected one CSV file`,
    )
  }
  try {
    return await readCsv(Readable.from(slices(file.bytes)), file.path, manifest)
  } catch (error) {
    throw error instanceof Fault ? wrongEval(error.message, error) : error
  }
}

/** Papa Parse takes a whole string at once; pieces keep it from holding every cell of it. */
const SLICE_BYTES = 64 * 1024

function* slices(bytes: Uint8Array): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += SLICE_BYTES)
    yield Buffer.from(bytes.subarray(at, at + SLICE_BYTES))
}

async function readCsvFile(path: string, manifest: Manifest): Promise<ReadData> {
  const examples = await readCsv(createReadStream(path), basename(path), manifest)
  return { format: 'csv', examples, skips: { list: [], count: 0 } }
}

/** Rows without labels, to predict. Throws Fault data. */
export function readRows(path: string, manifest: Manifest): Promise<Examples> {
  return readCsv(createReadStream(path), basename(path), manifest, { labelled: false })
}

function readCsv(
  stream: Readable,
  name: string,
  manifest: Manifest,
  options?: { labelled: boolean },
): Promise<Examples> {
  const reader = createCsvReader(manifest, name, options)
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      stream.destroy()
      reject(error)
    }
    Papa.parse<string[]>(stream, {
      skipEmptyLines: 'greedy',
      step: ({ data }, parser) => {
        try {
          reader.row(data)
        } catch (error) {
          fail(error) // first: aborting calls complete
          parser.abort()
        }
      },
      complete: () => {
        try {
          resolve(reader.finish())
        } catch (error) {
          fail(error)
        }
      },
      error: (error) => fail(unreadable(name, error)),
    })
  })
}

async function readFolder(path: string, manifest: Manifest): Promise<ReadData> {
  const { input, output } = manifest
  const width = input.kind === 'image' ? input.shape.reduce((a, b) => a * b, 1) : 0
  const collector = collectExamples(width, 'pixels')
  const skips: Skips = { list: [], count: 0 }
  for (const folder of await namesIn(path, skips, '')) {
    const label = output.labels.indexOf(folder)
    if (label < 0) throw unknownLabel(`the folder ${join(path, folder)}`, folder, manifest)
    for (const file of await namesIn(path, skips, folder)) {
      const item = `${folder}/${file}`
      const pixels = await readImage(join(path, folder, file), item, manifest, skips)
      if (pixels) collector.add(pixels, label)
    }
  }
  if (collector.size === 0) throw emptyFolder(path, skips)
  return { format: 'imagefolder', examples: collector.finish(), skips }
}

/**
 * Sorted names: folders at the top, files in a label's folder. What is of the other kind is skipped; hidden ones, which
 * desktops leave everywhere, are not even mentioned.
 */
async function namesIn(root: string, skips: Skips, folder: string): Promise<string[]> {
  const names: string[] = []
  for (const entry of await entriesOf(join(root, folder))) {
    if (entry.startsWith('.')) continue
    const isFolder = (await kindOf(join(root, folder, entry)).catch(() => undefined)) === 'folder'
    if (isFolder === (folder === '')) names.push(entry)
    else
      skip(
        skips,
        join(folder, entry),
        isFolder ? 'is a folder inside a label' : 'is not in a folder named for its label',
      )
  }
  return names.sort()
}

/** Left out in silence, a label that may not be opened would be one that the model never learns. */
async function entriesOf(path: string): Promise<string[]> {
  return readdir(path).catch((error: Error) => {
    throw unreadable(path, error)
  })
}

/** The image as the model takes it, or undefined when it cannot be read; throws Fault when it does not fit. */
async function readImage(
  path: string,
  item: string,
  manifest: Manifest,
  skips: Skips,
): Promise<Uint8Array | undefined> {
  const rgba = await readPixels(path).catch((error: Error) => skip(skips, item, error.message))
  if (!rgba) return
  const fitted = pixelsFor(manifest, rgba)
  if (fitted instanceof Uint8Array) return fitted
  throw wrong('wrong-image', `${item}: ${fitted.message}`, fitted.hint)
}

/** Reads and decodes a file; throws an Error that says what it is instead. */
export async function readPixels(path: string) {
  const { size } = await stat(path)
  if (size > MAX_IMAGE_BYTES)
    throw new Error(`has ${size} bytes, expected at most ${MAX_IMAGE_BYTES}`)
  return decodeImage(await readFile(path))
}

function checkEnough({ size }: Examples, manifest: Manifest, path: string): void {
  const least = manifest.data.minExamples ?? 1
  if (size >= least) return
  throw wrong(
    'too-few-examples',
    `${path} holds ${size} examples, expected at least ${least}`,
    'add more examples',
  )
}

function nothing(manifest: Manifest): ReadData {
  const { input } = manifest
  const width =
    input.kind === 'image' ? input.shape.reduce((a, b) => a * b, 1) : input.columns.length
  return { format: 'none', examples: noExamples(width), skips: { list: [], count: 0 } }
}

function emptyFolder(path: string, { list, count }: Skips): Fault {
  const [first] = list
  const came = first
    ? `${count} files and none can be read (${first.item} ${first.reason})`
    : 'no images'
  return wrong(
    'no-examples',
    `${path} holds ${came}, expected PNG or JPEG files in one folder per label`,
    'put each image into a folder named for its label',
  )
}

function wrongEval(message: string, cause?: unknown): Fault {
  return new Fault(
    { kind: 'verification', type: 'wrong-eval', message, hint: "tell the model's owner" },
    cause,
  )
}

function wrong(type: string, message: string, hint: string, cause?: unknown): Fault {
  return new Fault({ kind: 'data', type, message, hint }, cause)
}
