import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { program } from '../support/programs.ts'
import { isFull } from './every.ts'
import type { PeerInit, Trap, Word } from './peer.ts'
import { type Talker, talk } from './talker.ts'

/** Peers of one swarm in processes of their own, and a way to end them all. */
export interface PeerProcess extends Talker<Said> {
  up: Said
  tell(word: Word): void
  arm(...traps: Trap[]): void
}

export interface Said {
  ev: string
  t: number
  peer?: string
  addresses?: string[]
  ledger?: number
  act?: 'kill' | 'freeze' | 'cut' | 'tell'
  gain?: number
  nonce?: string
  with?: string
  inDoubt?: number
  swaps?: number
  reason?: string
  round?: number
  /** Of a trap: how long its swap may take, from its beginning. */
  patienceMs?: number
}

/** No freeze is shorter. Swaps take some 100 ms, and no deadline is shorter than 2 s (peer/deadline.ts). */
const FREEZE_MS = isFull ? 30_000 : 3_000

/** When somebody who froze at a trap has been frozen for longer than its swap's deadline, which is long where the machine is busy. */
export function thawAt({ t, patienceMs }: Said): number {
  return t + Math.max(FREEZE_MS, 2 * patienceMs!)
}

/** Nobody stalls longer than one deadline, which follows recent swaps: some 2 s, and ten times that on a busy machine. */
export const STALL_MS = 40_000

/** Anything a peer is waited for, beside a freeze. */
const SAY_LIMIT_MS = FREEZE_MS + 40_000

const script = program('fault-peer')
const genesis = 'bafyfaults'

export async function swarmOfProcesses() {
  const dir = await mkdtemp(join(tmpdir(), 'mlstore-faults-'))
  const peers: PeerProcess[] = []
  let count = 0
  return {
    peers,
    async start(name: string, init: Partial<PeerInit> = {}): Promise<PeerProcess> {
      const home = join(dir, `${name}-${count++}`)
      const joins = peers.filter(isAlive)
      const whole: PeerInit = {
        home,
        genesis,
        join: joins.map(({ up }) => up.addresses![0]!),
        start: 0,
        drift: 0,
        stepMs: 5,
        ...init,
      }
      const peer = await startPeer(name, whole)
      peers.push(peer)
      return peer
    },
    /** Pauses those that live and gives what they hold together, once no swap of theirs is under way. */
    async balance({ settled }: { settled: boolean }): Promise<Balance> {
      const alive = peers.filter(isAlive)
      for (const peer of alive) peer.tell({ word: 'pause' })
      const said = await Promise.all(
        alive.map((peer) => {
          const answer = peer.says('ledger')
          peer.tell({ word: 'ledger', settled })
          return answer
        }),
      )
      for (const peer of alive) peer.tell({ word: 'resume' })
      return {
        ledger: said.reduce((sum, { ledger }) => sum + ledger!, 0),
        inDoubt: said.reduce((sum, { inDoubt }) => sum + inDoubt!, 0),
      }
    },
    async end(): Promise<void> {
      for (const { child } of peers.splice(0)) child.kill('SIGKILL')
      await rm(dir, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

export interface Balance {
  /** What all started with, if no swap was half done. */
  ledger: number
  inDoubt: number
}

function isAlive({ child }: PeerProcess): boolean {
  return child.exitCode === null && child.signalCode === null
}

async function startPeer(name: string, init: PeerInit): Promise<PeerProcess> {
  const talker = talk<Said>(name, [script, JSON.stringify(init)], SAY_LIMIT_MS)
  const tell = (word: Word) => talker.write(JSON.stringify(word))
  const up = await talker.says('up')
  return { ...talker, up, tell, arm: (...traps) => tell({ word: 'arm', traps }) }
}
