import { expect, test } from 'vitest'
import { centreOf, inkOf, isDrawable, pixelsOfDrawing, type Stroke } from '../../browser/drawing.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { digits, flowers } from './manifests.ts'

const line = (...points: [number, number][]): Stroke => points.map(([x, y]) => ({ x, y }))

const withShape = (shape: [number, number, 3]): Manifest => ({
  ...digits,
  input: { kind: 'image', shape, dtype: 'float32' },
})

/** First and last row and column that hold ink. */
function boxOf(ink: ArrayLike<number>, width: number) {
  const at = Array.from({ length: ink.length }, (_, i) => i).filter((i) => ink[i]! > 0.5)
  const xs = at.map((i) => i % width)
  const ys = at.map((i) => Math.floor(i / width))
  return {
    width: Math.max(...xs) - Math.min(...xs) + 1,
    height: Math.max(...ys) - Math.min(...ys) + 1,
  }
}

test('a drawing fills the 20 pixel box wherever and however large it was drawn', () => {
  for (const scale of [1, 0.5]) {
    const ink = inkOf([line([0.1, 0.1], [0.1, 0.1 + 0.8 * scale])], 28, 28)!
    expect(Math.abs(boxOf(ink, 28).height - 20)).toBeLessThanOrEqual(1)
  }
})

test('the centre of mass lies in the middle', () => {
  const seven = line([0.2, 0.1], [0.8, 0.1], [0.4, 0.9])
  const centre = centreOf(inkOf([seven], 28, 28)!, 28)
  expect(centre.x).toBeCloseTo(14, 0)
  expect(centre.y).toBeCloseTo(14, 0)
})

test('proportions are kept', () => {
  const ink = inkOf([line([0.1, 0.4], [0.9, 0.4], [0.9, 0.6], [0.1, 0.6], [0.1, 0.4])], 28, 28)!
  const { width, height } = boxOf(ink, 28)
  expect(width / height).toBeGreaterThan(2.5)
})

test('a dot stays a dot', () => {
  const ink = inkOf([line([0.9, 0.9])], 28, 28)!
  expect(boxOf(ink, 28).width).toBeLessThanOrEqual(3)
})

test('nothing drawn gives nothing', () => {
  expect(inkOf([], 28, 28)).toBeUndefined()
  expect(pixelsOfDrawing([], digits)).toBeUndefined()
})

test('ink is light on dark, and dark on light for a model that inverts', () => {
  const strokes = [line([0.5, 0.1], [0.5, 0.9])]
  const light = pixelsOfDrawing(strokes, digits)!
  const dark = pixelsOfDrawing(strokes, {
    ...digits,
    preprocess: [{ op: 'invert' }, ...digits.preprocess],
  })!
  expect(light[0]).toBe(0)
  expect(light.some((value) => value === 255)).toBe(true)
  expect(dark).toEqual(light.map((value) => 255 - value))
})

test('a drawing reaches every channel of the input', () => {
  const colour = withShape([32, 32, 3])
  const pixels = pixelsOfDrawing([line([0.1, 0.1], [0.9, 0.9])], colour)!
  expect(pixels).toHaveLength(32 * 32 * 3)
  for (let i = 0; i < pixels.length; i += 3) expect(pixels[i]).toBe(pixels[i + 2])
})

test('what can be drawn is small and gray, with a button for each label', () => {
  expect(isDrawable(digits)).toBe(true)
  expect(isDrawable(flowers)).toBe(false)
  expect(isDrawable(withShape([224, 224, 3]))).toBe(false)
})
