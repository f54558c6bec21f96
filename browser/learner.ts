import { Fault } from '../protocol/errors.ts'
import type { Learner, Ready } from '../protocol/index.ts'
import { buffersOf, ownBuffer } from '../protocol/ports/trainer/buffers.ts'
import type { Command, WorkerEvent } from '../protocol/ports/trainer/commands.ts'
import type { LearnEvent, LearnJob } from './jobs.ts'
import type { TrainOptions } from './services.ts'
import { startWorker } from './start-worker.ts'
import { pageFault } from './words.ts'

/** A learner in a worker, seen from the window. */
export interface RunningLearner extends Learner {
  ready: Promise<Ready>
  /** The params of now, float32 in tensor order; after the end, those it ended with. */
  params(): Promise<Uint8Array>
  /** Resolves when it stopped or failed. */
  ended: Promise<void>
  /** Ends the worker at once; idempotent. To leave gracefully send `stop` and await `ended`. */
  close(): void
}

/** Starts a learner. Its `ready` rejects with what goes wrong before; `onKept` hears why a checkpoint is not kept, and when it is again. */
export function startLearner(
  job: LearnJob,
  { onKept, onPreparing }: Required<Pick<TrainOptions, 'onKept' | 'onPreparing'>>,
): RunningLearner {
  const ready = Promise.withResolvers<Ready>()
  const ended = Promise.withResolvers<void>()
  ready.promise.catch(() => {}) // thrown to who waits for it
  const asked: ((bytes: Uint8Array) => void)[] = []
  const early: WorkerEvent[] = []
  let listener: ((event: WorkerEvent) => void) | undefined
  let last: Promise<Uint8Array> | undefined
  let over = false

  const onSaid = (event: LearnEvent) => {
    if (over) return
    if (event.type === 'kept') return onKept(event.fault)
    if (event.type === 'progress' && !listener) return onPreparing(event)
    if (event.type === 'version-params') return asked.shift()?.(event.bytes)
    if (event.type === 'ready') ready.resolve(event)
    if (event.type === 'failed') ready.reject(new Fault(event.detail))
    over = event.type === 'stopped' || event.type === 'failed'
    if (event.type !== 'device' && event.type !== 'ready') {
      if (listener) listener(event)
      else early.push(event)
    }
    if (over) end()
  }
  const end = () => {
    document.removeEventListener('visibilitychange', onHidden)
    ended.resolve()
  }
  const params = ownBuffer(job.init.params)
  const worker = startWorker<LearnEvent>(
    { ...job, init: { ...job.init, params } },
    [params.buffer],
    { onSaid, onDied: ({ detail }) => onSaid({ type: 'failed', detail }) },
  )
  const post = (command: Command) => {
    if (!over) worker.post(command, buffersOf(command))
  }
  /** A system that needs memory ends hidden tabs without a word. */
  const onHidden = () => {
    if (document.hidden) post({ type: 'checkpoint' })
  }
  document.addEventListener('visibilitychange', onHidden)
  const ask = () => {
    const { promise, resolve } = Promise.withResolvers<Uint8Array>()
    asked.push(resolve)
    post({ type: 'version' })
    return promise
  }
  return {
    ready: ready.promise,
    ended: ended.promise,
    send(command) {
      // Asked before it is gone: who trained wants to try and to take what came of it.
      if (command.type === 'stop') last ??= ask()
      post(command)
    },
    listen(next) {
      listener = next
      for (const event of early.splice(0)) next(event)
    },
    async params() {
      if (over && !last) throw gone()
      // Whatever it was asked for, a worker that died answers no more.
      const never = ended.promise.then(() => Promise.reject(gone()))
      return (await Promise.race([last ?? ask(), never])).slice()
    },
    close() {
      over = true
      worker.close()
      end()
    },
  }
}

function gone(): Fault {
  return pageFault('not-found', 'no-params', {})
}
