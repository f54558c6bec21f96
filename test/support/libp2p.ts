import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'
import { libp2pDefaults, type NetworkOptions, type Node } from '../../protocol/ports/libp2p.ts'

/** Real libp2p nodes on 127.0.0.1 with our own defaults, and a way to stop them all. */
export interface Nodes extends AsyncDisposable {
  start(options?: Partial<NetworkOptions>): Promise<Node>
  stop(): Promise<void>
}

export const anyPort = '/ip4/127.0.0.1/tcp/0'

export function nodes(): Nodes {
  const started: Node[] = []
  const stop = async () => {
    // Who dialled stops first: two ends that hang up at once wait for each other half a second.
    for (const node of started.splice(0).reverse()) await node.stop()
  }
  return {
    async start(options = {}) {
      const node = await createLibp2p(
        libp2pDefaults({
          privateKey: await newKey(),
          transports: [tcp(), webSockets(), circuitRelayTransport()],
          listen: [anyPort],
          relay: false,
          gossip: false,
          dialLocal: true,
          ...options,
        }),
      )
      started.push(node as Node)
      return node as Node
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

export function newKey(): Promise<PrivateKey> {
  return generateKeyPair('Ed25519')
}

/** Resolves with the first event of that name that passes; rejects after the limit. */
export function once<T>(
  target: object,
  name: string,
  passes: (detail: T) => boolean = () => true,
  limitMs = 10_000,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} within ${limitMs} ms`)), limitMs)
    ;(target as EventTarget).addEventListener(name, (event) => {
      const { detail } = event as CustomEvent<T>
      if (!passes(detail)) return
      clearTimeout(timer)
      resolve(detail)
    })
  })
}
