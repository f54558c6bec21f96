import type { Multiaddr } from '@multiformats/multiaddr'
import type { Fault } from '../protocol/errors.ts'
import { isLocal } from '../protocol/ports/libp2p.ts'
import { isLoopback, withoutPeer } from '../protocol/ports/presence.ts'
import { pageFault } from './words.ts'

/** Whom a page may dial: it came from somewhere, and knocks at no door that a stranger names behind the person's router. */

/** Whether private addresses are dialled at all: only a page from there, or a person who gave such an address, has business there. */
export function mayDialLocal(
  page: Pick<Location, 'hostname'>,
  told: Iterable<Multiaddr | string>,
): boolean {
  return isLocalPage(page) || [...told].some(isLocal)
}

/**
 * Whether an address is one of these, or a relay on the way to one: what a link names, or a person is trying, is dialled itself
 * wherever it leads, and opens no door to others.
 */
export function isOneOf(address: Multiaddr, given: Iterable<Multiaddr>): boolean {
  const place = withoutPeer(address)
  return [...given].some((one) => {
    const [relay] = one.toString().split('/p2p-circuit')
    return withoutPeer(one) === place || relay?.replace(/\/p2p\/[^/]+$/, '') === place
  })
}

/** Whether a browser would let this page: over https it opens no WebSocket without a certificate, but to this machine. */
export function mayDial({ protocol }: Pick<Location, 'protocol'>, address: Multiaddr): boolean {
  const names = address.getComponents().map(({ name }) => name)
  const isPlainSocket = names.includes('ws') && !names.includes('tls')
  // Through a relay that we have a connection to, of whatever kind.
  const isDialled = !names.includes('p2p-circuit')
  return protocol !== 'https:' || !isPlainSocket || !isDialled || isLoopback(address.toString())
}

/** A page that came from this machine or a private network. */
function isLocalPage({ hostname }: Pick<Location, 'hostname'>): boolean {
  if (hostname === 'localhost' || hostname.endsWith('.localhost')) return true
  const bare = hostname.replace(/^\[|\]$/g, '')
  if (bare.includes(':')) return isLocal(`/ip6/${bare}/tcp/1`)
  return /^[\d.]+$/.test(bare) && isLocal(`/ip4/${bare}/tcp/1`)
}

/** Why a dial of what a person gave failed: a Fault of kind network or usage, each with its own next step. */
export function whyNot(
  address: Multiaddr,
  error: unknown,
  { page, limitMs }: { page: Pick<Location, 'protocol'>; limitMs: number },
): Fault {
  const facts = { address: address.toString() }
  const errors = error instanceof AggregateError ? error.errors : [error]
  const is = (name: string) => errors.some((one) => one instanceof Error && one.name === name)
  if (!mayDial(page, address)) return pageFault('usage', 'insecure-address', facts, error)
  const peer = errors.map(answeredBy).find((peer) => peer !== undefined)
  if (peer !== undefined) return pageFault('network', 'wrong-peer', { ...facts, peer }, error)
  if (is('NoValidAddressesError')) return pageFault('usage', 'no-transport', facts, error)
  if (is('DialDeniedError')) return pageFault('network', 'refused-peer', facts, error)
  if (is('InvalidPeerIdError')) return pageFault('usage', 'own-address', facts, error)
  if (is('TimeoutError') || is('AbortError'))
    return pageFault('network', 'unreachable', { ...facts, waitedMs: limitMs }, error)
  return pageFault('network', 'refused', facts, error)
}

/** The peer that noise found in the place of the one that was asked for. */
function answeredBy(error: unknown): string | undefined {
  const { message = '' } = (error ?? {}) as Partial<Error>
  return /identity key (\w+) does not match expected remote/.exec(message)?.[1]
}
