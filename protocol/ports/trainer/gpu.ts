/**
 * TensorFlow.js' GPU backends, for a host with a canvas: each is a chunk of its own, loaded when it is first tried.
 *
 * A Trainer answers at once, so what a step gives is read synchronously: WebGL by readPixels, WebGPU by drawing its buffers
 * on a canvas, bit for bit; both work in a worker.
 */
import type { MathBackendWebGL } from '@tensorflow/tfjs-backend-webgl'
import type { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu'
import * as tf from '@tensorflow/tfjs-core'
import { Fault } from '../../errors.ts'
import type { Trainer } from './trainer.ts'

export type GpuName = 'webgl' | 'webgpu'

/**
 * Registers a backend with TensorFlow.js, and starts a trainer of it. The trainer throws Fault `gpu-lost` from the step on in
 * which the GPU went away: what it gives after that is zeros. Throws Fault `no-backend` where the GPU does not give back 32
 * bits: some WebGL has textures of 16 bits only, and some WebGPU cannot be drawn on a canvas and reads as zeros.
 */
export async function createGpuTrainer(
  name: GpuName,
  start: (backend: GpuName) => Promise<Trainer>,
): Promise<Trainer> {
  if (name === 'webgl') await import('@tensorflow/tfjs-backend-webgl')
  else await import('@tensorflow/tfjs-backend-webgpu')
  const trainer = await start(name)
  const read = readBack(THIRD)
  if (read !== THIRD) {
    trainer.close()
    throw noGpu(name, `this ${name} gives ${read} back for ${THIRD}, expected the same 32 bits`)
  }
  return watched(trainer, name === 'webgl' ? contextLost() : deviceLost())
}

/** Its last bits are lost in fewer than 32. */
const THIRD = Math.fround(1 / 3)
/** TensorFlow.js computes fewer values on the processor. */
const GPU_SIZE = 1024

function readBack(value: number): number {
  return tf.tidy(() => tf.add(tf.fill([GPU_SIZE], value), tf.zeros([GPU_SIZE])).dataSync()[0]!)
}

/** What came of a step counts only if the GPU was still there after it. */
function watched(trainer: Trainer, isLost: () => boolean): Trainer {
  const whole = <T>(compute: () => T): T => {
    try {
      const result = compute()
      if (!isLost()) return result
    } catch (cause) {
      if (!isLost()) throw cause
      throw gpuLost(trainer.backend, cause)
    }
    throw gpuLost(trainer.backend)
  }
  return {
    ...trainer,
    gradientInto: (...given) => whole(() => trainer.gradientInto(...given)),
    predict: (...given) => whole(() => trainer.predict(...given)),
  }
}

function contextLost(): () => boolean {
  const { gl } = (tf.backend() as MathBackendWebGL).gpgpu
  return () => gl.isContextLost()
}

function deviceLost(): () => boolean {
  const backend = tf.backend() as WebGPUBackend
  let lost = false
  void backend.device.lost.then(() => {
    lost = true
  })
  Object.assign(backend, { hasReadSyncWarned: true }) // one read a step, which the trial has timed
  return () => lost
}

export function noGpu(backend: string, message: string): Fault {
  const hint = 'try --backend auto'
  return new Fault({ kind: 'resource', type: 'no-backend', backend, message, hint })
}

function gpuLost(backend: string, cause?: unknown): Fault {
  return new Fault(
    {
      kind: 'resource',
      type: 'gpu-lost',
      backend,
      message: `the GPU went away while ${backend} computed`,
      hint: 'start again: training goes on from its checkpoint, on the processor where the GPU does not return',
    },
    cause,
  )
}
