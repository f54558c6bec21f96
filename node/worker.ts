/**
 * The worker_thread that owns params, trainer and data: it hosts one learner. The first message is its WorkerInit, every other
 * one a Command; what it posts are WorkerEvents.
 */
import { parentPort } from 'node:worker_threads'
import { invariant } from '../protocol/errors.ts'
import type { Command, WorkerInit } from '../protocol/ports/trainer/commands.ts'
import { runLearner } from '../protocol/ports/trainer/learner.ts'
import { checkpointFile } from './checkpoint.ts'
import { loadData } from './data.ts'
import { createTrainer } from './trainer.ts'

const port = parentPort
invariant(port, 'this file runs in a worker_thread')

port.once('message', (init: WorkerInit) => {
  const learner = runLearner(init, {
    createTrainer: ({ modelJson, manifest, ...init }) => {
      const { backend, threads, frozen, memoryBytes } = init
      const { batchSize } = manifest.train
      return createTrainer(modelJson, { backend, batchSize, threads, frozen, memoryBytes })
    },
    loadData,
    checkpoints: checkpointFile(init.checkpointPath),
    send: (event, transfer) => port.postMessage(event, transfer),
    now: () => performance.now(),
  })
  port.on('message', (command: Command) => learner.receive(command))
  void learner.ended.then(() => port.close()) // never rejects: what goes wrong was sent as `failed`
})
