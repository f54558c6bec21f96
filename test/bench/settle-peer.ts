import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import type { PrivateKey } from '@libp2p/interface'
import type { Manifest } from '../../protocol/manifest.ts'
import { systemClock } from '../../protocol/ports/clock.ts'
import type { Node } from '../../protocol/ports/libp2p.ts'
import type { Command, WorkerEvent } from '../../protocol/ports/trainer/commands.ts'
import { randomFrom } from '../../protocol/random.ts'
import type { Report } from '../../protocol/report.ts'
import { joinSwarm, type Learner, type Swarm } from '../../protocol/swarm.ts'
import { genesisOf, linkTo, type OpenOptions, openPeer, type TransportName } from './link.ts'
import { serve } from './remote.ts'
import { tensorsFor } from './sizes.ts'

/**
 * One of two peers whose memory the swap bench watches through one swap: a shipped swarm, and the shipped learner in a
 * worker_thread. A fresh process for each figure, because an allocator keeps what it once had.
 */
let opened: { node: Node; key: PrivateKey; address: string }
let worker: Worker
let swarm: Swarm
let endRound: () => void = () => {}
let first: Promise<Extract<Report, { ev: 'swap' }>>
let peak: () => number

export const handlers = {
  async open(options: OpenOptions): Promise<string> {
    opened = await openPeer(options)
    return opened.address
  },
  link: ({ address, transport }: { address: string; transport: TransportName }) =>
    linkTo(opened.node, address, transport),
  /** Joins the swarm of models whose int8 copy has that size; resolves when the other one is a neighbour. */
  async join({ megabytes }: { megabytes: number }): Promise<void> {
    const manifest = manifestOf(megabytes)
    worker = new Worker(new URL('./settle-worker.ts', import.meta.url))
    worker.postMessage(manifest)
    const [ready] = (await once(worker, 'message')) as [Extract<WorkerEvent, { type: 'ready' }>]
    const genesis = await genesisOf(`${megabytes} MB`)
    swarm = await joinSwarm({
      ...{ manifest, genesis, version: genesis, libp2p: opened.node, key: opened.key },
      introductions: {
        cards: async () => ({ cards: [], answered: [] }),
        putCard: async () => {},
        reachable: () => 1,
      },
      learner: learnerOf(worker),
      ready: { ...ready, resumed: true },
      ...{ clock: systemClock, random: randomFrom(1) },
      freshNonce: () => randomBytes(16).toString('hex'),
    })
    await followed()
  },
  /** Nothing moves: what is resident now is the level that a swap adds to. Bytes. */
  async settle(): Promise<number> {
    globalThis.gc!()
    worker.postMessage({ type: 'collect' })
    await heard('collected')
    globalThis.gc!()
    peak = watchPeak()
    return process.memoryUsage.rss()
  },
  /** Ends the round that runs: an offer follows, and the other side accepts once its own has ended. */
  async offer(): Promise<void> {
    endRound()
  },
  /** Resolves when the swap settled here: the peak since settle(). Bytes. */
  async swapped(): Promise<number> {
    await first
    return peak()
  },
}

serve(handlers)

/** Follows the reports: resolves when somebody is near, and keeps the first swap. */
async function followed(): Promise<void> {
  const near = Promise.withResolvers<void>()
  const swap = Promise.withResolvers<Extract<Report, { ev: 'swap' }>>()
  first = swap.promise
  const follow = async () => {
    for await (const report of swarm.reports) {
      if (report.ev === 'peers' && report.direct > 0) near.resolve()
      if (report.ev === 'swap') swap.resolve(report)
      if (report.ev === 'swap-failed') swap.reject(new Error(`the swap failed: ${report.reason}`))
    }
  }
  follow().catch(swap.reject)
  first.catch(() => {})
  await near.promise
}

/** The shipped worker, but for rounds: they end when the bench says so, and have nothing to evaluate. */
function learnerOf(worker: Worker): Learner {
  let listener: (event: WorkerEvent) => void = () => {}
  worker.on('message', (event) => listener(event))
  endRound = () =>
    listener({ type: 'trained', steps: 1, totalSteps: 1, loss: 1, samples: 1, ms: 1000 })
  return {
    send(command: Command) {
      if (command.type === 'train' || command.type === 'evaluate') return
      worker.postMessage(command, buffersOf(command))
    },
    listen(next) {
      listener = next
    },
  }
}

/** What the host hands over, as it does. */
function buffersOf(command: Command): ArrayBuffer[] {
  if (command.type !== 'settle') return []
  return [...command.received, ...(command.sent ? [command.sent] : [])].map(
    ({ buffer }) => buffer as ArrayBuffer,
  )
}

async function heard(type: string): Promise<void> {
  for (;;) {
    const [event] = await once(worker, 'message')
    if (event.type === type) return
  }
}

function manifestOf(megabytes: number): Manifest {
  return {
    tensors: tensorsFor(megabytes),
    owner: '',
    gossip: { rule: 'swap', codec: 'int8', swapsPerRound: 1 },
    train: {
      stepsPerRound: 1,
      batchSize: 1,
      momentum: 0.9,
      optimizer: { name: 'sgd', learningRate: 0.1 },
    },
    input: { kind: 'image', shape: [1, 1, 1], dtype: 'float32' },
    preprocess: [],
  } as unknown as Manifest
}

/** The most that is resident from here on, bytes: the kernel's own count where it can be reset, else sampled. */
function watchPeak(): () => number {
  try {
    writeFileSync('/proc/self/clear_refs', '5')
    return () => process.resourceUsage().maxRSS * 1024
  } catch {
    let most = 0
    const timer = setInterval(() => {
      most = Math.max(most, process.memoryUsage.rss())
    }, SAMPLE_MS)
    timer.unref()
    return () => most
  }
}
const SAMPLE_MS = 5
