/** What computes, in words: `engine with relaxed SIMD, 2 threads`. */
export function deviceText({ backend, threads }: { backend: string; threads: number }): string {
  const names: Record<string, string> = {
    engine: 'engine with relaxed SIMD',
    'engine-plain': 'engine with plain SIMD',
    wasm: 'TensorFlow.js on WebAssembly',
    cpu: 'TensorFlow.js in plain JavaScript',
    'tfjs-node': 'TensorFlow.js on libtensorflow',
  }
  return `${names[backend] ?? backend}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`
}

/** Milliseconds of a step or a round, for people: `0.31 ms`, `24 ms`, `2.4 s`. */
export function timeText(ms: number): string {
  if (ms < 10) return `${ms.toFixed(2)} ms`
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`
}
