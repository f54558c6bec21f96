/** What this browser can do of what the page needs, asked without using any of it. */
export type Ability = 'webrtc' | 'wasm' | 'simd' | 'storage' | 'secure' | 'worker'

const asked: Record<Ability, () => boolean> = {
  webrtc: () => typeof RTCPeerConnection === 'function',
  wasm: () => typeof WebAssembly === 'object',
  simd: () => typeof WebAssembly === 'object' && WebAssembly.validate(simdModule),
  storage: () => typeof indexedDB === 'object' && indexedDB !== null,
  secure: () => globalThis.isSecureContext && typeof crypto?.subtle === 'object',
  worker: () => typeof Worker === 'function',
}

export function abilities(): { name: Ability; has: boolean }[] {
  return (Object.keys(asked) as Ability[]).map((name) => ({ name, has: has(name) }))
}

/** Only this one is asked for: a view may want to know at every redraw. */
export function has(name: Ability): boolean {
  return asked[name]()
}

/** What computes here: the engine needs SIMD, and without it plain JavaScript does. */
export function bestBackend(): 'auto' | 'cpu' {
  return has('simd') ? 'auto' : 'cpu'
}

/** A module with one function that splats a vector: valid only where SIMD is. Source: wasm-feature-detect. */
const simdModule = Uint8Array.of(
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
)
