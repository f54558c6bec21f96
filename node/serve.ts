/** Staying after publish or release: serving what we hold, and waiting until others hold it too. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '../protocol/errors.ts'
import { type Random, randomFrom } from '../protocol/random.ts'
import type { Context } from './command.ts'
import type { Host } from './host.ts'
import { untilStopped } from './open.ts'

/** Replicas must be found within this unless --timeout says otherwise. */
const REPLICAS_LIMIT_MS = 10 * 60_000
/** Cards are asked for this often while replicas are awaited; a peer is asked for its blocks as often at most. */
const REPLICAS_EVERY_MS = 2_000

/** Says where we are reachable and stays until Ctrl-C. */
export async function serve({ print, signal }: Context, host: Host): Promise<void> {
  for (const address of host.addresses()) print.note(`reachable at ${address}`)
  print.note('serving until Ctrl-C')
  await untilStopped(signal)
}

/** A replica is a peer whose signed card names the version and that sends two random blocks of it. */
export async function untilReplicas(
  context: Context,
  host: Host,
  cid: string,
  wanted: number,
): Promise<void> {
  const { options, print, signal } = context
  const random: Random = randomFrom(Date.now())
  const timeoutMs = (options.timeout as number | undefined) ?? REPLICAS_LIMIT_MS
  const until = performance.now() + timeoutMs
  const replicas = new Set<string>()
  const search = async () => {
    while (replicas.size < wanted) {
      for (const { card } of (await host.registry.cards(cid, { signal })).cards) {
        if (card.version !== cid || card.phase === 'leaving' || replicas.has(card.peer)) continue
        if (!isConnected(host, card.peer)) await dial(host, card.addresses, signal)
        if (await host.store.answers(card.peer, cid, random, signal)) {
          replicas.add(card.peer)
          print.event({ ev: 'replica', peer: card.peer, count: replicas.size, wanted })
          print.note(`${replicas.size} of ${wanted} replicas: ${card.peer}`)
        }
      }
      if (replicas.size >= wanted) return
      if (performance.now() > until) throw tooFew(replicas.size, wanted, timeoutMs)
      await sleep(REPLICAS_EVERY_MS, undefined, { signal })
    }
  }
  await print.waiting(() => `replicas: ${replicas.size} of ${wanted} so far`, search())
}

function isConnected(host: Host, peer: string): boolean {
  return host.libp2p.getPeers().some((id) => id.toString() === peer)
}

/** One dial of a peer by all its addresses. */
const DIAL_LIMIT_MS = 10_000

/** Meets a peer by any of its addresses, if it can be met. */
export async function dial(host: Host, addresses: string[], signal: AbortSignal): Promise<void> {
  const { multiaddr } = await import('@multiformats/multiaddr')
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DIAL_LIMIT_MS)])
  await host.libp2p
    .dial(
      addresses.map((address) => multiaddr(address)),
      { signal: limit },
    )
    .catch(() => signal.throwIfAborted())
}

function tooFew(found: number, wanted: number, timeoutMs: number): Fault {
  return new Fault({
    kind: 'network',
    type: 'too-few-replicas',
    message: `${found} of ${wanted} other peers hold it after ${Math.round(timeoutMs / 1_000)} s`,
    hint: 'it is listed; start mlstore seed elsewhere, or give --timeout more time',
  })
}
