import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { Fault } from '../protocol/errors.ts'

/** Where a peer listens: where it was told, else on the ports it had last, so that those who remember it find it. */

const ownPorts = ['/ip4/0.0.0.0/tcp/0', '/ip4/0.0.0.0/tcp/0/ws', '/ip4/0.0.0.0/udp/0/webrtc-direct']
/** Behind a router the ports are not reached; then a relay introduces, and WebRTC opens the way. */
const introduced = ['/p2p-circuit', '/webrtc']

/** What to listen on. A port of `last` that is taken by now gives way to any; for one of `asked`: Fault `port-in-use`. */
export async function listenOn(
  asked: readonly string[] | undefined,
  last: readonly string[],
): Promise<string[]> {
  if (asked) {
    for (const address of asked) await requireUdpPort(address)
    return [...asked]
  }
  const own = ownPorts.map(async (free, i) => {
    const before = last[i]
    return before !== undefined && (await isFree(before)) ? before : free
  })
  return [...(await Promise.all(own)), ...introduced]
}

/** Our own ports with the numbers that were free this time; `found` is what the node listens on. */
export function portsOf(found: readonly string[]): string[] {
  return ownPorts.map((address) => {
    const [start, end] = address.split(/(?<=\/(?:tcp|udp)\/)0/) as [string, string]
    const carrier = start.slice(start.search(/\/(tcp|udp)\//))
    const pattern = new RegExp(`^/ip4/[^/]+${carrier}(\\d+)${end}$`)
    const port = found.map((text) => pattern.exec(text)?.[1]).find((port) => port !== undefined)
    return port === undefined ? address : `${start}${port}${end}`
  })
}

/** libjuice complains on stdout, among our lines, when its port is taken: so ask before it does. */
async function requireUdpPort(address: string): Promise<void> {
  const isUdp = multiaddr(address)
    .getComponents()
    .some(({ name }) => name === 'udp')
  if (!isUdp || (await isFree(address))) return
  throw new Fault({
    kind: 'resource',
    type: 'port-in-use',
    address,
    message: `cannot listen on ${address}: another program has that port, or it is not ours to open`,
    hint: 'stop the other program or choose another port (0 takes any that is free)',
  })
}

async function isFree(address: string): Promise<boolean> {
  const parts = multiaddr(address).getComponents()
  const host = parts.find(({ name }) => name === 'ip4' || name === 'ip6')?.value
  const carrier = parts.find(({ name }) => name === 'tcp' || name === 'udp')
  const port = Number(carrier?.value)
  return new Promise((resolve) => {
    if (carrier?.name === 'udp') {
      const socket = createSocket(host?.includes(':') ? 'udp6' : 'udp4')
      socket.once('error', () => socket.close(() => resolve(false)))
      socket.bind(port, host, () => socket.close(() => resolve(true)))
    } else {
      const server = createServer()
      server.once('error', () => resolve(false))
      server.listen(port, host, () => server.close(() => resolve(true)))
    }
  })
}
