import { sizeOf } from '../protocol/params.ts'
import { chooseTrainer } from '../protocol/ports/trainer/choose.ts'
import type { BackendName } from '../protocol/ports/trainer/commands.ts'
import { createEngineTrainer, unplannedLayersOf } from '../protocol/ports/trainer/engine.ts'
import { floatsFrom } from '../protocol/ports/trainer/learner.ts'
import { readTopology } from '../protocol/ports/trainer/topology.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { memoryLimit } from './memory.ts'
import { engineBinaries, tfjsWasmFolder } from './wasm.ts'

export interface TrainerOptions {
  backend: BackendName
  batchSize: number
  /** The version's frozen weights, float32 little-endian; none unless given. */
  frozen?: Uint8Array | undefined
}

/**
 * A trainer for a version's model.json, read again within half of the memory that is free now. TensorFlow.js is loaded only
 * where it trains. Throws Fault `no-backend` when what was asked for cannot train the model.
 */
export async function createTrainer(
  modelJson: string,
  { backend, batchSize, frozen = new Uint8Array(0) }: TrainerOptions,
): Promise<Trainer> {
  const topology = readTopology(modelJson, { memoryBytes: memoryLimit(), batchSize })
  const choice = chooseTrainer(backend, unplannedLayersOf(topology))
  if (choice.type === 'engine') {
    const binaries = await engineBinaries()
    const held = floatsFrom(frozen, sizeOf(topology.frozen))
    return createEngineTrainer(topology, { batchSize, simd: choice.simd, binaries, frozen: held })
  }
  const { createTfjsTrainer } = await import('../protocol/ports/trainer/tfjs.ts')
  return createTfjsTrainer(topology, { backend: choice.backend, wasmFolder: tfjsWasmFolder() })
}
