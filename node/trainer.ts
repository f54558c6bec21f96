import { createTfjsTrainer } from '../protocol/ports/trainer/tfjs.ts'
import { readTopology } from '../protocol/ports/trainer/topology.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { memoryLimit } from './memory.ts'
import { tfjsWasmFolder } from './wasm.ts'

/** A trainer for a version's model.json, read again within half of the memory that is free now. */
export async function createTrainer(
  modelJson: string,
  options: { backend: 'auto' | 'wasm' | 'cpu'; batchSize: number },
): Promise<Trainer> {
  const { backend, batchSize } = options
  const topology = readTopology(modelJson, { memoryBytes: memoryLimit(), batchSize })
  return createTfjsTrainer(topology, { backend, wasmFolder: tfjsWasmFolder() })
}
