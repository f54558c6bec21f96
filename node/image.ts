import type { Pixels } from '../protocol/ports/preprocess.ts'
import { jpegWasm, pngWasm } from './wasm.ts'

/** A decoded image takes 4 bytes a pixel, and a few hundred bytes of file can claim billions of them. */
export const MAX_IMAGE_PIXELS = 16_000_000
/** A file longer than this is not read. */
export const MAX_IMAGE_BYTES = 64 * 1024 * 1024

/**
 * Decodes PNG and JPEG, told apart by their first bytes, to RGBA Uint8[height × width × 4].
 *
 * Width and height are read from the header and checked before anything is decoded. Throws an Error whose message completes
 * "the file is left out because it ...".
 */
export async function decodeImage(bytes: Uint8Array<ArrayBuffer>): Promise<Pixels> {
  const format = formatOf(bytes)
  if (!format) throw new Error('is neither a PNG nor a JPEG file')
  const size = format === 'png' ? pngSize(bytes) : jpegSize(bytes)
  if (!size) throw new Error(`is a ${format.toUpperCase()} file without a size`)
  if (size.width * size.height > MAX_IMAGE_PIXELS) {
    throw new Error(
      `has ${size.width}x${size.height} pixels, expected at most ${MAX_IMAGE_PIXELS} together`,
    )
  }
  const decode = await (format === 'png' ? pngDecoder() : jpegDecoder())
  try {
    const { width, height, data } = await decode(bytes.slice().buffer)
    return { width, height, channels: 4, data: data as Uint8ClampedArray }
  } catch (error) {
    throw new Error(
      `cannot be decoded: ${String((error as Error)?.message ?? error).split('\n')[0]}`,
    )
  }
}

export function formatOf(bytes: Uint8Array): 'png' | 'jpeg' | undefined {
  const starts = (magic: number[]) => magic.every((byte, i) => bytes[i] === byte)
  if (starts([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return 'png'
  if (starts([0xff, 0xd8, 0xff])) return 'jpeg'
}

interface Size {
  width: number
  height: number
}

/** IHDR is the first chunk; PNG specification, section 11.2.2. */
function pngSize(bytes: Uint8Array): Size | undefined {
  if (bytes.length < 24) return
  const view = viewOf(bytes)
  const size = { width: view.getUint32(16), height: view.getUint32(20) }
  return size.width > 0 && size.height > 0 ? size : undefined
}

/** Walks the segments to the frame header (SOF0 to SOF15 without DHT, JPG and DAC); ITU-T T.81, section B.2.2. */
function jpegSize(bytes: Uint8Array): Size | undefined {
  const view = viewOf(bytes)
  for (let at = 2; at + 9 <= bytes.length; ) {
    if (bytes[at] !== 0xff) return
    const marker = bytes[at + 1]!
    if (marker === 0xff) at++
    else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const size = { width: view.getUint16(at + 7), height: view.getUint16(at + 5) }
      return size.width > 0 && size.height > 0 ? size : undefined
    } else at += 2 + view.getUint16(at + 2)
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

type Decode = (bytes: ArrayBuffer) => Promise<ImageData>

let png: Promise<Decode> | undefined
let jpeg: Promise<Decode> | undefined

function pngDecoder(): Promise<Decode> {
  png ??= (async () => {
    const { decode, init } = await import('@jsquash/png/decode.js')
    await init(await pngWasm())
    return (bytes) => decode(bytes)
  })()
  return png
}

function jpegDecoder(): Promise<Decode> {
  jpeg ??= (async () => {
    const { default: decode, init } = await import('@jsquash/jpeg/decode.js')
    await (init as (module: WebAssembly.Module) => Promise<void>)(await jpegWasm())
    return (bytes) => decode(bytes)
  })()
  return jpeg
}
