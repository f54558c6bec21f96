import { Worker } from 'node:worker_threads'
import { Fault, faultFrom } from '../protocol/errors.ts'
import { buffersOf, ownBuffer } from '../protocol/ports/trainer/buffers.ts'
import type { Command, WorkerEvent, WorkerInit } from '../protocol/ports/trainer/commands.ts'
import { ownArguments } from './threads.ts'

/** A learner in a worker_thread, seen from the host's thread. */
export interface LearnerHandle {
  /** Sends a command and hands over its buffers: they are empty afterwards. Without effect once it has ended. */
  send(command: Command): void
  /** Resolves when the thread is gone; `stopped` or `failed` came before, unless it was closed. */
  ended: Promise<void>
  /** Ends the thread at once, without a checkpoint; idempotent. To leave gracefully send `stop` and await `ended`. */
  close(): Promise<void>
}

/** A thread that loads its libraries while its WorkerInit is still to come. */
export interface OpenLearner extends LearnerHandle {
  /** Starts the learner, once. The params' buffer is handed over when they fill it, else copied. */
  begin(init: WorkerInit): void
}

/** Opens a thread and starts the learner in it. See openLearner and `begin`. */
export function startLearner(
  init: WorkerInit,
  onEvent: (event: WorkerEvent) => void,
): LearnerHandle {
  const learner = openLearner(onEvent)
  learner.begin(init)
  return learner
}

/**
 * Opens the thread alone. `onEvent` gets its events in order, the first of them `device` or `failed`, and a `failed` when the
 * thread dies by itself. It keeps no process alive before it begins.
 */
export function openLearner(onEvent: (event: WorkerEvent) => void): OpenLearner {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), {
    execArgv: ownArguments(),
  })
  worker.unref()
  let over = false
  const tell = (event: WorkerEvent) => {
    if (over) return
    over = event.type === 'stopped' || event.type === 'failed'
    onEvent(event)
  }
  worker.on('message', tell)
  worker.on('error', (error) => tell({ type: 'failed', detail: deathOf(error).detail }))
  const ended = new Promise<void>((resolve) => {
    worker.on('exit', (code) => {
      tell({
        type: 'failed',
        detail: deathOf(new Error(`the training thread ended with code ${code}`)).detail,
      })
      resolve()
    })
  })
  return {
    begin(init) {
      worker.ref()
      const params = ownBuffer(init.params)
      worker.postMessage({ ...init, params }, [params.buffer])
    },
    send(command) {
      if (!over) worker.postMessage(command, buffersOf(command))
    },
    ended,
    async close() {
      over = true
      await worker.terminate()
    },
  }
}

function deathOf(error: Error): Fault {
  if ((error as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') return faultFrom(error)
  return new Fault(
    {
      kind: 'resource',
      type: 'out-of-memory',
      message: 'the training thread ran out of memory',
      hint: 'close other programs, or choose a smaller model or less data',
    },
    error,
  )
}
