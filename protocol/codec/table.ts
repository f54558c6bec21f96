import type { Codec, CodecName } from './codec.ts'
import { float32 } from './float32.ts'
import { int8 } from './int8.ts'

/** Every codec a peer speaks. A new one is a file and a line here. */
export const codecs: Record<CodecName, Codec> = { float32, int8 }
