/**
 * What can be tried out from here in seconds, under the names that `mlstore doctor` has for the same:
 *
 *   listing   each peer that lists models is asked for one      ping      each linked peer answers
 *   relay     a visitor comes by an address of our own          webrtc    two connections of this page say something to each other
 *   home      what is written is read again, and deleted        backend   the engine's kernels compile
 *
 * All at once, each within its limit; nothing stays of them.
 */
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { Key } from 'interface-datastore'
import { createLibp2p } from 'libp2p'
import { Fault, type FaultDetail } from '../protocol/errors.ts'
import { libp2pDefaults, type Node, parseAddress, pathOf } from '../protocol/ports/libp2p.ts'
import { askRegistry } from '../protocol/ports/registry.ts'
import { within } from '../protocol/ports/within.ts'
import { type Host, transports } from './host.ts'
import type { Check, CheckName } from './services.ts'
import { text } from './text.ts'
import { engineBinary } from './wasm.ts'

/** What of a host is tried. */
export interface Tested extends Pick<Host, 'addresses' | 'hasRoom'> {
  libp2p: Pick<Node, 'getPeers' | 'getConnections' | 'services' | 'peerId'> &
    Parameters<typeof askRegistry>[0]
  registry: Pick<Host['registry'], 'registries'>
  home: Pick<Host['home'], 'datastore' | 'isKept'>
}

/** Of each check. A visitor comes by a relay and two handshakes, on a device that may be training: a fast answer is no part of the question. */
const CHECK_LIMIT_MS = 15_000

type Found = Pick<Check, 'count' | 'path'>
interface Planned extends Pick<Check, 'check' | 'peer'> {
  work(signal: AbortSignal): Promise<Found>
}

/** Tells all checks as they stand, at the start and whenever one has ended; resolves when the last has. */
export async function selfTest(
  host: Tested,
  tell: (checks: readonly Check[]) => void,
  limitMs: number = CHECK_LIMIT_MS,
): Promise<void> {
  const planned = planFor(host)
  let checks: readonly Check[] = planned.map(({ work: _, ...one }) => ({
    ...one,
    state: 'running',
  }))
  tell(checks)
  await Promise.all(
    planned.map(async (one, at) => {
      const result = await ended(one, limitMs)
      checks = checks.with(at, result)
      tell(checks)
    }),
  )
}

async function ended({ work, ...one }: Planned, limitMs: number): Promise<Check> {
  const startedAt = performance.now()
  const sinceStart = () => Math.round(performance.now() - startedAt)
  try {
    const found = await within(limitMs, undefined, (signal) =>
      Promise.race([work(signal), late(signal)]),
    )
    return { ...one, ...found, state: 'ok', ms: sinceStart() }
  } catch (error) {
    return { ...one, state: 'failed', ms: sinceStart(), fault: faultOf(one.check, error, limitMs) }
  }
}

function late(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
  )
}

function faultOf(check: CheckName, error: unknown, limitMs: number): FaultDetail {
  if (error instanceof Fault) return error.detail
  const { name, message } = error as Error
  const cause = name === 'TimeoutError' ? text.selfTest.late(limitMs / 1_000) : message
  return text.selfTest.failed[check](cause.replace(/\s+/g, ' ').replace(/[.\s]+$/, ''))
}

function planFor(host: Tested): Planned[] {
  const { libp2p, registry, home } = host
  return [
    ...ofEach('listing', registry.registries(), (peer, signal) => lists(host, peer, signal)),
    ...ofEach('ping', libp2p.getPeers(), async (peer, signal) => {
      await libp2p.services.ping.ping(peer, { signal })
      return {}
    }),
    { check: 'relay', work: (signal) => visits(host, signal) },
    { check: 'webrtc', work: loops },
    { check: 'home', work: () => keeps(home) },
    { check: 'backend', work: compiles },
  ]
}

/** One line a peer, or one that says that there is none. */
function ofEach(
  check: 'listing' | 'ping',
  peers: readonly PeerId[],
  work: (peer: PeerId, signal: AbortSignal) => Promise<Found>,
): Planned[] {
  const nobody = async () => {
    throw new Fault(text.selfTest.nobody[check])
  }
  if (peers.length === 0) return [{ check, work: nobody }]
  return peers.map((peer) => ({
    ...{ check, peer: peer.toString() },
    work: (signal) => work(peer, signal),
  }))
}

async function lists({ libp2p }: Tested, peer: PeerId, signal: AbortSignal): Promise<Found> {
  const request = { type: 'list', offset: 0, limit: 1 } as const
  const { total } = await askRegistry(libp2p, peer, request, 'listings', signal)
  return { count: total }
}

/** By a peer of its own, with a key for this once, as another page would come. */
async function visits({ libp2p, addresses, hasRoom }: Tested, signal: AbortSignal): Promise<Found> {
  const own = addresses().filter((address) => address.includes('/p2p-circuit'))
  if (own.length === 0) throw new Fault(text.selfTest.noPlace)
  // With no room left nobody is let in, and this is no reason to make some.
  if (!hasRoom()) throw new Fault(text.selfTest.full)
  // A relay has addresses that no page can dial, and says so late: those that we are linked by go.
  const links = libp2p.getConnections().map(({ remoteAddr }) => `${remoteAddr}/p2p-circuit`)
  const linked = own.filter((address) => links.some((link) => address.startsWith(link)))
  const me = peerIdFromString(libp2p.peerId.toString())
  const visitor = await startVisitor()
  try {
    const connection = await visitor.dial((linked.length > 0 ? linked : own).map(parseAddress), {
      signal,
    })
    await visitor.services.ping.ping(me, { signal })
    return { path: pathOf(connection) }
  } finally {
    void visitor.stop()
  }
}

async function startVisitor(): Promise<Node> {
  const options = libp2pDefaults({
    privateKey: await generateKeyPair('Ed25519'),
    ...{ transports: transports(), listen: [], relay: false, gossip: false },
    // Our own address, by a relay that we are linked to: nothing else is dialled.
    dialLocal: true,
  })
  return (await createLibp2p(options)) as Node
}

/** A data channel from one connection of this page to another carries a word: WebRTC is there, and not only in name. */
async function loops(signal: AbortSignal): Promise<Found> {
  if (typeof RTCPeerConnection !== 'function') throw new Fault(text.selfTest.noWebRTC)
  const [one, two] = [new RTCPeerConnection(), new RTCPeerConnection()]
  const heard = new Promise<void>((resolve) => {
    two.ondatachannel = ({ channel }) => {
      channel.onmessage = () => resolve()
    }
  })
  try {
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const)
      from.onicecandidate = ({ candidate }) => {
        if (candidate) to.addIceCandidate(candidate).catch(() => {}) // others may do
      }
    const channel = one.createDataChannel('self-test')
    channel.onopen = () => channel.send('hello')
    await one.setLocalDescription(await one.createOffer())
    await two.setRemoteDescription(one.localDescription!)
    await two.setLocalDescription(await two.createAnswer())
    await one.setRemoteDescription(two.localDescription!)
    await Promise.race([heard, late(signal)])
    return {}
  } finally {
    one.close()
    two.close()
  }
}

const probe = new Key('/self-test')

async function keeps({ datastore, isKept }: Tested['home']): Promise<Found> {
  if (!isKept) throw new Fault(text.selfTest.nothingKept)
  const written = crypto.getRandomValues(new Uint8Array(16))
  await datastore.put(probe, written)
  const read = await datastore.get(probe)
  await datastore.delete(probe)
  if (`${read}` !== `${written}`)
    throw new Error(`read ${read.length} other bytes than were written`)
  return {}
}

async function compiles(): Promise<Found> {
  await WebAssembly.compile(await engineBinary('plain'))
  return {}
}
