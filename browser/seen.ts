import type { Manifest } from '../protocol/manifest.ts'
import { affineOf } from '../protocol/ports/preprocess.ts'

/**
 * One example's pixels as the model sees them, for a person's eyes: Uint8ClampedArray[height × width × 4], RGBA.
 *
 *   pixels   [height × width × channels], 0..255, before the model's own scaling
 *
 * What the value steps make of 0..255 is stretched back to 0..255, channel by channel: scaling shows as nothing, and what they
 * turn from dark to light is turned.
 */
export function seenPixels(
  pixels: ArrayLike<number>,
  manifest: Manifest,
): Uint8ClampedArray<ArrayBuffer> {
  const { input } = manifest
  if (input.kind !== 'image') return new Uint8ClampedArray(0)
  const [height, width, channels] = input.shape
  const { multiply } = affineOf(manifest)
  const rgba = new Uint8ClampedArray(4 * height * width)
  for (let i = 0; i < height * width; i++) {
    for (let colour = 0; colour < 3; colour++) {
      const c = channels === 1 ? 0 : colour
      const value = pixels[i * channels + c]!
      rgba[4 * i + colour] = multiply[c]! < 0 ? 255 - value : value
    }
    rgba[4 * i + 3] = 255
  }
  return rgba
}
