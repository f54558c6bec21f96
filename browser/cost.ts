import { Fault } from '../protocol/errors.ts'
import type { StoredVersion } from '../protocol/ports/store.ts'
import type { Device } from '../protocol/ports/trainer/learner.ts'
import { bestBackend } from './abilities.ts'
import type { MeasureEvent } from './jobs.ts'
import type { MeasureOptions } from './services.ts'
import { startWorker } from './start-worker.ts'
import { pageFault } from './words.ts'

/**
 * What training a version takes on this device: a worker makes its trainer as a learner does, times it as that does, and is gone.
 * Rejects with a Fault that says why it cannot be trained here, or with the signal's reason.
 */
export async function measureCost(
  { manifest, checked: { modelJson, params, frozen } }: Pick<StoredVersion, 'manifest' | 'checked'>,
  { examples, signal, onProgress }: MeasureOptions,
): Promise<Device> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<Device>()
  const onSaid = (event: MeasureEvent) => {
    if (event.type === 'progress') onProgress(event)
    else if (event.type === 'failed') reject(new Fault(event.detail))
    else resolve(event)
  }
  const init = { manifest, modelJson, params, frozen, backend: bestBackend() }
  const worker = startWorker<MeasureEvent>({ type: 'measure', init, examples }, [], {
    onSaid,
    onDied: reject,
  })
  const leave = () => reject(signal.reason)
  signal.addEventListener('abort', leave)
  const timer = setTimeout(
    () => reject(pageFault('resource', 'too-slow', { minutes: MEASURE_MS / 60_000 })),
    MEASURE_MS,
  )
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', leave)
    worker.close()
  }
}

/** Of a minute a step nobody trains in a page: who has waited for so long knows enough. */
const MEASURE_MS = 5 * 60_000
