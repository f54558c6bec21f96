import { createHash } from 'node:crypto'

export function sha256(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(bytes).digest())
}

export function same(a: unknown, b: Uint8Array): boolean {
  return a instanceof Uint8Array && Buffer.compare(a, b) === 0
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

export function float(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat32(at, true)
}

export function floats(values: Float32Array): Uint8Array {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, i) => bytes.writeFloatLE(value, 4 * i))
  return bytes
}

export function varint(value: number): Uint8Array {
  return value < 128
    ? Uint8Array.of(value)
    : Uint8Array.of((value & 127) | 128, ...varint(value >>> 7))
}
