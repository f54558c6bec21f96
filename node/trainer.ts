import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import type { Candidate } from '../protocol/ports/trainer/choose.ts'
import {
  createTrainerOn,
  type StartTfjs,
  type TrainerHost,
  type TrainerOptions,
} from '../protocol/ports/trainer/host.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { memoryLimit } from './memory.ts'
import { startHelper } from './threads.ts'
import { engineBinary, tfjsWasmFolder } from './wasm.ts'

const beside = createRequire(import.meta.url)
const TFJS_NODE = '@tensorflow/tfjs-node'

/** A trainer for a version's model.json, within half of the memory that is free now unless told. See createTrainerOn. */
export function createTrainer(modelJson: string, options: TrainerOptions): Promise<Trainer> {
  return createTrainerOn(thisMachine, modelJson, options)
}

const thisMachine: TrainerHost = {
  binary: engineBinary,
  startHelper,
  cores: availableParallelism(),
  memoryBytes: memoryLimit,
  wasmPlaces: tfjsWasmFolder,
  others: installedOthers,
}

/** tfjs-node, where the operator installed it beside us: it takes libtensorflow from elsewhere, so it is never a dependency. */
function installedOthers(start: StartTfjs): Candidate[] {
  const path = pathOf(TFJS_NODE)
  if (path === undefined) return []
  return [
    {
      backend: 'tfjs-node',
      async start(topology) {
        beside(path) // registers itself with the TensorFlow.js of this process
        const trainer = await start(topology, 'tensorflow')
        return { ...trainer, backend: 'tfjs-node' }
      },
    },
  ]
}

function pathOf(name: string): string | undefined {
  try {
    return beside.resolve(name)
  } catch {
    return undefined
  }
}
