import { float, floats } from './bytes.ts'

/** Copies of a model as protocol/README.md has them: sections 4 and 6. */
export interface Copies {
  /** Bytes of a copy in this codec. */
  lengthOf(codec: string): number
  encode(codec: string): Uint8Array
  /** The copy itself; throws when a value or scale is out of range. */
  check(codec: string, copy: Uint8Array): Uint8Array
  /** The values of a checked copy. */
  decode(codec: string, copy: Uint8Array): Float32Array
  /** Moves the params by half the difference. */
  settle(codec: string, sent: Uint8Array, received: Uint8Array): void
}

export interface Tensor {
  name: string
  shape: readonly number[]
  role: string
}

const BLOCK = 256
const VALUE_CAP = 65_504

export function copiesOf(params: Float32Array, tensors: readonly Tensor[]): Copies {
  const sizes = tensors.map(({ shape }) => shape.reduce((a, b) => a * b, 1))
  return { lengthOf, encode, check, decode, settle }

  /** Visits each block: where it starts in params, how long it is, and where it stands in an int8 copy. */
  function blocks(visit: (start: number, length: number, at: number, role: string) => void): void {
    let start = 0
    let at = 0
    sizes.forEach((size, index) => {
      for (let done = 0; done < size; done += BLOCK) {
        const length = Math.min(BLOCK, size - done)
        visit(start, length, at, tensors[index]!.role)
        start += length
        at += 4 + length
      }
    })
  }

  function lengthOf(codec: string): number {
    return codec === 'float32'
      ? 4 * params.length
      : params.length + 4 * sizes.reduce((sum, size) => sum + Math.ceil(size / BLOCK), 0)
  }

  function encode(codec: string): Uint8Array {
    if (codec === 'float32') return floats(params)
    const copy = Buffer.alloc(lengthOf(codec))
    blocks((start, length, at) => {
      const largest = params
        .subarray(start, start + length)
        .reduce((most, x) => Math.max(most, Math.abs(x)), 0)
      const scale = Math.fround(largest / 127)
      if (scale < 1e-36) return
      copy.writeFloatLE(scale, at)
      for (let i = 0; i < length; i++)
        copy.writeInt8(Math.floor(params[start + i]! * (1 / scale) + 0.5), at + 4 + i)
    })
    return copy
  }

  function check(codec: string, copy: Uint8Array): Uint8Array {
    const within = (value: number, least: number, most: number) => value >= least && value <= most
    let isGood = true
    blocks((start, length, at) => {
      if (codec === 'int8') isGood &&= within(float(copy, at), 0, Math.fround(VALUE_CAP / 127))
      else
        for (let i = start; i < start + length; i++)
          isGood &&= within(float(copy, 4 * i), -VALUE_CAP, VALUE_CAP)
    })
    if (!isGood) throw new Error('a copy holds a value out of range')
    return copy
  }

  function decode(codec: string, copy: Uint8Array): Float32Array {
    const values = new Float32Array(params.length)
    blocks((start, length, at) => {
      for (let i = 0; i < length; i++)
        values[start + i] =
          codec === 'float32'
            ? float(copy, 4 * (start + i))
            : ((copy[at + 4 + i]! << 24) >> 24) * float(copy, at)
    })
    return values
  }

  function settle(codec: string, sent: Uint8Array, received: Uint8Array): void {
    const [ours, theirs] = [decode(codec, sent), decode(codec, received)]
    blocks((start, length, _, role) => {
      for (let i = start; i < start + length; i++) {
        const moved = Math.fround(params[i]! + 0.5 * (theirs[i]! - ours[i]!))
        params[i] = role === 'variance' && moved < 0 ? 0 : moved
      }
    })
  }
}
