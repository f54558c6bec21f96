import type { BackendName } from '../../../protocol/ports/trainer/commands.ts'
import type { TrainerOptions } from '../../../protocol/ports/trainer/host.ts'
import type { Trainer } from '../../../protocol/ports/trainer/trainer.ts'
import { integerBelow, normal, randomFrom } from '../../../protocol/random.ts'
import { paramsOf } from '../../support/models.ts'

/** What runs the same in a page's Worker and in Node: a host's own choice of what computes, and some steps of it. */

export interface Choosing {
  modelJson: string
  backend: BackendName
  batchSize: number
  steps: number
}

export interface Chosen {
  backend: string
  remarks: readonly string[]
  losses: number[]
}

type CreateTrainer = (modelJson: string, options: TrainerOptions) => Promise<Trainer>

export async function choose(
  { modelJson, backend, batchSize, steps }: Choosing,
  createTrainer: CreateTrainer,
): Promise<Chosen> {
  const trainer = await createTrainer(modelJson, { backend, batchSize, threads: 1 })
  const { inputSize, outputSize, remarks = [] } = trainer
  const start = paramsOf(trainer, 1, 0.05)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: 'sgd', learningRate: 0.1 })
  const random = randomFrom(1)
  const inputs = Float32Array.from({ length: batchSize * inputSize }, () => normal(random))
  const labels = Int32Array.from({ length: batchSize }, () => integerBelow(random, outputSize))
  const losses = Array.from({ length: steps }, () => {
    const loss = trainer.gradientInto(gradient, params, {
      ...{ inputs, labels, size: batchSize, seed: 1 },
    })
    optimizer.step(params, gradient)
    return loss
  })
  trainer.close()
  return { backend: trainer.backend, remarks, losses }
}
