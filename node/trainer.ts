import { availableParallelism } from 'node:os'
import { sizeOf } from '../protocol/params.ts'
import { chooseTrainer } from '../protocol/ports/trainer/choose.ts'
import type { BackendName } from '../protocol/ports/trainer/commands.ts'
import { createEngineTrainer, unplannedLayersOf } from '../protocol/ports/trainer/engine.ts'
import { floatsFrom } from '../protocol/ports/trainer/learner.ts'
import { readTopology } from '../protocol/ports/trainer/topology.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { memoryLimit } from './memory.ts'
import { startHelper } from './threads.ts'
import { engineBinaries, tfjsWasmFolder } from './wasm.ts'

export interface TrainerOptions {
  backend: BackendName
  batchSize: number
  /** Unless given, as many as the model gains by, and one core less than there are at most. */
  threads?: number | undefined
  /** The version's frozen weights, float32 little-endian; none unless given. */
  frozen?: Uint8Array | undefined
}

/**
 * A trainer for a version's model.json, read again within half of the memory that is free now. TensorFlow.js is loaded only
 * where it trains. Throws Fault `no-backend` when what was asked for cannot train the model.
 */
export async function createTrainer(
  modelJson: string,
  { backend, batchSize, threads, frozen = new Uint8Array(0) }: TrainerOptions,
): Promise<Trainer> {
  const topology = readTopology(modelJson, { memoryBytes: memoryLimit(), batchSize })
  const choice = chooseTrainer(backend, unplannedLayersOf(topology))
  const binaries = await engineBinaries()
  if (choice.type === 'engine') {
    const { simd } = choice
    return createEngineTrainer(topology, {
      ...{ batchSize, simd, binaries, threads, startHelper },
      cores: availableParallelism(),
      frozen: floatsFrom(frozen, sizeOf(topology.frozen)),
    })
  }
  const { createTfjsTrainer } = await import('../protocol/ports/trainer/tfjs.ts')
  return createTfjsTrainer(topology, {
    backend: choice.backend,
    wasmFolder: tfjsWasmFolder(),
    kernels: binaries.plain,
  })
}
