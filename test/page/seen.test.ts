import { expect, test } from 'vitest'
import { seenPixels } from '../../browser/seen.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { digits, flowers } from './manifests.ts'

const tiny = (channels: 1 | 3, preprocess: Manifest['preprocess']): Manifest => ({
  ...digits,
  preprocess,
  input: { kind: 'image', shape: [1, 2, channels], dtype: 'float32' },
})

test('a scaled picture is shown as it is, and one that the model inverts is shown inverted', () => {
  const scaled = tiny(1, [{ op: 'scale', multiply: 1 / 255, add: -0.5 }])
  expect([...seenPixels([0, 200], scaled)]).toEqual([0, 0, 0, 255, 200, 200, 200, 255])
  const inverted = tiny(1, [{ op: 'invert' }, { op: 'scale', multiply: 1 / 255 }])
  expect([...seenPixels([0, 200], inverted)]).toEqual([255, 255, 255, 255, 55, 55, 55, 255])
  const back = tiny(1, [{ op: 'scale', multiply: -1 }, { op: 'invert' }])
  expect([...seenPixels([0, 200], back)].slice(0, 1)).toEqual([0])
})

test('colours stay with their channels', () => {
  const standard = tiny(3, [{ op: 'standardize', mean: [120, 110, 100], std: [60, 50, 40] }])
  const seen = [...seenPixels([1, 2, 3, 4, 5, 6], standard)]
  expect(seen).toEqual([1, 2, 3, 255, 4, 5, 6, 255])
  expect(seenPixels([1, 2], flowers)).toHaveLength(0)
})
