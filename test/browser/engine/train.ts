import type { Simd } from '../../../protocol/engine/engine.ts'
import type { Graph } from '../../../protocol/engine/graph.ts'
import { sizeOf } from '../../../protocol/params.ts'
import {
  type Binaries,
  createEngineTrainer,
  createGraphTrainer,
} from '../../../protocol/ports/trainer/engine.ts'
import type { StartHelper } from '../../../protocol/ports/trainer/threads.ts'
import type { Batch, Trainer } from '../../../protocol/ports/trainer/trainer.ts'
import { integerBelow, normal, randomFrom } from '../../../protocol/random.ts'
import { type TrainModel, trainModels } from '../../bench/train-models.ts'
import { graphOf } from '../../support/graph.ts'
import { paramsOf, topologyOf } from '../../support/models.ts'

/** What runs the same in a page's Worker and in Node: a model of bench `train`, trained by one seed. */

export interface Asked {
  /** By its name in `models`. */
  model: string
  simd: Simd
  threads: number
}

export interface Trained {
  threads: number
  losses: number[]
  /** SHA-256 of the params' bytes, hexadecimal. */
  hash: string
}

export interface Host {
  binaries: Binaries
  startHelper: StartHelper
}

const frozen = { frozen: true } as const
/** A backbone that never moves, and a head that learns. */
const transfer = graphOf(
  [32, 32, 3],
  [
    { layer: 'Conv2D', config: { filters: 16, kernel_size: 3, activation: 'relu' }, ...frozen },
    { layer: 'MaxPooling2D' },
    { layer: 'DepthwiseConv2D', config: { kernel_size: 3 }, ...frozen },
    { layer: 'BatchNormalization', ...frozen },
    { layer: 'GlobalAveragePooling2D' },
    { layer: 'Dense', config: { units: 10 } },
  ],
)

export const models: readonly PageModel[] = [
  ...trainModels.map(({ torch, ...model }) => ({ ...model, vocabulary: torch.vocabulary })),
  { name: 'transfer', source: { graph: transfer }, optimizer: 'sgd', vocabulary: undefined },
]

type PageModel = Pick<TrainModel, 'name' | 'source' | 'optimizer'> & {
  /** Inputs are whole numbers below this. */
  vocabulary: number | undefined
}

const BATCH = 32
const CLASSES = 10

/** Trains so many steps from the seed. */
export async function train(asked: Asked, host: Host, steps: number): Promise<Trained> {
  const { trainer, params, step } = await open(asked, host)
  const losses = Array.from({ length: steps }, step)
  const digest = await crypto.subtle.digest('SHA-256', params.slice())
  trainer.close()
  return { threads: trainer.threads, losses, hash: hexadecimal(digest) }
}

/** Steps a second by the clock, over at least so many seconds. What is asked for again goes on where it was. */
export async function speed(asked: Asked, host: Host, seconds: number): Promise<number> {
  const key = JSON.stringify(asked)
  const run = running.get(key) ?? (await open(asked, host))
  running.set(key, run)
  const startedAt = performance.now()
  let steps = 0
  for (; performance.now() < startedAt + 1000 * seconds; steps++) run.step()
  return (1000 * steps) / (performance.now() - startedAt)
}

interface Running {
  trainer: Trainer
  params: Float32Array
  /** Gives the loss. */
  step(): number
}

const running = new Map<string, Running>()

async function open({ model: name, simd, threads }: Asked, host: Host): Promise<Running> {
  const model = models.find((model) => model.name === name)!
  const options = { batchSize: BATCH, simd, threads, ...host }
  const { source } = model
  const trainer = await ('graph' in source
    ? createGraphTrainer(source.graph, { ...options, frozen: frozenOf(source.graph) })
    : createEngineTrainer(topologyOf(source.json), options))
  const start = paramsOf(trainer, 1, 0.05)
  const params = trainer.floats(start.length)
  params.set(start)
  const gradient = trainer.floats(start.length)
  const optimizer = trainer.createOptimizer({ name: model.optimizer, learningRate: 0.01 })
  const batch = batchOf(trainer.inputSize, model.vocabulary)
  return {
    trainer,
    params,
    step() {
      const loss = trainer.gradientInto(gradient, params, batch)
      optimizer.step(params, gradient)
      return loss
    },
  }
}

/** Variances among them, so all are above zero. */
function frozenOf({ frozen = [] }: Graph): Float32Array {
  const random = randomFrom(2)
  return Float32Array.from({ length: sizeOf(frozen) }, () => 0.1 + 0.2 * random())
}

function batchOf(inputSize: number, vocabulary: number | undefined): Batch {
  const random = randomFrom(1)
  const draw = () => (vocabulary ? integerBelow(random, vocabulary) : normal(random))
  return {
    inputs: Float32Array.from({ length: BATCH * inputSize }, draw),
    labels: Int32Array.from({ length: BATCH }, () => integerBelow(random, CLASSES)),
    ...{ size: BATCH, seed: 1 },
  }
}

function hexadecimal(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
