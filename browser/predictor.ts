import { Fault } from '../protocol/errors.ts'
import type { CheckedVersion } from '../protocol/ports/version.ts'
import type { PredictCommand, PredictEvent } from './jobs.ts'
import type { Predictor } from './services.ts'
import { startWorker } from './start-worker.ts'
import { pageFault } from './words.ts'

/** Predicts in a worker of its own, by the params it was last given. */
export interface RunningPredictor extends Predictor {
  load(params: Uint8Array): void
}

type Model = Pick<CheckedVersion, 'manifest' | 'modelJson' | 'frozen'>

export function startPredictor(
  { manifest, modelJson, frozen }: Model,
  params: Uint8Array,
): RunningPredictor {
  const waiting = new Map<number, PromiseWithResolvers<Float32Array>>()
  let ids = 0
  let fault: Fault | undefined
  const fail = (why: Fault) => {
    fault ??= why
    for (const { reject } of waiting.values()) reject(fault)
    waiting.clear()
  }
  const onSaid = (said: PredictEvent) => {
    if (said.type === 'failed') return fail(new Fault(said.detail))
    waiting.get(said.id)?.resolve(said.probabilities)
    waiting.delete(said.id)
  }
  const worker = startWorker<PredictEvent>({ type: 'predict', manifest, modelJson, frozen }, [], {
    onSaid,
    onDied: fail,
  })
  const post = (command: PredictCommand) => worker.post(command)
  post({ type: 'load', params })
  return {
    load: (params) => post({ type: 'load', params }),
    predict(inputs, size) {
      if (fault) return Promise.reject(fault)
      const id = ids++
      const answer = Promise.withResolvers<Float32Array>()
      waiting.set(id, answer)
      post({ type: 'predict', id, inputs, size })
      return answer.promise
    },
    close() {
      worker.close()
      fail(closed())
    },
  }
}

function closed(): Fault {
  return pageFault('unexpected', 'closed', {})
}
