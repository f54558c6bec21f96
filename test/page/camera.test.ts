import { afterEach, expect, test, vi } from 'vitest'
import { middleOf, openCamera, pixelsOfFrame } from '../../browser/camera.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { type Pixels, pixelsFor } from '../../protocol/ports/preprocess.ts'
import { digits } from './manifests.ts'

afterEach(() => void vi.unstubAllGlobals())

/** 64 x 64, red above and white below. */
const frame: Pixels = {
  ...{ width: 64, height: 64, channels: 4 },
  data: Uint8Array.from({ length: 64 * 64 * 4 }, (_, i) =>
    i < 64 * 32 * 4 && i % 4 && i % 4 < 3 ? 0 : 255,
  ),
}

test('a frame comes to the size and colour of a model that asks files for both', () => {
  const pixels = pixelsOfFrame(frame, digits)
  expect(pixels).toHaveLength(784)
  expect([pixels[0], pixels[783]]).toEqual([76, 255])
})

test('where a model says itself how, a frame is what the same picture in a file is', () => {
  const resize = { op: 'resize', width: 28, height: 28 } as const
  const own: Manifest = {
    ...digits,
    preprocess: [{ op: 'grayscale' }, resize, ...digits.preprocess],
  }
  expect(pixelsOfFrame(frame, own)).toEqual(pixelsFor(own, frame))
})

test.each([
  [{ width: 640, height: 480 }, 1, { x: 80, y: 0, width: 480, height: 480 }],
  [{ width: 480, height: 640 }, 1, { x: 0, y: 80, width: 480, height: 480 }],
  [{ width: 640, height: 480 }, 2, { x: 0, y: 80, width: 640, height: 320 }],
])('the middle of %o with the shape %d is the largest that fits', (frame, shape, middle) => {
  expect(middleOf(frame, shape)).toEqual(middle)
})

test.each([
  ['NotAllowedError', 'camera-refused'],
  ['NotFoundError', 'no-camera'],
  ['NotReadableError', 'camera-busy'],
  ['TypeError', 'camera-failed'],
])('a browser that says %s is told as %s, with a next step', async (name, type) => {
  const getUserMedia = () => Promise.reject(Object.assign(new Error('So it is.'), { name }))
  vi.stubGlobal('navigator', { mediaDevices: { getUserMedia } })
  await expect(openCamera()).rejects.toMatchObject({ detail: { type, hint: expect.any(String) } })
})

test('a page that is not secure has no camera to ask for, and says so', async () => {
  vi.stubGlobal('navigator', {})
  await expect(openCamera()).rejects.toMatchObject({ detail: { type: 'camera-insecure' } })
})
