/** Pictures from a camera: the same way into a model as files have, and gone with the tab. */
import { Fault } from '../protocol/errors.ts'
import type { Manifest } from '../protocol/manifest.ts'
import { type Pixels, pixelsFor } from '../protocol/ports/preprocess.ts'
import { text } from './text.ts'

/** More than a model takes, less than a camera has: every picture is made smaller anyway. */
const WANTED: MediaTrackConstraints = { width: { ideal: 640 }, facingMode: 'environment' }
/** The longer side of what is cut out of a frame. */
const MOST_PIXELS = 640

/** Asks for the camera, and the person with it. Throws a Fault that says why there is none. Whoever has the stream ends its tracks. */
export async function openCamera(): Promise<MediaStream> {
  const { mediaDevices } = navigator as { mediaDevices?: MediaDevices } // hidden where a page is not secure
  if (!mediaDevices?.getUserMedia) throw new Fault(text.camera.insecure)
  try {
    return await mediaDevices.getUserMedia({ video: WANTED, audio: false })
  } catch (error) {
    throw whyNoCamera(error as Error)
  }
}

/** After it the camera's light is off. */
export function closeCamera(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop()
}

/** By the names of Media Capture and Streams, section 10.2. */
function whyNoCamera(error: Error): Fault {
  const { name, message } = error
  if (name === 'NotAllowedError' || name === 'SecurityError')
    return new Fault(text.camera.refused, error)
  if (name === 'NotFoundError' || name === 'OverconstrainedError')
    return new Fault(text.camera.missing, error)
  if (name === 'NotReadableError' || name === 'AbortError')
    return new Fault(text.camera.busy, error)
  return new Fault(text.camera.other(message.replace(/[.\s]+$/, '')), error)
}

/**
 * The middle of what a video shows now, as broad and high as the model's input is: RGBA. Undefined before its first frame.
 */
export function frameOf(video: HTMLVideoElement, manifest: Manifest): Pixels | undefined {
  const { videoWidth, videoHeight } = video
  if (manifest.input.kind !== 'image' || videoWidth === 0) return undefined
  const [height, width] = manifest.input.shape
  const cut = middleOf({ width: videoWidth, height: videoHeight }, width / height)
  const scale = Math.min(1, MOST_PIXELS / Math.max(cut.width, cut.height))
  const [across, down] = [Math.round(cut.width * scale), Math.round(cut.height * scale)]
  const context = new OffscreenCanvas(across, down).getContext('2d')
  context?.drawImage(video, cut.x, cut.y, cut.width, cut.height, 0, 0, across, down)
  const image = context?.getImageData(0, 0, across, down)
  return image && { width: across, height: down, channels: 4, data: image.data }
}

/** The largest part of this shape, width over height, in the middle of a frame. */
export function middleOf({ width, height }: { width: number; height: number }, shape: number) {
  const across = Math.min(width, height * shape)
  const down = Math.min(height, width / shape)
  return { x: (width - across) / 2, y: (height - down) / 2, width: across, height: down }
}

/**
 * RGBA → Uint8Array[width of an example], as pixelsFor() makes it of a file. A person can make files of the right size and colour;
 * nobody can make a camera so: what the manifest's own steps lack of that comes first.
 */
export function pixelsOfFrame(frame: Pixels, manifest: Manifest): Uint8Array {
  const pixels = pixelsFor(withMissingSteps(manifest), frame)
  if (pixels instanceof Uint8Array) return pixels
  const { message, hint } = pixels
  throw new Fault({ kind: 'data', type: 'wrong-image', message, hint })
}

function withMissingSteps(manifest: Manifest): Manifest {
  const { input, preprocess } = manifest
  if (input.kind !== 'image') return manifest
  const [height, width, channels] = input.shape
  const has = (op: string) => preprocess.some((step) => step.op === op)
  const missing: Manifest['preprocess'] = [
    ...(channels === 1 && !has('grayscale') ? [{ op: 'grayscale' } as const] : []),
    ...(has('resize') ? [] : [{ op: 'resize', width, height } as const]),
  ]
  return { ...manifest, preprocess: [...missing, ...preprocess] }
}
