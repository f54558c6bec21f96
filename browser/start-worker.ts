import type { Fault } from '../protocol/errors.ts'
import { has } from './abilities.ts'
import type { Job } from './jobs.ts'
import { pageFault } from './words.ts'
import workerFile from './worker.ts?worker&url'

/** A running worker: messages in order, and its death told once. */
export interface RunningWorker {
  post(message: unknown, transfer?: Transferable[]): void
  close(): void
}

interface Policy {
  createScriptURL(address: string): string
}

/** Only the page's own file becomes a worker. Where a browser has no Trusted Types, an address is one as it is. */
const { trustedTypes } = globalThis as unknown as {
  trustedTypes?: {
    createPolicy(name: string, rules: Policy): Policy
  }
}
const policy: Policy = trustedTypes?.createPolicy('mlstore', { createScriptURL: ours }) ?? {
  createScriptURL: ours,
}

function ours(address: string): string {
  if (new URL(address, location.href).origin === location.origin) return address
  throw new Error(`no worker comes from ${address}`)
}

/** Starts a worker and gives it its job. Throws Fault `no-worker` where the browser has none. */
export function startWorker<Said>(
  job: Job,
  transfer: Transferable[],
  { onSaid, onDied }: { onSaid: (said: Said) => void; onDied: (why: Fault) => void },
): RunningWorker {
  if (!has('worker')) throw noWorker()
  const worker = new Worker(policy.createScriptURL(workerFile), { type: 'module' })
  worker.addEventListener('message', ({ data }) => onSaid(data))
  worker.addEventListener('error', (event) => {
    event.preventDefault()
    onDied(died(event.message))
  })
  worker.postMessage(job, transfer)
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    close: () => worker.terminate(),
  }
}

function died(message: string | undefined): Fault {
  return pageFault('resource', 'worker-died', { why: message })
}

function noWorker(): Fault {
  return pageFault('resource', 'no-worker', {})
}
