import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Simd } from '../protocol/ports/trainer/engine.ts'

/**
 * Where the WebAssembly binaries of our libraries lie: in node_modules, or beside the bundle, whose build rewrites these
 * addresses (node/pack.ts).
 */
export const tfjsWasmFolder = (): string =>
  fileURLToPath(
    new URL(
      '.',
      import.meta.resolve('@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm'),
    ),
  )

const engineAt: Record<Simd, URL> = {
  plain: new URL('../protocol/engine/binaries/plain.wasm', import.meta.url),
  relaxed: new URL('../protocol/engine/binaries/relaxed.wasm', import.meta.url),
}

/** A build of the engine's kernels. */
export function engineBinary(simd: Simd): Promise<Buffer<ArrayBuffer>> {
  return readFile(engineAt[simd])
}

export const pngWasm = (): Promise<WebAssembly.Module> =>
  compile(import.meta.resolve('@jsquash/png/codec/pkg/squoosh_png_bg.wasm'))

export const jpegWasm = (): Promise<WebAssembly.Module> =>
  compile(import.meta.resolve('@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm'))

async function compile(address: string): Promise<WebAssembly.Module> {
  return WebAssembly.compile(await readFile(fileURLToPath(address)))
}
