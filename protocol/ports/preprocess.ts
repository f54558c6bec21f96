import { channelsOf, type Manifest, type PreprocessStep } from '../manifest.ts'
import type { Examples } from './examples.ts'

/**
 * From an image or a row to what the model takes, by the manifest's fixed list of steps. Both hosts do it with this code, so
 * that a model sees the same numbers everywhere.
 *
 * `grayscale` and `resize` work on decoded pixels, in their order, before an image is stored; `invert`, `scale` and
 * `standardize` are one multiplication and addition per channel, done when a batch is filled.
 */

/** A decoded image: data is Uint8[height × width × channels], 0..255. */
export interface Pixels {
  width: number
  height: number
  channels: number
  data: Uint8Array | Uint8ClampedArray
}

/** Why an image does not fit: what came and what was expected. */
export interface Misfit {
  type: 'misfit'
  /** What came and what fits, for who says it in other words; an image for a table has neither. */
  facts:
    | { came: readonly [width: number, height: number]; fits: readonly [number, number] }
    | { channels: number; fits: number }
    | Record<string, never>
  message: string
  hint: string
}

/** Decoded RGBA → Uint8[h × w × c] as the model's input has it, values still 0..255. */
export function pixelsFor(manifest: Manifest, rgba: Pixels): Uint8Array | Misfit {
  const { input, preprocess } = manifest
  if (input.kind !== 'image')
    return misfit({}, 'an image came', 'a row of a table', 'give a CSV file')
  const [height, width, channels] = input.shape
  let image = channels === 4 ? rgba : onWhite(rgba)
  for (const step of preprocess) image = reshape(image, step)
  if (image.width !== width || image.height !== height) {
    return misfit(
      { came: [image.width, image.height], fits: [width, height] },
      `the image is ${image.width}x${image.height} pixels`,
      `${width}x${height} (width x height)`,
      'resize your images, or choose a model whose preprocessing resizes them',
    )
  }
  if (channels === 1 && image.channels === 3 && isGray(image)) image = grayscale(image)
  if (channels === 3 && image.channels === 1) image = spread(image)
  if (image.channels !== channels) {
    return misfit(
      { channels: image.channels, fits: channels },
      `the image has ${image.channels} channels`,
      `${channels}`,
      channels === 1
        ? 'convert your images to shades of gray'
        : 'choose a model that takes such images',
    )
  }
  return image.data instanceof Uint8Array ? image.data : new Uint8Array(image.data)
}

/** value · multiply + add, one of each per channel or column. */
export interface Affine {
  multiply: Float64Array
  add: Float64Array
}

/** The value steps of the list as one multiplication and addition per channel. */
export function affineOf(manifest: Manifest): Affine {
  const channels = channelsOf(manifest)
  const affine = { multiply: new Float64Array(channels).fill(1), add: new Float64Array(channels) }
  for (const step of manifest.preprocess) {
    for (let c = 0; c < channels; c++) {
      const [multiply, add] = valueStep(step, c, affine.multiply[c]!, affine.add[c]!)
      affine.multiply[c] = multiply
      affine.add[c] = add
    }
  }
  return affine
}

/** Writes the examples at `rows[from ..< to]` to `inputs` and `labels`, prepared for the model. */
export function fillInto(
  batch: { inputs: Float32Array; labels: Int32Array },
  examples: Examples,
  rows: Uint32Array,
  from: number,
  to: number,
  { multiply, add }: Affine,
): void {
  const { width, inputs, labels } = examples
  const channels = multiply.length
  let at = 0
  for (let i = from; i < to; i++) {
    const row = rows[i]!
    batch.labels[i - from] = labels[row]!
    const end = (row + 1) * width
    for (let j = row * width, c = 0; j < end; j++) {
      batch.inputs[at++] = inputs[j]! * multiply[c]! + add[c]!
      if (++c === channels) c = 0
    }
  }
}

/** How one step changes x · multiply + add. `invert` mirrors what 0 and 255 have become: light to dark. */
function valueStep(
  step: PreprocessStep,
  c: number,
  multiply: number,
  add: number,
): [number, number] {
  if (step.op === 'invert') return [-multiply, 255 * multiply + add]
  if (step.op === 'scale') return [multiply * step.multiply, add * step.multiply + (step.add ?? 0)]
  if (step.op === 'standardize') {
    const mean = step.mean[c] ?? step.mean[0]!
    const std = step.std[c] ?? step.std[0]!
    return [multiply / std, (add - mean) / std]
  }
  return [multiply, add]
}

function reshape(image: Pixels, step: PreprocessStep): Pixels {
  if (step.op === 'grayscale') return grayscale(image)
  if (step.op === 'resize') return resize(image, step.width, step.height)
  return image
}

/** Transparent pixels show white below; the alpha channel goes. */
function onWhite({ width, height, data }: Pixels): Pixels {
  const rgb = new Uint8Array(width * height * 3)
  for (let from = 0, to = 0; to < rgb.length; from += 4) {
    const alpha = data[from + 3]! / 255
    for (let c = 0; c < 3; c++) rgb[to++] = Math.round(data[from + c]! * alpha + 255 * (1 - alpha))
  }
  return { width, height, channels: 3, data: rgb }
}

/** Luma of ITU-R BT.601. */
function grayscale(image: Pixels): Pixels {
  const { width, height, channels, data } = image
  if (channels === 1) return image
  const gray = new Uint8Array(width * height)
  for (let i = 0, from = 0; i < gray.length; i++, from += channels) {
    gray[i] = Math.round(0.299 * data[from]! + 0.587 * data[from + 1]! + 0.114 * data[from + 2]!)
  }
  return { width, height, channels: 1, data: gray }
}

function isGray({ data }: Pixels): boolean {
  for (let i = 0; i < data.length; i += 3) {
    if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false
  }
  return true
}

function spread({ width, height, data }: Pixels): Pixels {
  const rgb = new Uint8Array(data.length * 3)
  for (let i = 0; i < rgb.length; i++) rgb[i] = data[Math.floor(i / 3)]!
  return { width, height, channels: 3, data: rgb }
}

/**
 * Separable triangle filter, widened when it shrinks so that every pixel counts; centres at half pixels. The same as Pillow's
 * BILINEAR up to rounding between the two passes.
 */
export function resize(image: Pixels, width: number, height: number): Pixels {
  if (image.width === width && image.height === height) return image
  const across = filterLine(image.width, width)
  const down = filterLine(image.height, height)
  const { channels, data } = image
  const rows = new Float64Array(image.height * width * channels)
  for (let y = 0; y < image.height; y++) {
    passInto(
      rows,
      y * width * channels,
      channels,
      data,
      y * image.width * channels,
      channels,
      channels,
      across,
    )
  }
  const columns = new Float64Array(height * width * channels)
  const stride = width * channels
  for (let x = 0; x < width; x++) {
    passInto(columns, x * channels, stride, rows, x * channels, stride, channels, down)
  }
  return { width, height, channels, data: Uint8ClampedArray.from(columns) }
}

/** For each target place: the first source place it sees and the share of each from there on. */
interface Taps {
  first: number
  shares: Float64Array
}

function filterLine(from: number, to: number): Taps[] {
  const step = from / to
  const reach = Math.max(1, step)
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * step
    const first = Math.max(0, Math.floor(centre - reach + 0.5))
    const end = Math.min(from, Math.floor(centre + reach + 0.5))
    const shares = new Float64Array(Math.max(1, end - first))
    for (let i = 0; i < shares.length; i++) {
      shares[i] = Math.max(0, 1 - Math.abs((first + i + 0.5 - centre) / reach))
    }
    const sum = shares.reduce((a, b) => a + b, 0)
    return { first, shares: sum > 0 ? shares.map((share) => share / sum) : shares.fill(1, 0, 1) }
  })
}

/** Filters one row or column: places lie `stride` apart, starting at the given offsets. */
function passInto(
  target: Float64Array,
  targetAt: number,
  targetStride: number,
  source: ArrayLike<number>,
  sourceAt: number,
  sourceStride: number,
  channels: number,
  line: Taps[],
): void {
  line.forEach(({ first, shares }, place) => {
    for (let c = 0; c < channels; c++) {
      let sum = 0
      for (let i = 0; i < shares.length; i++) {
        sum += shares[i]! * source[sourceAt + (first + i) * sourceStride + c]!
      }
      target[targetAt + place * targetStride + c] = sum
    }
  })
}

function misfit(facts: Misfit['facts'], came: string, expected: string, hint: string): Misfit {
  return { type: 'misfit', facts, message: `${came}, expected ${expected}`, hint }
}
