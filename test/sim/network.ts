import { decodeMessage, encodeMessage, isRejection, type Message } from '../../protocol/message.ts'
import type { Draft } from '../../protocol/peer/events.ts'
import type { Random } from '../../protocol/random.ts'

/**
 * Virtual links: every pair of peers has a latency of its own; messages go through the shipped encoder and decoder, and
 * a stream may break at any of them.
 */
export interface LinkOptions {
  /** Smallest and largest one-way latency of a pair, milliseconds. */
  latencyMs: readonly [number, number]
  /** Bytes per millisecond of one stream. */
  bandwidth: number
  /** Chance that a message is lost with its stream. */
  lossRate: number
}

/** Stands in for the fields that only a real host knows. */
const SWARM = { genesis: 'simulated', tensors: '00'.repeat(32) }

/** The one-way latency between two peers: symmetric, fixed by the seed. */
export function latencyOf(options: LinkOptions, seed: number, a: number, b: number): number {
  const [least, most] = options.latencyMs
  const low = Math.min(a, b)
  const high = Math.max(a, b)
  const mixed = Math.imul(low * 73_856_093 + high * 19_349_663 + seed, 0x9e3779b1) >>> 0
  return least + ((most - least) * mixed) / 2 ** 32
}

/** A message as it arrives: what the other side decodes from what this side encoded. */
export function carry(draft: Draft): Message {
  const message = decodeMessage(encodeMessage({ ...draft, ...wanted(draft) } as Message))
  if (isRejection(message)) throw new Error(`simulated message was rejected: ${message.message}`)
  return message
}

function wanted({ type }: Draft): object {
  if (type === 'offer' || type === 'pull') return SWARM
  return type === 'ask' ? { genesis: SWARM.genesis } : {}
}

/** Whether a stream breaks at this message. */
export function isLost(options: LinkOptions, random: Random): boolean {
  return options.lossRate > 0 && random() < options.lossRate
}
