import { codecs } from '../../../protocol/codec/table.ts'
import type { BackendName } from '../../../protocol/ports/trainer/commands.ts'
import type { TrainerOptions } from '../../../protocol/ports/trainer/host.ts'
import type { Trainer } from '../../../protocol/ports/trainer/trainer.ts'
import { integerBelow, normal, randomFrom } from '../../../protocol/random.ts'
import { paramsOf, topologyOf } from '../../support/models.ts'

/** What runs the same in a page's Worker and in Node: a host's own choice of what computes, and some steps of it. */

export interface Choosing {
  modelJson: string
  backend: BackendName
  batchSize: number
  steps: number
  /** Inputs are whole numbers below this; normal numbers unless given. */
  vocabulary?: number
  /** 0.1 unless given. */
  learningRate?: number
}

export interface Chosen {
  backend: string
  /** Values per example behind a frozen start, where there is one. */
  features: number | undefined
  remarks: readonly string[]
  losses: number[]
}

type CreateTrainer = (modelJson: string, options: TrainerOptions) => Promise<Trainer>

export async function choose(
  { modelJson, backend, batchSize, steps, vocabulary, learningRate = 0.1 }: Choosing,
  createTrainer: CreateTrainer,
): Promise<Chosen> {
  const { frozen: held } = topologyOf(modelJson)
  const frozen = codecs.float32.encode(paramsOf({ tensors: held }, 2, 0.2), held)
  const trainer = await createTrainer(modelJson, { backend, batchSize, threads: 1, frozen })
  const { features, inputSize, outputSize, remarks = [] } = trainer
  const start = paramsOf(trainer, 1, 0.05)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: 'sgd', learningRate })
  const random = randomFrom(1)
  const draw = () => (vocabulary ? integerBelow(random, vocabulary) : normal(random))
  const given = Float32Array.from({ length: batchSize * inputSize }, draw)
  const inputs = features ? features.of(given, batchSize) : given
  const labels = Int32Array.from({ length: batchSize }, () => integerBelow(random, outputSize))
  const losses = Array.from({ length: steps }, () => {
    const loss = (features?.rest ?? trainer).gradientInto(gradient, params, {
      ...{ inputs, labels, size: batchSize, seed: 1 },
    })
    optimizer.step(params, gradient)
    return loss
  })
  trainer.close()
  return { backend: trainer.backend, features: features?.size, remarks, losses }
}
