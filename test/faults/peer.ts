import { randomBytes } from 'node:crypto'
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { checkpointFile } from '../../node/checkpoint.ts'
import { openHome } from '../../node/home.ts'
import { startHost } from '../../node/host.ts'
import { allowanceMs, newPace, remember } from '../../protocol/peer/deadline.ts'
import { systemClock } from '../../protocol/ports/clock.ts'
import { randomFrom } from '../../protocol/random.ts'
import { joinSwarm, type Swarm } from '../../protocol/swarm.ts'
import { type Boundary, type Crossing, watchSwaps } from './boundaries.ts'
import { driftManifest, PARAMS, startDrifter } from './drift.ts'

/**
 * One real peer in a process of its own, made of the shipped host, swarm and learner, that a test can make die, freeze
 * or lose its connection at any frame of a swap. Words come on stdin, one JSON object a line; what it says goes out at
 * once, so that its last words before a kill are heard.
 */
export interface PeerInit {
  home: string
  genesis: string
  join: string[]
  start: number
  drift: number
  stepMs: number
  resume?: boolean
}

export interface Trap extends Boundary {
  /** What happens there. */
  act: 'kill' | 'freeze' | 'cut' | 'tell'
  /** Only in the swap of the trap before. */
  same?: boolean
  /** Only in a swap whose settling moves the sum of params by more: right after another one moves next to nothing. */
  least?: number
}

export type Word =
  | { word: 'join' }
  | { word: 'arm'; traps: Trap[] }
  | { word: 'pause' }
  | { word: 'resume' }
  | { word: 'leave' }
  /** Answered once no swap is under way and, with `settled`, none in doubt. */
  | { word: 'ledger'; settled: boolean }

const init: PeerInit = JSON.parse(process.argv[2]!)
const traps: Trap[] = []
let lastNonce = ''
/** Its swaps as the shipped peer times them, and when those under way began, by nonce: how long it will wait is told with a trap. */
const pace = newPace()
const begun = new Map<string, number>()

const home = await openHome(init.home)
const host = await startHost({ home, join: init.join, listen: ['/ip4/127.0.0.1/tcp/0'] })
const streams = watchSwaps(host.libp2p, 4 * PARAMS, onCrossing)
const drifter = await startDrifter({
  ...init,
  resume: init.resume ?? false,
  checkpoints: checkpointFile(join(home.checkpoints, init.genesis)),
})
let swarm: Swarm | undefined

function onCrossing(crossing: Crossing): void {
  time(crossing)
  const [trap] = traps
  if (!trap || trap.what !== crossing.what || trap.way !== crossing.way) return
  if (trap.role !== crossing.role || (trap.same && crossing.nonce !== lastNonce)) return
  if (trap.least && !(Math.abs(crossing.gain ?? 0) > trap.least)) return
  traps.shift()
  lastNonce = crossing.nonce
  const { nonce, gain, connection } = crossing
  const patienceMs = Math.ceil(allowanceMs(pace, 4 * PARAMS))
  const ledger = drifter.ledger()
  say({ ev: 'trapped', nonce, with: crossing.with, gain, act: trap.act, ledger, patienceMs })
  if (trap.act === 'kill') process.kill(process.pid, 'SIGKILL')
  if (trap.act === 'freeze') process.kill(process.pid, 'SIGSTOP')
  if (trap.act === 'cut') connection.abort(new Error('the line is cut'))
}

/** From OFFER to COMMIT. */
function time({ what, nonce }: Crossing): void {
  if (what === 'offer') begun.set(nonce, Date.now())
  if (what !== 'commit' || !begun.has(nonce)) return
  remember(pace, Date.now() - begun.get(nonce)!)
  begun.delete(nonce)
}

async function begin(): Promise<void> {
  swarm = await joinSwarm({
    manifest: driftManifest,
    genesis: init.genesis,
    version: init.genesis,
    libp2p: host.libp2p,
    introductions: {
      cards: (genesis) => host.registry.cards(genesis),
      putCard: (bytes) => host.registry.putCard(bytes),
      reachable: () => host.registry.registries().length,
    },
    learner: drifter.learner,
    // It keeps its own params, where a newcomer would take over a neighbour's.
    ready: { ...drifter.ready, resumed: true },
    clock: systemClock,
    random: randomFrom(randomBytes(4).readUInt32LE()),
    freshNonce: () => randomBytes(16).toString('hex'),
    key: home.peerKey,
    adopt: false,
    catchUp: false,
  })
  for await (const report of swarm.reports) say({ ...report })
  await host.close()
  process.exit(0)
}

/** Looked at this often while a swap still runs; what is waited for after so many looks stands among the complaints. */
const LOOK_MS = 10
const PATIENT_LOOKS = 1000

/** Nothing under way at two looks in a row: what a closed stream set going has arrived in the params too, which a busy learner lets wait. */
function tellLedger(settled: boolean, wasQuiet = false, looks = 0): void {
  const { inDoubt, isSwapping, lostDoubts, swaps, failedSwaps } = swarm!.view
  const isQuiet = streams.size === 0 && !isSwapping && !(settled && inDoubt > 0)
  if (!isQuiet || !wasQuiet) {
    if (looks > 0 && looks % PATIENT_LOOKS === 0) complain()
    setTimeout(tellLedger, LOOK_MS, settled, isQuiet, looks + 1)
    return
  }
  say({ ev: 'ledger', ledger: drifter.ledger(), inDoubt, lostDoubts, swaps, failedSwaps })
}

function complain(): void {
  const { inDoubt, isSwapping } = swarm!.view
  const open = [...streams].map(
    ({ id, direction, status, readStatus, writeStatus }) =>
      `${id} ${direction} ${status}, reading ${readStatus}, writing ${writeStatus}`,
  )
  console.error(`${isSwapping ? 'swapping, ' : ''}${inDoubt} in doubt, open: ${open.join('; ')}`)
}

function obey(word: Word): void {
  switch (word.word) {
    case 'join':
      void begin()
      return
    case 'arm':
      traps.splice(0, traps.length, ...word.traps)
      return
    case 'pause':
      return swarm!.pause()
    case 'resume':
      return swarm!.resume()
    case 'leave':
      void swarm!.leave('asked to leave')
      return
    case 'ledger':
      return tellLedger(word.settled)
  }
}

function say(line: object): void {
  writeSync(1, `${JSON.stringify({ t: Date.now(), ...line })}\n`)
}

const words = createInterface({ input: process.stdin })
words.on('line', (line) => obey(JSON.parse(line)))
// The test is gone: so are we.
words.on('close', () => process.exit(1))
say({
  ev: 'up',
  peer: host.libp2p.peerId.toString(),
  addresses: host.libp2p.getMultiaddrs().map(String),
  ledger: drifter.ledger(),
})
