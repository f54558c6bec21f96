import { Fault, invariant } from '../errors.ts'
import { sizeOf } from '../params.ts'
import type { Graph } from './graph.ts'
import {
  compile,
  FIRST_AT,
  LABELS_AT,
  LINE_BYTES,
  LOSS_AT,
  lineUp,
  type Plan,
  SEED_AT,
} from './plan.ts'
import { type Address, FLOAT_BYTES, type KernelName } from './planner.ts'

/**
 * The builds of the kernels: `plain` has SIMD alone and gives the same bits everywhere; `relaxed` has a fused multiply-add where
 * the machine has it: faster, and its last bits may differ between machines.
 */
export type Simd = 'plain' | 'relaxed'

/** Their bytes, of those that are here. */
export type Binaries = Readonly<Partial<Record<Simd, BufferSource>>>

/** One instance of the kernels and the one memory that all of a model's training happens in. */
export interface Engine {
  readonly graph: Graph
  readonly simd: Simd
  /** Values per flat array of params. */
  readonly size: number
  /** Values of the graph's frozen weights, zeros at first: whoever makes the engine fills it. */
  readonly frozen: Float32Array
  /**
   * An array of zeros in the engine's memory while there is room (`ARRAYS` of the params' size), else an ordinary one.
   * Whoever asks keeps it: nothing is given back.
   */
  floats(length: number): Float32Array
  /** Where an array lies, 0 when it is not in the engine's memory. */
  addressOf(values: Float32Array): Address
  floatsAt(address: Address, length: number): Float32Array
  /** What dropout draws from in the runs that follow, and where in the batch their first example stands. */
  setSeed(seed: number, first?: number): void
  /** The labels of the runs that follow, i32. */
  labels(length: number): Int32Array
  /** The mean loss of the last run that trained; of a part, its share of the whole batch's. */
  lossValue(): number
  readonly memory: WebAssembly.Memory
  kernel(name: KernelName): Kernel
  /** The plan for these settings, compiled when first asked for and kept. */
  program(settings: ProgramSettings): Program
}

export type Kernel = (...args: number[]) => number

export interface ProgramSettings {
  batch: number
  /** Examples that the loss is the mean of, when the batch is a part of a larger one. */
  whole?: number
  training: boolean
  params: Address
  gradient: Address
  inputGradient?: boolean
}

/** A plan whose calls are bound to the kernels. */
export interface Program {
  readonly plan: Plan
  /** Ends the life of every other program's values. */
  forward(): void
  /** The mean loss and the gradient of the logits; without training, the probabilities. */
  loss(): void
  backward(): void
}

/** Whose gradients programs ask for: nobody's, the weights', or, in tests, the input's too. */
export type Room = 'forward' | 'weights' | 'input'

export interface EngineOptions {
  /** The largest batch a program will have. */
  batch: number
  /** What there is room for; `weights` unless given. */
  room?: Room
  space?: Space
  binaries: Binaries
  /** `auto` takes relaxed where it runs. */
  simd: Simd | 'auto'
}

/** What a memory has room for where that is less than all. */
export interface Space {
  /** The largest batch of a program that trains; others take `batch`. */
  trained: number
  /** Arrays of the params' size. */
  arrays: number
}

/**
 * Live arrays of the params' size: params, gradient, two optimizer slots, direction and anchor; two copies for strangers,
 * and one for what other threads compute. What nobody asks for takes address space alone.
 */
const ARRAYS = 9
/** Address 0 is nothing, then come the kernels' own numbers (build.ts); the control block begins here. */
const CONTROL_AT = 4096
const PAGE_BYTES = 65_536

/** Instantiates the kernels with a memory of the size that the model's plan takes: it never grows, so views stay valid. */
export async function createEngine(graph: Graph, options: EngineOptions): Promise<Engine> {
  const simd = options.simd === 'auto' ? bestSimd() : options.simd
  const binary = options.binaries[simd]
  invariant(binary, `the ${simd} build is here`)
  const size = sizeOf(graph.tensors)
  const { batch, room, space } = options
  const { arraysAt, frozenAt, base, end, bytes } = planMemory(graph, batch, room, space)
  const compiled = (settings: ProgramSettings) =>
    compile(graph, { ...settings, frozen: frozenAt, base, control: CONTROL_AT })
  const memory = memoryOf(bytes / PAGE_BYTES)
  const { instance } = await WebAssembly.instantiate(binary, { env: { memory } })
  const kernels = instance.exports as Record<string, Kernel>

  const control = new DataView(memory.buffer, CONTROL_AT, LABELS_AT)
  let next = arraysAt
  let running: Program | undefined
  const programs = new Map<string, Program>()
  const kernel = (name: KernelName) => {
    const found = kernels[name]
    invariant(found, `the binary has no kernel ${name}`)
    return found
  }
  const bound = ({ kernel: name, args }: Plan['forward'][number]) => {
    const found = kernel(name)
    invariant(found.length === args.length, `${name} takes ${found.length}, got ${args.length}`)
    invariant(args.every(Number.isFinite), `${name} got ${args}`)
    return found.bind(undefined, ...args) as () => void
  }

  return {
    ...{ graph, simd, size, memory, kernel },
    frozen: new Float32Array(memory.buffer, frozenAt, sizeOf(graph.frozen ?? [])),
    setSeed(seed, first = 0) {
      control.setInt32(SEED_AT, seed, true)
      control.setInt32(FIRST_AT, first, true)
    },
    labels: (length) => new Int32Array(memory.buffer, CONTROL_AT + LABELS_AT, length),
    lossValue: () => control.getFloat64(LOSS_AT, true),
    floats(length) {
      if (next + arrayBytes(length) > frozenAt) return new Float32Array(length)
      const values = new Float32Array(memory.buffer, next, length)
      next += arrayBytes(length)
      return values
    },
    addressOf: (values) => (values.buffer === memory.buffer ? values.byteOffset : 0),
    floatsAt: (address, length) => new Float32Array(memory.buffer, address, length),
    program(settings) {
      const key = JSON.stringify(settings)
      const known = programs.get(key)
      if (known) return known
      const plan = compiled(settings)
      invariant(
        plan.end <= end,
        `a plan for ${settings.batch} needs more than one for ${options.batch}`,
      )
      const [forward, loss, backward] = [plan.forward, plan.loss, plan.backward].map((calls) =>
        calls.map(bound),
      ) as [(() => void)[], (() => void)[], (() => void)[]]
      const program: Program = {
        plan,
        forward() {
          if (running !== program) clear(memory, plan)
          running = program
          for (const call of forward) call()
        },
        loss() {
          for (const call of loss) call()
        },
        backward() {
          for (const call of backward) call()
        },
      }
      programs.set(key, program)
      return program
    },
  }
}

/** Where a model's arrays, and the arena behind them, lie in a memory that has room for batches of `batch`. */
export function planMemory(
  graph: Graph,
  batch: number,
  room: Room = 'weights',
  { trained, arrays }: Space = { trained: batch, arrays: ARRAYS },
): PlanMemory {
  const arraysAt = lineUp(CONTROL_AT + LABELS_AT + FLOAT_BYTES * batch)
  const frozenAt = arraysAt + arrays * arrayBytes(sizeOf(graph.tensors))
  const base = frozenAt + arrayBytes(sizeOf(graph.frozen ?? []))
  const places = {
    ...{ params: arraysAt, gradient: arraysAt, frozen: frozenAt },
    inputGradient: room === 'input',
  }
  const plans = (room === 'forward' ? [false] : [true, false]).map((training) =>
    compile(graph, {
      ...{ ...places, training, base, control: CONTROL_AT },
      batch: training ? trained : batch,
    }),
  )
  const end = Math.max(...plans.map((plan) => plan.end))
  const bytes = PAGE_BYTES * Math.ceil((end + LINE_BYTES) / PAGE_BYTES)
  return { arraysAt, frozenAt, base, end, bytes, nodeBytes: plans[0]!.nodeBytes }
}

export interface PlanMemory {
  /** The first of the arrays of the params' size; the frozen ones; the arena's first byte, and the first behind its largest plan. */
  arraysAt: Address
  frozenAt: Address
  base: Address
  end: Address
  /** Of the whole memory. */
  bytes: number
  /** What each node takes of the arena. */
  nodeBytes: readonly number[]
}

/** Relaxed where this machine runs it, asked before either build is fetched. */
export function bestSimd(): Simd {
  return WebAssembly.validate(relaxedModule) ? 'relaxed' : 'plain'
}

/** A module with one relaxed instruction, a swizzle. Source: wasm-feature-detect. */
const relaxedModule = Uint8Array.of(
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0],
  ...[10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11],
)

/** Throws Fault `out-of-memory` where there is no room: pages that nothing touches take address space alone. */
function memoryOf(pages: number): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages })
  } catch (error) {
    const detail = {
      kind: 'resource' as const,
      type: 'out-of-memory' as const,
      bytes: pages * PAGE_BYTES,
      message: `no ${Math.ceil((pages * PAGE_BYTES) / 1e6)} MB in one piece for the model's plan`,
      hint: 'close other programs, or choose a smaller model or batch',
    }
    throw new Fault(detail, error)
  }
}

/** Zeroes what a plan counts on: another plan may have written there. */
function clear(memory: WebAssembly.Memory, { zeroed }: Plan): void {
  for (const { address, bytes } of zeroed) new Uint8Array(memory.buffer, address, bytes).fill(0)
}

function arrayBytes(length: number): number {
  return lineUp(FLOAT_BYTES * length + LINE_BYTES)
}
