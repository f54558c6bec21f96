import type { Multiaddr } from '@multiformats/multiaddr'
import { Fault } from '../protocol/errors.ts'
import { isLocal } from '../protocol/ports/libp2p.ts'
import { isLoopback, withoutPeer } from '../protocol/ports/presence.ts'

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
  const place = address.toString()
  const fault = (kind: 'network' | 'usage', type: string, message: string, hint: string) =>
    new Fault({ kind, type, address: place, message, hint }, error)
  const errors = error instanceof AggregateError ? error.errors : [error]
  const is = (name: string) => errors.some((one) => one instanceof Error && one.name === name)
  if (!mayDial(page, address))
    return fault(
      'usage',
      'insecure-address',
      `this page came over https, where browsers open no socket without a certificate, as ${place} is`,
      'paste an address of the same peer with webrtc-direct or wss in it, or open this page over http',
    )
  const other = errors.map(answeredBy).find((peer) => peer !== undefined)
  if (other !== undefined)
    return fault(
      'network',
      'wrong-peer',
      `who answers at ${place} is another peer, ${other}`,
      'ask for its address again: a peer that lost its key has a new name',
    )
  if (is('NoValidAddressesError'))
    return fault(
      'usage',
      'no-transport',
      `no browser can dial ${place}`,
      'paste an address of the same peer with ws, wss or webrtc-direct in it',
    )
  if (is('DialDeniedError'))
    return fault(
      'network',
      'refused-peer',
      `this page does not dial ${place}: what came from that peer was wrong too often`,
      'paste the address of another peer, or reload this page to try that one again',
    )
  if (is('InvalidPeerIdError'))
    return fault(
      'usage',
      'own-address',
      `${place} is this page itself`,
      'paste the address of another peer',
    )
  if (is('TimeoutError') || is('AbortError'))
    return fault(
      'network',
      'unreachable',
      `nobody answered at ${place} within ${limitMs / 1000} s`,
      'check that the peer runs and that nothing between you and it keeps it away, then connect again',
    )
  return fault(
    'network',
    'refused',
    `no peer answers at ${place}`,
    'check that the peer runs and that the address is whole, then connect again',
  )
}

/** The peer that noise found in the place of the one that was asked for. */
function answeredBy(error: unknown): string | undefined {
  const { message = '' } = (error ?? {}) as Partial<Error>
  return /identity key (\w+) does not match expected remote/.exec(message)?.[1]
}
