import type { Fault } from '../protocol/errors.ts'
import type { Simd } from '../protocol/ports/trainer/engine.ts'
import type { WasmPlaces } from '../protocol/ports/trainer/tfjs.ts'
import { pageFault } from './words.ts'

const engineAt: Record<Simd, URL> = {
  plain: new URL('../protocol/engine/binaries/plain.wasm', import.meta.url),
  relaxed: new URL('../protocol/engine/binaries/relaxed.wasm', import.meta.url),
}

/** A build of the engine's kernels, from where the page came from. */
export async function engineBinary(simd: Simd): Promise<ArrayBuffer> {
  return bytesAt(engineAt[simd])
}

/** TensorFlow.js' own, for the models that it trains; one is fetched when it is needed. */
export function tfjsWasmPlaces(): WasmPlaces {
  return {
    'tfjs-backend-wasm.wasm': new URL(
      '../node_modules/@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm',
      import.meta.url,
    ).href,
    'tfjs-backend-wasm-simd.wasm': new URL(
      '../node_modules/@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm',
      import.meta.url,
    ).href,
  }
}

async function bytesAt(address: URL): Promise<ArrayBuffer> {
  const response = await fetch(address).catch((error: unknown) => {
    throw noEngine(address, undefined, error)
  })
  if (response.ok) return response.arrayBuffer()
  throw noEngine(address, response.status)
}

/** `status`: of an answer that was none. */
function noEngine({ host, pathname }: URL, status: number | undefined, cause?: unknown): Fault {
  return pageFault('network', 'no-engine', { place: `${host}${pathname}`, status }, cause)
}
