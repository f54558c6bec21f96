/** The params of a peer that trains, as a newcomer of its swarm pulls them: what a release is made of where none are here. */
import { randomBytes } from 'node:crypto'
import { type Manifest, swarmOf } from '../protocol/manifest.ts'
import type { Card, Nonce } from '../protocol/message.ts'
import type { Network, NetworkEvent } from '../protocol/ports/network.ts'
import type { Host } from './host.ts'

export interface Donation {
  /** float32 little-endian, in tensor order. */
  params: Uint8Array
  /** Behind them. */
  steps: number
  /** Whose they are. */
  peer: string
}

/** One donor has so long for its whole state; then the next is asked. */
const PULL_LIMIT_MS = 60_000
/** Peers asked, those with the most steps first. */
const DONORS_LIMIT = 8
/** Whose card says that it is in its swarm: it listens to the topic and answers pulls. A card is a minute old, so who has trained may seem to be joining. */
export function isInSwarm({ phase }: Card): boolean {
  return phase !== 'leaving' && phase !== 'seeding'
}

/** Undefined when nobody who has trained is in reach, or none of them gives. Rejects with the signal's reason. */
export async function pullParams(
  host: Host,
  { manifest, cid }: { manifest: Manifest; cid: string },
  signal: AbortSignal,
): Promise<Donation | undefined> {
  const { joinNetwork } = await import('../protocol/ports/network.ts')
  const { paramsInState } = await import('../protocol/index.ts')
  const genesis = swarmOf(manifest, cid)
  const found = await host.registry.cards(genesis, { signal })
  const donors = found.cards
    .map(({ card }) => card)
    .filter(isInSwarm)
    .toSorted((a, b) => b.steps - a.steps)
  let onEvent = (_: NetworkEvent) => {}
  const network: Network = await joinNetwork({
    ...{ libp2p: host.libp2p, genesis, tensors: manifest.tensors, codec: manifest.gossip.codec },
    onEvent(event) {
      if (event.type === 'message') refuse(network, event)
      onEvent(event)
    },
    judge: async () => 'ignore',
  })
  const listen = (listener: typeof onEvent) => {
    onEvent = listener
  }
  try {
    for (const donor of donors.slice(0, DONORS_LIMIT)) {
      await network.dial(donor.peer, donor.addresses, signal)
      signal.throwIfAborted()
      const state = await pullFrom(network, donor.peer, listen, signal)
      if (!state) continue
      const params = paramsInState(state.bytes, manifest.tensors)
      return { params, steps: state.steps, peer: donor.peer }
    }
    return undefined
  } finally {
    await network.leave()
  }
}

/** We only read: who offers or asks hears that at once, and goes to another. */
function refuse(network: Network, { from, message }: Extract<NetworkEvent, { type: 'message' }>) {
  const { type, nonce } = message
  if (type === 'offer' || type === 'pull')
    network.send(from, { type: 'busy', nonce, reason: 'no-swap' })
}

/** A state as it came, and the steps behind it. */
interface Given {
  bytes: Uint8Array
  steps: number
}

/** One donor's state; undefined when it is busy, breaks off or takes too long. */
function pullFrom(
  network: Network,
  peer: string,
  listen: (listener: (event: NetworkEvent) => void) => void,
  signal: AbortSignal,
): Promise<Given | undefined> {
  const nonce: Nonce = randomBytes(16).toString('hex')
  const limit = AbortSignal.any([signal, AbortSignal.timeout(PULL_LIMIT_MS)])
  return new Promise((resolve, reject) => {
    const end = (state?: Given) => {
      limit.removeEventListener('abort', onAbort)
      listen(() => {})
      network.close(nonce)
      if (signal.aborted) reject(signal.reason)
      else resolve(state)
    }
    const onAbort = () => end()
    let steps = 0
    listen((event) => {
      if (event.type === 'message' && event.message.nonce === nonce) {
        if (event.message.type === 'busy') end()
        if (event.message.type === 'grant') steps = event.message.steps
      }
      if (event.type === 'broken' && event.nonce === nonce) end()
      if (event.type === 'copy' && event.nonce === nonce)
        end(steps === 0 ? undefined : { bytes: event.bytes, steps })
    })
    limit.addEventListener('abort', onAbort)
    network.send(peer, { type: 'pull', nonce, what: 'state', codec: 'float32' })
  })
}
