import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm'
import type { TensorInfo } from '@tensorflow/tfjs-core'
import { type Address, FLOAT_BYTES, type KernelName } from '../../engine/planner.ts'
import { invariant } from '../../errors.ts'

/** The engine's kernels over TensorFlow.js' own memory: they read and write its tensors where these lie. */
export interface Heap {
  run(kernel: KernelName, ...args: number[]): void
  /** Where a tensor's values lie, while it lives. */
  at(tensor: TensorInfo): Address
  /** A float32 tensor that holds anything. */
  output(shape: readonly number[]): TensorInfo
  /** Another tensor over the same values: nobody writes to a tensor, so nothing is copied. */
  share(tensor: TensorInfo): TensorInfo
  /** Gives `work` a buffer of so many floats, which hold anything and are freed after it. */
  borrow<T>(floats: number, work: (at: Address) => T): T
}

/** What one of the pack's kernels gets: checked by the operation that calls it. */
export interface Call<Attributes> {
  heap: Heap
  inputs: Record<string, TensorInfo>
  attrs: Attributes
  /** A kernel of the backend as it was, on tensors of its memory. */
  stock(name: string, inputs: Record<string, TensorInfo>, attrs: object): TensorInfo
  dispose(tensor: TensorInfo): void
}

export type PackKernel = (call: Call<never>) => TensorInfo

/**
 * The engine's numbers lie at 64 (engine/build.ts), and those of TensorFlow.js' binary from 1024 on: below, its compiler
 * leaves room for nobody, so that a null pointer changes nothing.
 */
const OURS = [64, 1024] as const
const THEIRS = [1024, 16_384] as const
/**
 * The engine's kernels read past a buffer's end (planner.ts): those of pack.ts no more than 28 bytes, and the allocator keeps
 * 40 behind its last block.
 */
const PAST_END_BYTES = 64

/** Puts the kernels of `binary` into the backend's memory. */
export async function openHeap(backend: BackendWasm, binary: BufferSource): Promise<Heap> {
  const { wasm } = backend as unknown as { wasm: EmscriptenModule }
  const { memory } = wasm.asm
  const module = await WebAssembly.compile(binary)
  const bytesOf = ([from, to]: readonly [number, number]) =>
    new Uint8Array(memory.buffer, from, to - from)
  invariant(
    bytesOf(OURS).every((byte) => byte === 0),
    "the start of TensorFlow.js' memory is in use",
  )
  const before = bytesOf(THEIRS).slice()
  const { exports } = new WebAssembly.Instance(module, { env: { memory } })
  invariant(
    bytesOf(THEIRS).every((byte, i) => byte === before[i]),
    "the engine's numbers reach into those of TensorFlow.js",
  )
  const kernels = exports as Record<KernelName, (...args: number[]) => void>
  const borrow = <T>(floats: number, work: (at: Address) => T): T => {
    const at = wasm._malloc(FLOAT_BYTES * floats + PAST_END_BYTES) >>> 0
    invariant(at !== 0, `no ${floats} floats in TensorFlow.js' memory`)
    try {
      return work(at)
    } finally {
      wasm._free(at)
    }
  }
  return {
    run(name, ...args) {
      const kernel = kernels[name]
      invariant(kernel, `the binary has no kernel ${name}`)
      invariant(kernel.length === args.length, `${name} takes ${kernel.length}, got ${args.length}`)
      invariant(args.every(Number.isFinite), `${name} got ${args}`)
      kernel(...args)
    },
    at: ({ dataId }) => backend.getMemoryOffset(dataId),
    output: (shape) => backend.makeOutput([...shape], 'float32'),
    share({ dataId, shape, dtype }) {
      backend.incRef(dataId)
      return { dataId, shape, dtype }
    },
    borrow,
  }
}

/** What the backend's typings leave out of the module that Emscripten makes. */
interface EmscriptenModule {
  asm: { memory: WebAssembly.Memory }
  _malloc(bytes: number): Address
  _free(at: Address): void
}
