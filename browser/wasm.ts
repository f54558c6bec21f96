import type { Binaries } from '../protocol/ports/trainer/engine.ts'

/** The two builds of the engine's kernels, from where the page came from. */
export async function engineBinaries(): Promise<Binaries> {
  const [plain, relaxed] = await Promise.all([
    bytesAt(new URL('../protocol/engine/binaries/plain.wasm', import.meta.url)),
    bytesAt(new URL('../protocol/engine/binaries/relaxed.wasm', import.meta.url)),
  ])
  return { plain, relaxed }
}

async function bytesAt(address: URL): Promise<ArrayBuffer> {
  const response = await fetch(address)
  return response.arrayBuffer()
}
