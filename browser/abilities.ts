/** What this browser can do of what the page needs, asked without using any of it. */
export type Ability = 'webrtc' | 'wasm' | 'simd' | 'storage' | 'secure' | 'worker'

export function abilities(): { name: Ability; has: boolean }[] {
  return [
    { name: 'webrtc', has: typeof RTCPeerConnection === 'function' },
    { name: 'wasm', has: typeof WebAssembly === 'object' },
    { name: 'simd', has: typeof WebAssembly === 'object' && WebAssembly.validate(simdModule) },
    { name: 'storage', has: typeof indexedDB === 'object' && indexedDB !== null },
    { name: 'secure', has: globalThis.isSecureContext && typeof crypto?.subtle === 'object' },
    { name: 'worker', has: typeof Worker === 'function' },
  ]
}

export function has(name: Ability): boolean {
  return abilities().some((ability) => ability.name === name && ability.has)
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
