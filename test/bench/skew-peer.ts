import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { openHome } from '../../node/home.ts'
import { type Host, startHost } from '../../node/host.ts'
import { startLearner } from '../../node/learner.ts'
import {
  joinSwarm,
  type Learner,
  type Report,
  randomFrom,
  systemClock,
} from '../../protocol/index.ts'
import type { Command, WorkerEvent, WorkerInit } from '../../protocol/ports/trainer/commands.ts'
import { serve } from './remote.ts'

/** One peer of the skew bench, in a process of its own: a host, and for each run a worker and a swarm. */

export interface Run {
  init: Omit<WorkerInit, 'checkpointPath'>
  rounds: number
  /** Peers of this swarm, us included: the gate opens when we hold a link to each. */
  peers: number
}

export interface Ran {
  params: Uint8Array
  /** Settled while training, and in all; what became of other attempts. */
  swapsTraining: number
  swaps: number
  failed: number
  bytesUp: number
  seconds: number
  losses: number[]
}

let host: Host
let atGate: { go(): void; ended: Promise<Ran> } | undefined

export const handlers = {
  /** Opens the host; gives its address. */
  async open({ home, join: joins }: { home: string; join: string[] }): Promise<string> {
    host = await startHost({
      home: await openHome(home),
      join: joins,
      listen: ['/ip4/127.0.0.1/tcp/0'],
    })
    return host.addresses()[0]!
  },
  /** Starts the worker and joins the swarm; resolves at the gate, linked to all. */
  async ready(run: Run): Promise<void> {
    atGate = await prepare(run)
  },
  /** Trains, settles, leaves; gives our own params. */
  async go(): Promise<Ran> {
    atGate!.go()
    return atGate!.ended
  },
}

serve(handlers, () => host.close())

async function prepare({ init, rounds, peers }: Run) {
  const checkpointPath = join(host.home.checkpoints, init.genesis)
  const version = Promise.withResolvers<Uint8Array>()
  const { learner, ready } = await startWorker({ ...init, checkpointPath }, version.resolve)
  const swarm = await joinSwarm({
    manifest: init.manifest,
    genesis: init.genesis,
    version: init.version,
    libp2p: host.libp2p,
    introductions: {
      cards: (genesis) => host.registry.cards(genesis),
      putCard: (bytes) => host.registry.putCard(bytes),
      reachable: () => host.registry.registries().length,
    },
    learner,
    // All start at step 0 together: nobody has a state that another should pull.
    ready: { ...ready, resumed: true },
    clock: systemClock,
    random: randomFrom(randomBytes(6).readUIntLE(0, 6)),
    freshNonce: () => randomBytes(16).toString('hex'),
    key: host.home.peerKey,
    rounds,
    paused: true,
  })
  const gate = Promise.withResolvers<void>()
  let startedAt = 0
  const follow = async (): Promise<Ran> => {
    const ran = { swapsTraining: 0, swaps: 0, failed: 0, losses: [] as number[] }
    for await (const report of swarm.reports) {
      count(ran, report, swarm.view.stage)
      if (swarm.view.links === peers - 1) gate.resolve()
    }
    const seconds = (performance.now() - startedAt) / 1000
    return { ...ran, params: await version.promise, bytesUp: swarm.traffic.up, seconds }
  }
  const ended = follow()
  ended.catch(gate.reject)
  await gate.promise
  return {
    ended,
    go() {
      startedAt = performance.now()
      swarm.resume()
    },
  }
}

function count(
  ran: Pick<Ran, 'swapsTraining' | 'swaps' | 'failed' | 'losses'>,
  report: Report,
  stage: string,
): void {
  if (report.ev === 'round') ran.losses.push(report.loss)
  if (report.ev === 'swap-failed') ran.failed += 1
  if (report.ev !== 'swap') return
  ran.swaps += 1
  if (stage === 'training') ran.swapsTraining += 1
}

/** The shipped worker; before it stops it gives its params to `tell` as well. */
async function startWorker(init: WorkerInit, tell: (params: Uint8Array) => void) {
  const ready = Promise.withResolvers<Extract<WorkerEvent, { type: 'ready' }>>()
  const early: WorkerEvent[] = []
  let listener: (event: WorkerEvent) => void = (event) => early.push(event)
  const handle = startLearner(init, (event) => {
    if (event.type === 'ready') ready.resolve(event)
    else if (event.type === 'version-params') tell(event.bytes)
    else listener(event)
    if (event.type === 'failed') ready.reject(new Error(event.detail.message))
  })
  const learner: Learner = {
    send(command: Command) {
      if (command.type === 'stop') handle.send({ type: 'version' })
      handle.send(command)
    },
    listen(next) {
      listener = next
      for (const event of early.splice(0)) next(event)
    },
  }
  return { learner, ready: await ready.promise }
}
