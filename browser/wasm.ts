import { Fault } from '../protocol/errors.ts'
import type { Simd } from '../protocol/ports/trainer/engine.ts'
import type { WasmPlaces } from '../protocol/ports/trainer/tfjs.ts'

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
    throw noEngine(address, 'nobody answered', error)
  })
  if (response.ok) return response.arrayBuffer()
  throw noEngine(address, `the answer was ${response.status}`)
}

function noEngine({ host, pathname }: URL, why: string, cause?: unknown): Fault {
  return new Fault(
    {
      kind: 'network',
      type: 'no-engine',
      message: `the training engine could not be loaded from ${host}${pathname}: ${why}`,
      hint: 'check the connection, then start again; what you brought stays on this page',
    },
    cause,
  )
}
