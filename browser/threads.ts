import type { StartHelper } from '../protocol/ports/trainer/threads.ts'

/** A helper in a module Worker, which ends with the worker that started it. It needs a page that is cross-origin isolated. */
export const startHelper: StartHelper = (init, { onSaid, onEnded }) => {
  const worker = new Worker(new URL('./helper.ts', import.meta.url), { type: 'module' })
  worker.addEventListener('message', ({ data }) => onSaid(data))
  worker.addEventListener('error', ({ message }) => onEnded(new Error(message)))
  worker.postMessage(init)
  return { close: () => worker.terminate() }
}
