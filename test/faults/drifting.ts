import { randomBytes } from 'node:crypto'
import { openHome } from '../../node/home.ts'
import { type Host, startHost } from '../../node/host.ts'
import { systemClock } from '../../protocol/ports/clock.ts'
import { randomFrom } from '../../protocol/random.ts'
import type { Report } from '../../protocol/report.ts'
import { joinSwarm, type Swarm } from '../../protocol/swarm.ts'
import { memoryCheckpoints } from '../support/learners.ts'
import { driftManifest, startDrifter } from './drift.ts'

/** A Node host in this process that trains in a swarm, with params whose sum is known. */
export interface DriftingHost {
  host: Host
  swarm: Swarm
  /** Sum of its params, without what its own steps added. */
  ledger(): number
  /** Resolves with its next swap; rejects when its swarm ends. */
  nextSwap(): Promise<Swap>
}

type Swap = Extract<Report, { ev: 'swap' }>

export interface DriftingOptions {
  genesis: string
  /** Directory of its home. */
  dir: string
  join: string[]
  listen: string[]
  /** Each of its params at the start. */
  start: number
}

export async function startDrifting(options: DriftingOptions): Promise<DriftingHost> {
  const { genesis, dir, join, listen, start } = options
  const home = await openHome(dir)
  const host = await startHost({ home, join, listen })
  const settings = { genesis, start, drift: 1, stepMs: 1, resume: false }
  const drifter = await startDrifter({ ...settings, checkpoints: memoryCheckpoints() })
  const swarm = await joinSwarm({
    manifest: driftManifest,
    genesis,
    version: genesis,
    libp2p: host.libp2p,
    introductions: {
      cards: (of) => host.registry.cards(of),
      putCard: (bytes) => host.registry.putCard(bytes),
      reachable: () => host.registry.registries().length,
    },
    learner: drifter.learner,
    // It keeps its own params, where a newcomer would take over a neighbour's.
    ready: { ...drifter.ready, resumed: true },
    addresses: host.addresses,
    clock: systemClock,
    random: randomFrom(1),
    freshNonce: () => randomBytes(16).toString('hex'),
    key: home.peerKey,
  })
  return { host, swarm, ledger: drifter.ledger, nextSwap: swapsOf(swarm.reports) }
}

function swapsOf(reports: AsyncIterable<Report>): DriftingHost['nextSwap'] {
  let next = Promise.withResolvers<Swap>()
  const read = async () => {
    for await (const report of reports) {
      if (report.ev !== 'swap') continue
      next.resolve(report)
      next = Promise.withResolvers()
    }
    throw new Error('the swarm ended')
  }
  read().catch((error) => {
    next.promise.catch(() => {}) // nobody may be waiting any more
    next.reject(error)
  })
  return () => next.promise
}
