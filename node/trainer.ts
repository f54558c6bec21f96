import { Fault } from '../protocol/errors.ts'
import type { BackendName } from '../protocol/ports/trainer/commands.ts'
import { createEngineTrainer, unplannedLayersOf } from '../protocol/ports/trainer/engine.ts'
import { readTopology } from '../protocol/ports/trainer/topology.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { memoryLimit } from './memory.ts'
import { engineBinaries, tfjsWasmFolder } from './wasm.ts'

/**
 * A trainer for a version's model.json, read again within half of the memory that is free now: the one place that chooses
 * what computes. Throws Fault `no-backend` when what was asked for cannot train the model.
 */
export async function createTrainer(
  modelJson: string,
  { backend, batchSize }: { backend: BackendName; batchSize: number },
): Promise<Trainer> {
  const topology = readTopology(modelJson, { memoryBytes: memoryLimit(), batchSize })
  const unplanned = unplannedLayersOf(topology)
  if (backend === 'wasm' || backend === 'cpu' || (backend === 'auto' && unplanned.length > 0)) {
    const { createTfjsTrainer } = await import('../protocol/ports/trainer/tfjs.ts')
    return createTfjsTrainer(topology, { backend, wasmFolder: tfjsWasmFolder() })
  }
  if (unplanned.length > 0) throw notPlanned(backend, unplanned)
  const simd = backend === 'engine-plain' ? 'plain' : 'auto'
  return createEngineTrainer(topology, { batchSize, simd, binaries: await engineBinaries() })
}

function notPlanned(backend: BackendName, layers: string[]): Fault {
  return new Fault({
    kind: 'resource',
    type: 'no-backend',
    message: `the backend ${backend} does not train ${layers.join(', ')}`,
    hint: 'try --backend auto',
  })
}
