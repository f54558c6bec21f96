import type { Manifest } from '../protocol/manifest.ts'

/**
 * A drawing as a model of small pictures takes it: scaled and centred as MNIST's makers did it.
 *
 *   strokes   points 0..1 across and down the pad, in the order they were drawn
 *   result    Uint8Array[height × width × channels], 0..255, before the model's own scaling
 *
 * The strokes' box is scaled to 20/28 of the picture with its proportions kept, and their centre of mass moved to the
 * middle. The pen is as wide as in those pictures however large somebody draws: only its path is scaled.
 * Source: LeCun, Cortes and Burges 1998, the MNIST database's page.
 */
export interface Point {
  x: number
  y: number
}
export type Stroke = readonly Point[]

/** Of a side: what the strokes' longer side fills. */
const BOX = 20 / 28
/** Of a side: half of the pen's width. */
const PEN = 1.15 / 28
/** A dot is not blown up to fill the box: strokes count as at least this long, of the pad. */
const LEAST = 0.25

/** Whether a person can draw what this model reads: small, gray, and few enough labels for a button each. */
export function isDrawable({ input, output }: Manifest): boolean {
  if (input.kind !== 'image') return false
  const [height, width, channels] = input.shape
  return channels === 1 && height <= 64 && width <= 64 && output.labels.length <= 40
}

/** The drawing's pixels for this model; undefined when nothing is drawn. */
export function pixelsOfDrawing(
  strokes: readonly Stroke[],
  manifest: Manifest,
): Uint8Array | undefined {
  if (manifest.input.kind !== 'image') return
  const [height, width, channels] = manifest.input.shape
  const ink = inkOf(strokes, width, height)
  if (!ink) return
  const isDarkOnLight = manifest.preprocess.some(({ op }) => op === 'invert')
  const pixels = new Uint8Array(height * width * channels)
  for (let i = 0; i < ink.length; i++) {
    const value = Math.round(255 * (isDarkOnLight ? 1 - ink[i]! : ink[i]!))
    for (let c = 0; c < channels; c++) pixels[i * channels + c] = c === 3 ? 255 : value
  }
  return pixels
}

/** How much of each pixel the pen covers: Float64Array[height × width], 0..1. */
export function inkOf(
  strokes: readonly Stroke[],
  width: number,
  height: number,
): Float64Array | undefined {
  const points = strokes.flat()
  if (points.length === 0) return
  const xs = points.map(({ x }) => x)
  const ys = points.map(({ y }) => y)
  const [left, right, top, bottom] = [least(xs), most(xs), least(ys), most(ys)]
  const side = Math.min(width, height)
  const pen = PEN * side
  const scale = (BOX * side - 2 * pen) / Math.max(right - left, bottom - top, LEAST)
  const place = (dx: number, dy: number): Stroke[] =>
    strokes.map((stroke) =>
      stroke.map(({ x, y }) => ({
        x: (x - (left + right) / 2) * scale + width / 2 + dx,
        y: (y - (top + bottom) / 2) * scale + height / 2 + dy,
      })),
    )
  const centre = centreOf(paint(place(0, 0), pen, width, height), width)
  return paint(place(width / 2 - centre.x, height / 2 - centre.y), pen, width, height)
}

/** Centre of mass, in pixels. */
export function centreOf(ink: Float64Array, width: number): Point {
  let sum = 0
  let x = 0
  let y = 0
  ink.forEach((value, i) => {
    sum += value
    x += value * ((i % width) + 0.5)
    y += value * (Math.floor(i / width) + 0.5)
  })
  return { x: x / sum, y: y / sum }
}

/** A round pen along each stroke: a pixel is covered as far as its centre lies inside, with one pixel of soft edge. */
function paint(
  strokes: readonly Stroke[],
  pen: number,
  width: number,
  height: number,
): Float64Array {
  const ink = new Float64Array(width * height)
  for (const stroke of strokes) {
    stroke.forEach((to, i) => paintInto(ink, stroke[Math.max(0, i - 1)]!, to, pen, width, height))
  }
  return ink
}

function paintInto(
  ink: Float64Array,
  from: Point,
  to: Point,
  pen: number,
  width: number,
  height: number,
): void {
  const reach = pen + 1
  const clamp = (value: number, end: number) => Math.min(end, Math.max(0, value))
  const firstX = clamp(Math.floor(Math.min(from.x, to.x) - reach), width)
  const lastX = clamp(Math.ceil(Math.max(from.x, to.x) + reach), width)
  const firstY = clamp(Math.floor(Math.min(from.y, to.y) - reach), height)
  const lastY = clamp(Math.ceil(Math.max(from.y, to.y) + reach), height)
  for (let y = firstY; y < lastY; y++) {
    for (let x = firstX; x < lastX; x++) {
      const covered = clamp(pen + 0.5 - distance({ x: x + 0.5, y: y + 0.5 }, from, to), 1)
      const at = y * width + x
      if (covered > ink[at]!) ink[at] = covered
    }
  }
}

/** From a point to the nearest of a line's points. */
function distance(point: Point, from: Point, to: Point): number {
  const dx = to.x - from.x
  const dy = to.y - from.y
  const length = dx * dx + dy * dy
  const along = length === 0 ? 0 : ((point.x - from.x) * dx + (point.y - from.y) * dy) / length
  const at = Math.min(1, Math.max(0, along))
  return Math.hypot(point.x - from.x - at * dx, point.y - from.y - at * dy)
}

function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b))
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b))
}
