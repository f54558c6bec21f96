/**
 * The module Worker that owns params, trainer and data, so that the window never waits for a step: it hosts one learner, or
 * predicts. jobs.ts says what it is told and what it answers.
 */
import { faultFrom } from '../protocol/errors.ts'
import { reportOf, splitRows } from '../protocol/ports/examples.ts'
import type { Command, WorkerInit } from '../protocol/ports/trainer/commands.ts'
import { floatsFrom, type LearnerData, runLearner } from '../protocol/ports/trainer/learner.ts'
import { randomFrom } from '../protocol/random.ts'
import { checkpointIn } from './checkpoint.ts'
import { readFiles } from './data.ts'
import type { Job, LearnEvent, LearnJob, PredictCommand, PredictEvent, PredictJob } from './jobs.ts'
import { createPredictingTrainer, createTrainer } from './trainer.ts'

addEventListener(
  'message',
  ({ data: job }: MessageEvent<Job>) => {
    if (job.type === 'learn') learn(job)
    else predict(job)
  },
  { once: true },
)

function learn({ init, own, title }: LearnJob): void {
  const tell = (event: LearnEvent) => postMessage(event)
  const learner = runLearner(init, {
    createTrainer: ({ modelJson, manifest, backend, threads, frozen }) =>
      createTrainer(modelJson, {
        ...{ backend, threads, frozen, batchSize: manifest.train.batchSize },
      }),
    loadData: (init, seed) => loadData(init, own, seed),
    checkpoints: checkpointIn(init.genesis, title, (fault) => tell({ type: 'kept', fault })),
    send: (event, transfer) => postMessage(event, { transfer }),
    now: () => performance.now(),
  })
  addEventListener('message', ({ data }: MessageEvent<Command>) => learner.receive(data))
  void learner.ended.then(() => close()) // never rejects: what goes wrong was sent as `failed`
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
