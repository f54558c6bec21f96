import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { sizeOf } from '../protocol/params.ts'
import { type Candidate, startTrainer } from '../protocol/ports/trainer/choose.ts'
import type { BackendName } from '../protocol/ports/trainer/commands.ts'
import { createEngineTrainer } from '../protocol/ports/trainer/engine.ts'
import { floatsFrom } from '../protocol/ports/trainer/learner.ts'
import { readTopology, type Topology } from '../protocol/ports/trainer/topology.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { memoryLimit } from './memory.ts'
import { startHelper } from './threads.ts'
import { engineBinaries, tfjsWasmFolder } from './wasm.ts'

const require = createRequire(import.meta.url)
const TFJS_NODE = '@tensorflow/tfjs-node'

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
  const binaries = await engineBinaries()
  const held = floatsFrom(frozen, sizeOf(topology.frozen))
  const startTfjs = async (topology: Topology, backend: string) => {
    const { createTfjsTrainer } = await import('../protocol/ports/trainer/tfjs.ts')
    const options = { wasmFolder: tfjsWasmFolder(), kernels: binaries.plain, frozen: held }
    return createTfjsTrainer(topology, { backend, ...options })
  }
  return startTrainer(
    topology,
    { backend, batchSize },
    {
      engine: (topology, simd) =>
        createEngineTrainer(topology, {
          ...{ batchSize, simd, binaries, threads, startHelper },
          cores: availableParallelism(),
          frozen: held,
        }),
      tfjs: startTfjs,
      others: installedOthers(startTfjs),
      now: () => performance.now(),
    },
  )
}

/** tfjs-node, where the operator installed it beside us: it takes libtensorflow from elsewhere, so it is never a dependency. */
function installedOthers(
  start: (topology: Topology, backend: string) => Promise<Trainer>,
): Candidate[] {
  const path = pathOf(TFJS_NODE)
  if (path === undefined) return []
  return [
    {
      backend: 'tfjs-node',
      async start(topology) {
        require(path) // registers itself with the TensorFlow.js of this process
        const trainer = await start(topology, 'tensorflow')
        return { ...trainer, backend: 'tfjs-node' }
      },
    },
  ]
}

function pathOf(name: string): string | undefined {
  try {
    return require.resolve(name)
  } catch {
    return undefined
  }
}
