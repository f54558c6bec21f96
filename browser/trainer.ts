import {
  createTrainerOn,
  type TrainerHost,
  type TrainerOptions,
} from '../protocol/ports/trainer/host.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { bestBackend } from './abilities.ts'
import { gpus } from './gpu.ts'
import { memoryLimit } from './memory.ts'
import { startHelper } from './threads.ts'
import { engineBinary, tfjsWasmPlaces } from './wasm.ts'

const forPredictions: TrainerHost = {
  binary: engineBinary,
  startHelper: globalThis.crossOriginIsolated ? startHelper : undefined,
  cores: globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1,
  memoryBytes: memoryLimit,
  wasmPlaces: tfjsWasmPlaces,
}

const forTraining: TrainerHost = { ...forPredictions, others: gpus }

/** A trainer for a version's model.json within what this browser gives a tab. See createTrainerOn. */
export function createTrainer(modelJson: string, options: TrainerOptions): Promise<Trainer> {
  return createTrainerOn(forTraining, modelJson, options)
}

/** For predictions alone: a trial of steps would take longer than they do. */
export function createPredictingTrainer(
  modelJson: string,
  options: Omit<TrainerOptions, 'backend' | 'threads'>,
): Promise<Trainer> {
  return createTrainerOn(forPredictions, modelJson, {
    ...options,
    ...{ backend: bestBackend(), threads: 1 },
  })
}
