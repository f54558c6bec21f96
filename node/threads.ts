import { Worker } from 'node:worker_threads'
import type { StartHelper } from '../protocol/ports/trainer/threads.ts'

/** A helper in a worker_thread. It ends with the thread that started it, and once it is ready it keeps none alive. */
export const startHelper: StartHelper = (init, { onSaid, onEnded }) => {
  const worker = new Worker(new URL('./helper.ts', import.meta.url), {
    workerData: init,
    execArgv: ownArguments(),
  })
  worker.on('message', (said) => {
    worker.unref()
    onSaid(said)
  })
  worker.on('error', onEnded)
  worker.on('exit', () => onEnded())
  return { close: () => void worker.terminate() }
}

/** Debuggers of the main thread are not for its workers. */
export function ownArguments(): string[] {
  return process.execArgv.filter((argument) => !argument.startsWith('--inspect'))
}
