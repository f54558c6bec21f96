import type { Candidate } from '../protocol/ports/trainer/choose.ts'
import type { BackendName } from '../protocol/ports/trainer/commands.ts'
import type { StartTfjs } from '../protocol/ports/trainer/host.ts'
import type { Topology } from '../protocol/ports/trainer/topology.ts'

/**
 * TensorFlow.js on the GPU, tried where a model is large enough to gain by it: WebGPU first, then WebGL. A backend is
 * downloaded only where there is a real GPU for it, or where it was asked for by its name.
 */
export function gpus(
  start: StartTfjs,
  { topology, backend }: { topology: Topology; backend: BackendName },
): Candidate[] {
  if (backend === 'auto' && topology.demand.restMultiplyAdds < WORTH_A_TRIAL) return []
  return (['webgpu', 'webgl'] as const).map((name) => ({
    backend: name,
    async start(topology) {
      const { createGpuTrainer, noGpu } = await import('../protocol/ports/trainer/gpu.ts')
      const lack = backend === name ? undefined : await (name === 'webgpu' ? noWebgpu() : noWebgl())
      if (lack) throw noGpu(name, lack)
      return createGpuTrainer(name, (name) => start(topology, name))
    },
  }))
}

/**
 * Multiply-adds of a step, which runs no frozen start. One thread of the engine does about 30 a nanosecond, so this takes it 36 ms. TensorFlow.js asks a
 * GPU for some hundred small programs a step and waits for their end: a smaller model gains nothing that is worth the download.
 */
const WORTH_A_TRIAL = 2 ** 30

/** Renderers that are no GPU but the processor: Chromium's, Mesa's, Windows'. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|software|basic render|virgl/i

/** Why there is no real GPU for WebGPU, or undefined. */
async function noWebgpu(): Promise<string | undefined> {
  const { gpu } = navigator as { gpu?: Gpu }
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' })
  if (!adapter) return 'this browser offers no WebGPU'
  const { vendor = '', architecture = '', device = '', description = '' } = adapter.info ?? {}
  const name = [vendor, architecture, device, description].filter(Boolean).join(' ')
  const isFallback = adapter.isFallbackAdapter || adapter.info?.isFallbackAdapter
  return isFallback || SOFTWARE.test(name) ? notReal(name) : undefined
}

/** Why there is no real GPU for WebGL, or undefined. A worker draws on a canvas of its own. */
function noWebgl(): string | undefined {
  const gl = globalThis.OffscreenCanvas && new OffscreenCanvas(1, 1).getContext('webgl2')
  if (!gl) return 'this browser offers no WebGL in a worker'
  const unmasked = gl.getExtension('WEBGL_debug_renderer_info')?.UNMASKED_RENDERER_WEBGL
  const name = String(gl.getParameter(unmasked ?? gl.RENDERER))
  gl.getExtension('WEBGL_lose_context')?.loseContext() // a browser gives a page a few only
  return SOFTWARE.test(name) ? notReal(name) : undefined
}

function notReal(name: string): string {
  return `no real GPU is here, ${name || 'a fallback'} computes on the processor`
}

/** What we use of WebGPU: some browsers tell of a fallback here, some there. */
interface Gpu {
  requestAdapter(asked: { powerPreference: string }): Promise<Adapter | null>
}

interface Adapter {
  isFallbackAdapter?: boolean
  info?: {
    vendor?: string
    architecture?: string
    device?: string
    description?: string
    isFallbackAdapter?: boolean
  }
}
