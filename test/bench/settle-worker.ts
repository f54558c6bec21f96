import { parentPort } from 'node:worker_threads'
import type { Manifest } from '../../protocol/manifest.ts'
import { createOptimizer } from '../../protocol/optimizer.ts'
import { sizeOf } from '../../protocol/params.ts'
import type { Command, WorkerInit } from '../../protocol/ports/trainer/commands.ts'
import { runLearner } from '../../protocol/ports/trainer/learner.ts'
import type { Trainer } from '../../protocol/ports/trainer/trainer.ts'

/** The shipped learner in its thread, over a trainer that has params and computes nothing. */

const port = parentPort!
/** Bounded and nowhere zero, so that no block is compressed away. */
const PATTERN = 251

port.once('message', (manifest: Manifest) => {
  const learner = runLearner(initOf(manifest), {
    createTrainer: async () => trainerOf(manifest),
    loadData: async () => ({ examples: none, split, report, evaluation: undefined }),
    checkpoints: { async *read() {}, async write() {} },
    send: (event, transfer) => port.postMessage(event, transfer),
    now: () => performance.now(),
  })
  port.on('message', (message: Command | { type: 'collect' }) => {
    if (message.type !== 'collect') return learner.receive(message)
    globalThis.gc!()
    port.postMessage({ type: 'collected' })
  })
})

const none = { size: 0, width: 1, inputs: new Float32Array(0), labels: new Uint16Array(0) }
const split = { train: new Uint32Array(0), validation: new Uint32Array(0) }
const report = {
  format: 'none' as const,
  ...{ read: 0, skipped: [], skippedCount: 0, labels: {}, train: 0, validation: 0 },
}

function initOf(manifest: Manifest): WorkerInit {
  const values = Float32Array.from({ length: PATTERN }, (_, i) => (i + 1) / PATTERN - 0.5)
  const params = new Float32Array(sizeOf(manifest.tensors))
  for (let at = 0; at < params.length; at += PATTERN)
    params.set(values.subarray(0, params.length - at), at)
  return {
    ...{ manifest, genesis: '', version: '', modelJson: '', data: undefined, checkpointPath: '' },
    ...{ seed: 1, resume: false, backend: 'cpu' as const },
    params: new Uint8Array(params.buffer),
  }
}

function trainerOf({ tensors }: Manifest): Trainer {
  return {
    ...{ backend: 'none', threads: 1, tensors, inputSize: 1, outputSize: 1 },
    floats: (length) => new Float32Array(length),
    createOptimizer: (recipe) => createOptimizer(recipe, tensors),
    gradientInto: () => 0,
    load() {},
    predict: () => new Float32Array(0),
    close() {},
  }
}
