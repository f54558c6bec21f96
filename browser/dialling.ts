import type { Multiaddr } from '@multiformats/multiaddr'
import { isLocal } from '../protocol/ports/libp2p.ts'
import { isLoopback } from '../protocol/ports/presence.ts'

/** Whom a page may dial: it came from somewhere, and knocks at no door that a stranger names behind the person's router. */

/** Whether private addresses are dialled at all: only a page from there, or a person who gave such an address, has business there. */
export function mayDialLocal(
  page: Pick<Location, 'hostname'>,
  told: Iterable<Multiaddr | string>,
): boolean {
  return isLocalPage(page) || [...told].some(isLocal)
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
