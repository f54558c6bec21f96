import type { Answer, Request } from './worker.ts'

/** The page: it hands what a test asks for to its worker, one after another. */
const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })

Object.assign(globalThis, {
  ask: (request: Request) =>
    new Promise<Answer>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data)
      worker.onerror = ({ message }) => reject(new Error(message))
      worker.postMessage(request)
    }),
})
