import { deflateSync } from 'node:zlib'

/** A PNG of RGBA rows, by hand: signature, IHDR, IDAT, IEND. */
export function png(width: number, height: number, rgba: number[]): Uint8Array {
  const raw = new Uint8Array(height * (1 + 4 * width))
  for (let y = 0; y < height; y++)
    raw.set(rgba.slice(4 * width * y, 4 * width * (y + 1)), y * (1 + 4 * width) + 1)
  const header = new Uint8Array(13)
  new DataView(header.buffer).setUint32(0, width)
  new DataView(header.buffer).setUint32(4, height)
  header.set([8, 6, 0, 0, 0], 8)
  return Uint8Array.from([
    ...[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
    ...chunk('IHDR', header),
    ...chunk('IDAT', deflateSync(raw)),
    ...chunk('IEND', new Uint8Array(0)),
  ])
}

function chunk(name: string, data: Uint8Array): number[] {
  const body = [...new TextEncoder().encode(name), ...data]
  return [...uint32(data.length), ...body, ...uint32(crc32(body))]
}

const uint32 = (value: number) => [
  value >>> 24,
  (value >>> 16) & 255,
  (value >>> 8) & 255,
  value & 255,
]

function crc32(bytes: number[]): number {
  let crc = -1
  for (const byte of bytes) {
    crc ^= byte
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}
