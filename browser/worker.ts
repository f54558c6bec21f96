/**
 * The module Worker that owns params, trainer and data, so that the window never waits for a step: it hosts one learner,
 * measures what one would take, or predicts. jobs.ts says what it is told and what it answers.
 */
import { faultFrom } from '../protocol/errors.ts'
import { reportOf, splitRows } from '../protocol/ports/examples.ts'
import type { Command, WorkerEvent, WorkerInit } from '../protocol/ports/trainer/commands.ts'
import {
  floatsFrom,
  type LearnerData,
  measureDevice,
  runLearner,
} from '../protocol/ports/trainer/learner.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { randomFrom } from '../protocol/random.ts'
import { checkpointIn } from './checkpoint.ts'
import { readFiles } from './data.ts'
import type {
  Job,
  LearnEvent,
  LearnJob,
  MeasureJob,
  PredictCommand,
  PredictEvent,
  PredictJob,
} from './jobs.ts'
import { createPredictingTrainer, createTrainer } from './trainer.ts'

addEventListener(
  'message',
  ({ data: job }: MessageEvent<Job>) => {
    if (job.type === 'learn') learn(job)
    else if (job.type === 'measure') void measure(job)
    else predict(job)
  },
  { once: true },
)

function learn({ init, own, title }: LearnJob): void {
  const tell = (event: LearnEvent) => postMessage(event)
  const learner = runLearner(init, {
    createTrainer: trainerOf,
    loadData: (init, seed) => loadData(init, own, seed),
    checkpoints: checkpointIn(init.genesis, title, (fault) => tell({ type: 'kept', fault })),
    send: (event, transfer) => postMessage(event, { transfer }),
    now: () => performance.now(),
  })
  addEventListener('message', ({ data }: MessageEvent<Command>) => learner.receive(data))
  void learner.ended.then(() => close()) // never rejects: what goes wrong was sent as `failed`
}

type Model = Pick<WorkerInit, 'modelJson' | 'manifest' | 'backend' | 'threads' | 'frozen'>

/** Who trains here, and who is measured. */
function trainerOf({ modelJson, manifest, ...init }: Model): Promise<Trainer> {
  const { backend, threads, frozen } = init
  return createTrainer(modelJson, {
    ...{ backend, threads, frozen, batchSize: manifest.train.batchSize },
  })
}

async function measure({ init, examples }: MeasureJob): Promise<void> {
  const send = (event: WorkerEvent) => postMessage(event)
  let trainer: Trainer | undefined
  try {
    trainer = await trainerOf(init)
    send(measureDevice(trainer, init, { send, now: () => performance.now() }, examples))
  } catch (error) {
    send({ type: 'failed', detail: faultFrom(error).detail })
  } finally {
    trainer?.close()
    close()
  }
}

/** The person's examples, split by `seed`, and what the version brought to measure on. */
async function loadData(
  { manifest, evalFiles = [] }: WorkerInit,
  { examples, format, skips }: LearnJob['own'],
  seed: number,
): Promise<LearnerData> {
  const split = splitRows(examples.size, manifest.train.validation, randomFrom(seed))
  const report = reportOf(format, examples, manifest.output.labels, split, skips)
  const files = evalFiles.map(({ path, bytes }) => ({
    path,
    file: new File([bytes as BlobPart], path),
  }))
  const evaluation = files.length > 0 ? (await readFiles(files, manifest)).examples : undefined
  return { examples, split, report, evaluation }
}

/** Commands in order: the trainer may still be on its way when the first one comes. */
function predict({ manifest, modelJson, frozen }: PredictJob): void {
  const { batchSize } = manifest.train
  const starting = createPredictingTrainer(modelJson, { batchSize, frozen })
  let last: Promise<unknown> = starting
  const tell = (event: PredictEvent, transfer: Transferable[] = []) =>
    postMessage(event, { transfer })
  const fail = (error: unknown) => {
    tell({ type: 'failed', detail: faultFrom(error).detail })
    close()
  }
  const serve = async (command: PredictCommand) => {
    const trainer = await starting
    if (command.type === 'load') {
      const size = command.params.length / Float32Array.BYTES_PER_ELEMENT
      return trainer.load(floatsFrom(command.params, size))
    }
    const { id, inputs, size } = command
    const probabilities = trainer.predict(inputs, size)
    tell({ type: 'predicted', id, probabilities }, [probabilities.buffer])
  }
  starting.catch(fail)
  addEventListener('message', ({ data }: MessageEvent<PredictCommand>) => {
    last = last.then(() => serve(data))
    last.catch(fail)
  })
}
