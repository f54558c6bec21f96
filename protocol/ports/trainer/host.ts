import { sizeOf } from '../../params.ts'
import { type Candidate, startTrainer, trainsByEngine } from './choose.ts'
import type { BackendName } from './commands.ts'
import { bestSimd, createEngineTrainer, type Simd } from './engine.ts'
import { floatsFrom } from './learner.ts'
import type { WasmPlaces } from './tfjs.ts'
import type { StartHelper } from './threads.ts'
import { readTopology, type Topology } from './topology.ts'
import type { Trainer } from './trainer.ts'

/** What a host brings so that models train on it. */
export interface TrainerHost {
  /** A build of the engine's kernels: the one that a model needs is asked for, alone. */
  binary(simd: Simd): Promise<BufferSource>
  /** How it starts another thread; without it there is one. */
  startHelper: StartHelper | undefined
  cores: number
  /** What a model may take here, bytes. */
  memoryBytes(): number
  /** Where the binaries of TensorFlow.js lie, for the models that it trains. */
  wasmPlaces(): WasmPlaces
  /** Other ways that it has for a model, given what was asked for. */
  others?(start: StartTfjs, asked: { topology: Topology; backend: BackendName }): Candidate[]
}

/** Makes a trainer of a backend that was registered with TensorFlow.js. */
export type StartTfjs = (topology: Topology, backend: string) => Promise<Trainer>

export interface TrainerOptions {
  backend: BackendName
  batchSize: number
  /** Unless given, as many as the model gains by, and one core less than there are at most. */
  threads?: number | undefined
  /** What the model may take, bytes; what the host says unless given. */
  memoryBytes?: number | undefined
  /** The version's frozen weights, float32 little-endian; none unless given. */
  frozen?: Uint8Array | undefined
}

/**
 * A trainer for a version's model.json, read again within what the host has free. TensorFlow.js is loaded only where it
 * trains. Throws Fault `no-backend` when what was asked for cannot train the model.
 */
export async function createTrainerOn(
  host: TrainerHost,
  modelJson: string,
  options: TrainerOptions,
): Promise<Trainer> {
  const { startHelper, cores } = host
  const { backend, batchSize, threads, frozen = new Uint8Array(0) } = options
  const memoryBytes = options.memoryBytes ?? host.memoryBytes()
  const helped = trainsByEngine(backend) ? threads : undefined
  const topology = readTopology(modelJson, { memoryBytes, batchSize, threads: helped })
  const spareBytes = memoryBytes - topology.demand.memoryBytes
  const held = floatsFrom(frozen, sizeOf(topology.frozen))
  const asked: Partial<Record<Simd, Promise<BufferSource>>> = {}
  const binaryOf = (simd: Simd) => (asked[simd] ??= host.binary(simd))
  const startTfjs: StartTfjs = async (topology, backend) => {
    const { createTfjsTrainer } = await import('./tfjs.ts')
    const kernels = await binaryOf('plain')
    const options = { wasmPlaces: host.wasmPlaces(), kernels, frozen: held }
    return createTfjsTrainer(topology, { backend, ...options })
  }
  return startTrainer(
    topology,
    { backend, batchSize },
    {
      async engine(topology, wanted) {
        const simd = wanted === 'auto' ? bestSimd() : wanted
        const binaries = { [simd]: await binaryOf(simd) }
        return createEngineTrainer(topology, {
          ...{ batchSize, simd, binaries, threads, cores, spareBytes, frozen: held },
          ...(startHelper && { startHelper }),
        })
      },
      tfjs: startTfjs,
      others: host.others?.(startTfjs, { topology, backend }) ?? [],
      now: () => performance.now(),
    },
  )
}
