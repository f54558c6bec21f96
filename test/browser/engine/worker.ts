import { startHelper } from '../../../browser/threads.ts'
import { createTrainer } from '../../../browser/trainer.ts'
import { engineBinary } from '../../../browser/wasm.ts'
import { faultFrom } from '../../../protocol/errors.ts'
import { type Choosing, type Chosen, choose } from './choice.ts'
import { type Asked, speed, type Trained, train } from './train.ts'

/** Where a page trains: off its own thread, which may wait for nobody. */

export type Request =
  | { type: 'train'; asked: Asked; steps: number }
  | { type: 'speed'; asked: Asked; seconds: number }
  | { type: 'choose'; choosing: Choosing }

export type Answer =
  | ({ type: 'trained'; isolated: boolean } & Trained)
  | { type: 'speed'; stepsPerSecond: number }
  | ({ type: 'chosen' } & Chosen)
  | { type: 'failed'; fault: string; message: string }

addEventListener('message', ({ data }) => void answer(data).then((found) => postMessage(found)))

async function answer(request: Request): Promise<Answer> {
  try {
    if (request.type === 'choose')
      return { type: 'chosen', ...(await choose(request.choosing, createTrainer)) }
    const { asked } = request
    const binaries = { [asked.simd]: await engineBinary(asked.simd) }
    const host = { binaries, startHelper }
    if (request.type === 'speed')
      return { type: 'speed', stepsPerSecond: await speed(asked, host, request.seconds) }
    const trained = await train(asked, host, request.steps)
    return { type: 'trained', isolated: crossOriginIsolated, ...trained }
  } catch (thrown) {
    const { type, message } = faultFrom(thrown).detail
    return { type: 'failed', fault: type, message }
  }
}
