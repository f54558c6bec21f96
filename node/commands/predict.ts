import { Fault } from '../../protocol/errors.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import type { Examples } from '../../protocol/ports/examples.ts'
import { plain } from '../../protocol/ports/plain.ts'
import type { CommandSpec, Context } from '../command.ts'
import { measureOptions, openTrainer, openVersion } from '../measure.ts'

/** Labels shown of each file or row, the likeliest first. */
const LABELS_SHOWN = 3

interface Prediction {
  /** The file, and in a CSV file the row: `mine.csv row 2`. */
  item: string
  labels: { label: string; probability: number }[]
}

/** What a version makes of images, or of the rows of CSV files. */
export const predict: CommandSpec = {
  arguments: '<model> <files...>',
  options: measureOptions,
  examples: ['mlstore predict digits seven.png', 'mlstore predict ./a-version rows.csv --json'],
  async run(context) {
    const [model, files] = context.args as [string, string[]]
    const opened = await openVersion(context, model)
    const predictions = await predictAll(context, opened.checked, files)
    context.print.answer({
      id: predictions.map(({ labels }) => plain(labels[0]!.label)).join('\n'),
      object: { model: opened.model, predictions },
      text: predictions.map(lineOf).join('\n'),
    })
  },
}

async function predictAll(
  context: Context,
  checked: Parameters<typeof openTrainer>[1],
  files: string[],
): Promise<Prediction[]> {
  const { manifest } = checked
  const { affineOf, fillInto } = await import('../../protocol/ports/preprocess.ts')
  const { allRows } = await import('../../protocol/ports/trainer/evaluate.ts')
  const affine = affineOf(manifest)
  // One example at a time is not cut.
  const options = { ...context.options, threads: 1 }
  const { trainer, params } = await openTrainer({ ...context, options }, checked)
  trainer.load(params)
  const predictions: Prediction[] = []
  for (const file of files) {
    const examples = await read(file, manifest)
    const rows = allRows(examples)
    const batch = { inputs: new Float32Array(trainer.inputSize), labels: new Int32Array(1) }
    for (let row = 0; row < examples.size; row++) {
      fillInto(batch, examples, rows, row, row + 1, affine)
      const item = isCsv(file) ? `${file} row ${row + 1}` : file
      predictions.push({ item, labels: topLabels(trainer.predict(batch.inputs, 1), manifest) })
    }
  }
  trainer.close()
  return predictions
}

/** The rows of a CSV file, or one image. Throws Fault data. */
async function read(file: string, manifest: Manifest): Promise<Examples> {
  const { readPixels, readRows } = await import('../data.ts')
  if (isCsv(file)) return readRows(file, manifest)
  const { pixelsFor } = await import('../../protocol/ports/preprocess.ts')
  const rgba = await readPixels(file).catch((error: Error) => {
    throw misfit(file, error.message, 'give PNG or JPEG images, or CSV files', error)
  })
  const pixels = pixelsFor(manifest, rgba)
  if (!(pixels instanceof Uint8Array)) throw misfit(file, pixels.message, pixels.hint)
  return { size: 1, width: pixels.length, inputs: pixels, labels: new Uint16Array(1) }
}

function topLabels(
  probabilities: Float32Array,
  { output: { labels } }: Manifest,
): Prediction['labels'] {
  return Array.from(probabilities, (probability, i) => ({ label: labels[i]!, probability }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, LABELS_SHOWN)
}

function lineOf({ item, labels }: Prediction): string {
  const shares = labels.map(
    ({ label, probability }) => `${plain(label)} ${(100 * probability).toFixed(1)} %`,
  )
  return `${item}: ${shares.join('  ')}`
}

function isCsv(file: string): boolean {
  return file.toLowerCase().endsWith('.csv')
}

function misfit(file: string, message: string, hint: string, cause?: unknown): Fault {
  return new Fault(
    { kind: 'data', type: 'wrong-file', message: `${file}: ${message}`, hint },
    cause,
  )
}
