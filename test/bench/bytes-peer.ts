import { randomBytes } from 'node:crypto'
import diagnostics from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { openHome } from '../../node/home.ts'
import { type Host, startHost } from '../../node/host.ts'
import { digitsParams } from '../../node/samples/digits.ts'
import type { AggregatorState } from '../../protocol/aggregate/aggregator.ts'
import { aggregators } from '../../protocol/aggregate/table.ts'
import { codecs } from '../../protocol/codec/table.ts'
import { joinSwarm, type Learner, randomFrom, systemClock } from '../../protocol/index.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import type { Command, WorkerEvent } from '../../protocol/ports/trainer/commands.ts'
import { serve } from './remote.ts'

/**
 * One peer of the bytes bench: a host on TCP whose sockets are counted from the first, and a swarm of params that nobody
 * trains, since a copy is as long whatever its values. A round is a pause.
 */
export interface Span {
  /** Written to sockets. */
  bytes: number
  seconds: number
  swaps: number
}

export interface Run {
  manifest: Manifest
  genesis: string
  /** Whether it swaps; else all that it sends is chatter. */
  swap: boolean
  rounds: number
  links: number
}

/** Of one round's training, milliseconds. */
const ROUND_MS = 250
/** Before what counts: the cards of those who begin to train go round. */
const HELLO_ROUNDS = 8

const sockets = new Set<Socket>()
let gone = 0
const watch = (message: unknown) => {
  const { socket } = message as { socket: Socket }
  sockets.add(socket)
  socket.once('close', () => {
    sockets.delete(socket)
    gone += socket.bytesWritten
  })
}
diagnostics.subscribe('net.client.socket', watch)
diagnostics.subscribe('net.server.socket', watch)

let host: Host
let atGate: { go(): void; span: Promise<Span> } | undefined

export const handlers = {
  /** Opens the host; gives its address. */
  async open({ home, join }: { home: string; join: string[] }): Promise<string> {
    host = await startHost({ home: await openHome(home), join, listen: ['/ip4/127.0.0.1/tcp/0'] })
    return host.addresses()[0]!
  },
  /** Joins; resolves when linked to so many. */
  async ready(run: Run): Promise<void> {
    atGate = await prepare(run)
  },
  /** Begins; resolves with what was sent in so many rounds, once everybody has introduced itself. */
  async go(): Promise<Span> {
    atGate!.go()
    return atGate!.span
  },
}

serve(handlers, () => host.close())

async function prepare({ manifest, genesis, swap, rounds, links }: Run) {
  const swarm = await joinSwarm({
    ...{ manifest, genesis, version: genesis, libp2p: host.libp2p, key: host.home.peerKey },
    introductions: {
      cards: (name) => host.registry.cards(name),
      putCard: (bytes) => host.registry.putCard(bytes),
      reachable: () => host.registry.registries().length,
    },
    learner: idler(manifest),
    ready: { ...nothingDone, resumed: true },
    clock: systemClock,
    random: randomFrom(randomBytes(6).readUIntLE(0, 6)),
    freshNonce: () => randomBytes(16).toString('hex'),
    swap,
    paused: true,
  })
  const linked = Promise.withResolvers<void>()
  const span = Promise.withResolvers<Span>()
  let first: Omit<Span, 'seconds'> & { at: number }
  const follow = async () => {
    for await (const report of swarm.reports) {
      if (swarm.view.links >= links) linked.resolve()
      if (report.ev !== 'round') continue
      const now = { at: performance.now(), bytes: written(), swaps: swarm.view.swaps }
      if (report.round === HELLO_ROUNDS) first = now
      if (report.round === HELLO_ROUNDS + rounds) span.resolve(between(first, now))
    }
  }
  follow().catch((error) => {
    linked.reject(error)
    span.reject(error)
  })
  await linked.promise
  return { go: () => swarm.resume(), span: span.promise }
}

function between(
  first: Omit<Span, 'seconds'> & { at: number },
  last: Omit<Span, 'seconds'> & { at: number },
): Span {
  return {
    bytes: last.bytes - first.bytes,
    swaps: last.swaps - first.swaps,
    seconds: (last.at - first.at) / 1000,
  }
}

function written(): number {
  let sum = gone
  for (const { bytesWritten } of sockets) sum += bytesWritten
  return sum
}

const nothingDone = {
  ...{
    type: 'ready' as const,
    backend: 'none',
    threads: 1,
    steps: 0,
    rounds: 0,
    swaps: 0,
    outcomes: [],
  },
  data: {
    format: 'none' as const,
    read: 0,
    skipped: [],
    skippedCount: 0,
    labels: {},
    train: 0,
    validation: 0,
  },
  msPerStep: 0,
  remarks: [],
}

/** A learner whose rounds are pauses: it gives and settles real copies of real params. */
function idler({ tensors, gossip }: Manifest): Learner {
  const params = new Float32Array(digitsParams().buffer)
  const rule = aggregators[gossip.rule]
  const state: AggregatorState = rule.init(params, { tensors, momentum: 0 })
  let tell: (event: WorkerEvent) => void = () => {}
  let totalSteps = 0
  const answers: { [T in Command['type']]?: (command: Extract<Command, { type: T }>) => void } = {
    train: ({ steps }) => {
      totalSteps += steps
      const facts = { steps, totalSteps, loss: 0, samples: steps, ms: ROUND_MS }
      setTimeout(() => tell({ type: 'trained', ...facts }), ROUND_MS)
    },
    give: async ({ nonce, codec }) => {
      const bytes = codecs[codec].encode(rule.give(state), tensors)
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
      tell({ type: 'gave', nonce, bytes, digest })
    },
    settle: ({ nonce, codec: name, sent, received }) => {
      const codec = codecs[name]
      const copies = received.map((bytes) => ({ codec, bytes }))
      const distance = rule.settle(state, sent && { codec, bytes: sent }, copies)
      tell({ type: 'settled', nonce, distance })
    },
    stop: () => tell({ type: 'stopped' }),
  }
  return {
    send: (command) => answers[command.type]?.(command as never),
    listen: (listener) => {
      tell = listener
    },
  }
}
