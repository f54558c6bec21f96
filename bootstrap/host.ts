import { createSocket } from 'node:dgram'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tcp } from '@libp2p/tcp'
import { webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'
import { cleanup } from 'node-datachannel'
import { Fault } from '../protocol/errors.ts'
import { libp2pDefaults, type Node, requireListening } from '../protocol/ports/libp2p.ts'
import { type ListingBook, serveRegistry } from '../protocol/ports/registry.ts'
import { openHome } from './home.ts'
import { openBook } from './registry.ts'

/**
 * A bootstrap: introduces peers (cards, signalling relay) and lists models. It takes no part in gossip and never
 * sees an update or a tensor; training goes on when it is gone.
 */
export interface Bootstrap {
  peer: string
  /** Where peers reach it, each ending in its peer id. */
  addresses: string[]
  /** http://HOST:PORT/healthz */
  health: string
  libp2p: Node
  book: ListingBook
  /** Saves, says goodbye and frees ports and lock. Idempotent. */
  close(): Promise<void>
}

export interface BootstrapOptions {
  home: string
  /** The IP address to listen on; 0.0.0.0 is every one of this machine. */
  host: string
  /** 0 takes any port that is free. */
  ports: { ws: number; tcp: number; udp: number; http: number }
  announce: string[]
  /** One line of progress. */
  tell: (line: string) => void
}

export interface Health {
  status: 'ok'
  peer: string
  uptimeSeconds: number
  peers: number
  listings: number
  cards: number
  reservations: number
}

const CONNECTIONS_LIMIT = 1_000
/** A visitor of /healthz gets this long to ask. */
const HEALTH_LIMIT_MS = 5_000

/** Starts a bootstrap. Throws Fault `home-locked` or `port-in-use`; then nothing is left running. */
export async function startBootstrap(options: BootstrapOptions): Promise<Bootstrap> {
  const startedAt = performance.now()
  const closers: (() => Promise<void>)[] = []
  let closing: Promise<void> | undefined
  const close = () => (closing ??= closeAll(closers))
  try {
    const home = await openHome(options.home)
    closers.push(() => home.close())
    const { book, ...kept } = await openBook(home, options.tell)
    closers.push(() => kept.close())

    const listen = listenOn(options)
    await requireUdpPort(options)
    const libp2p = (await createLibp2p({
      ...libp2pDefaults({
        privateKey: home.privateKey,
        datastore: home.datastore,
        transports: [
          tcp(),
          webSockets(),
          webRTCDirect({ rtcConfiguration: { iceServers: [] }, certificate: home.certificate }),
        ],
        listen,
        announce: options.announce,
        relay: true,
        gossip: false,
        dialLocal: false,
        maxConnections: CONNECTIONS_LIMIT,
      }),
      start: false,
    })) as Node
    // A process that used WebRTC does not end before cleanup().
    closers.push(async () => {
      await libp2p.stop()
      cleanup()
    })
    await serveRegistry(libp2p, book)
    await libp2p.start()
    requireListening(libp2p, listen, options.announce)

    const healthOf = (): Health => ({
      status: 'ok',
      peer: libp2p.peerId.toString(),
      uptimeSeconds: Math.floor((performance.now() - startedAt) / 1_000),
      peers: libp2p.getPeers().length,
      ...book.counts(),
      reservations: libp2p.services.relay.reservations.size,
    })
    const http = await serveHealth(options, healthOf)
    closers.push(() => closeServer(http))
    return {
      peer: libp2p.peerId.toString(),
      addresses: libp2p.getMultiaddrs().map(String),
      health: `http://${bracketed(options.host)}:${(http.address() as AddressInfo).port}/healthz`,
      libp2p,
      book,
      close,
    }
  } catch (thrown) {
    await close()
    throw thrown
  }
}

/** The last opened closes first; one that fails keeps none of the others from closing. */
async function closeAll(closers: (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const close of closers.reverse())
    await close().catch((thrown: unknown) => failures.push(thrown))
  if (failures.length > 0) throw failures[0]
}

function listenOn({ host, ports }: BootstrapOptions): string[] {
  const ip = host.includes(':') ? `/ip6/${host}` : `/ip4/${host}`
  return [
    `${ip}/tcp/${ports.tcp}`,
    `${ip}/tcp/${ports.ws}/ws`,
    `${ip}/udp/${ports.udp}/webrtc-direct`,
  ]
}

/** libjuice complains on stdout, among our addresses, when its port is taken: so ask before it does. */
function requireUdpPort({ host, ports }: BootstrapOptions): Promise<void> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  return new Promise((resolve, reject) => {
    socket.once('error', (thrown) =>
      reject(portFault(thrown, `${host}:${ports.udp} over UDP`, '--udp')),
    )
    socket.bind(ports.udp, host, () => socket.close(() => resolve()))
  })
}

function serveHealth({ host, ports }: BootstrapOptions, healthOf: () => Health): Promise<Server> {
  const server = createServer(
    { requestTimeout: HEALTH_LIMIT_MS, headersTimeout: HEALTH_LIMIT_MS },
    (request, response) => {
      const isHealth = request.method === 'GET' && request.url?.split('?')[0] === '/healthz'
      response.writeHead(isHealth ? 200 : 404, {
        'content-type': 'application/json',
        'cache-control': 'no-store',
      })
      response.end(
        `${JSON.stringify(isHealth ? healthOf() : { status: 'unknown', try: '/healthz' })}\n`,
      )
    },
  )
  return new Promise((resolve, reject) => {
    server.once('error', (thrown) =>
      reject(portFault(thrown, `${host}:${ports.http} for /healthz`, '--http')),
    )
    server.listen(ports.http, host, () => resolve(server))
  })
}

function portFault(cause: NodeJS.ErrnoException, place: string, flag: string): Error {
  if (cause.code !== 'EADDRINUSE' && cause.code !== 'EACCES') return cause
  return new Fault(
    {
      kind: 'resource',
      type: 'port-in-use',
      message: `cannot listen on ${place}: another program has that port, or it is not ours to open`,
      hint: `stop the other program or choose another port with ${flag} (0 takes any that is free)`,
    },
    cause,
  )
}

function closeServer(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(() => resolve()))
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
