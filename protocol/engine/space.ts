import { sizeOf } from '../params.ts'
import { channelBytes } from './channel.ts'
import { planMemory, type Room, type Space } from './engine.ts'
import type { Graph } from './graph.ts'
import { FLOAT_BYTES } from './planner.ts'

/** What a team's helpers take beside the leader's own memory (team.ts). */
export interface Helped {
  /** The largest batch. */
  batch: number
  /** The leader's and the helpers'. */
  threads: number
  /** What the leader's engine has. */
  room?: Room
}

/** A helper trains on a part of each batch, and keeps params and gradient alone; predictions it makes of whole batches. */
export function spaceOf({ batch, threads }: Helped): Space {
  return { trained: Math.ceil(batch / threads), arrays: 2 }
}

/** Bytes: the params and frozen weights that all helpers read, and each one's memory and channel. */
export function helperBytes(graph: Graph, helped: Helped): number {
  const { batch, threads, room } = helped
  if (threads === 1) return 0
  const { inputShape, outputUnits, tensors, frozen = [] } = graph
  const size = sizeOf(tensors)
  const inputSize = inputShape.reduce((a, b) => a * b, 1)
  const memory = planMemory(graph, batch, room, spaceOf(helped)).bytes
  const channel = channelBytes({ batch, inputSize, outputUnits, size })
  return FLOAT_BYTES * (size + sizeOf(frozen)) + (threads - 1) * (memory + channel)
}
