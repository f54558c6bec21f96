import type { Simd } from '../../engine/engine.ts'
import { Fault } from '../../errors.ts'
import type { BackendName } from './commands.ts'

/** Who trains a model. */
export type Choice =
  | { type: 'engine'; simd: Simd | 'auto' }
  | { type: 'tfjs'; backend: 'auto' | 'wasm' | 'cpu' }

/**
 * Chooses what computes, by what was asked for and the layers that the engine has no plan for (engine.ts,
 * unplannedLayersOf). Throws Fault `no-backend` when the engine was asked for and cannot.
 */
export function chooseTrainer(backend: BackendName, unplanned: readonly string[]): Choice {
  if (backend === 'wasm' || backend === 'cpu') return { type: 'tfjs', backend }
  if (unplanned.length === 0)
    return { type: 'engine', simd: backend === 'engine-plain' ? 'plain' : 'auto' }
  if (backend === 'auto') return { type: 'tfjs', backend }
  throw new Fault({
    kind: 'resource',
    type: 'no-backend',
    message: `the backend ${backend} does not train ${unplanned.join(', ')}`,
    hint: 'try --backend auto',
  })
}
