import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { isFull } from './every.ts'
import type { PeerInit, Trap, Word } from './peer.ts'

/** Peers of one swarm in processes of their own, and a way to end them all. */
export interface PeerProcess {
  name: string
  up: Said
  child: ChildProcess
  heard: Said[]
  tell(word: Word): void
  /** The first line it says from now on (or has said after `after`) that passes; rejects when it ends before. */
  says(ev: string, passes?: (said: Said) => boolean): Promise<Said>
  arm(...traps: Trap[]): void
  /** Resolves with its exit code or signal. */
  ended: Promise<number | NodeJS.Signals>
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
}

/**
 * Longer than any deadline here: swaps take some 100 ms, and no deadline is shorter than 2 s (peer/deadline.ts).
 */
export const FREEZE_MS = isFull ? 30_000 : 3_000
/** Nobody stalls longer than one deadline; the rest is for a busy machine. */
export const STALL_MS = 5_000

const script = new URL('./peer.ts', import.meta.url).pathname
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
  const child = spawn(process.execPath, [script, JSON.stringify(init)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const heard: Said[] = []
  const watchers = new Set<() => void>()
  let complaints = ''
  let over = false
  const wake = () => {
    for (const watch of watchers) watch()
  }
  child.stderr.on('data', (text) => (complaints += text))
  child.stdin.on('error', () => {})
  createInterface({ input: child.stdout }).on('line', (line) => {
    heard.push(JSON.parse(line))
    wake()
  })
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('close', (code, signal) => {
      over = true
      resolve(code ?? signal ?? -1)
      wake()
    })
  })
  const peer: PeerProcess = {
    name,
    child,
    heard,
    ended,
    up: { ev: 'up', t: 0 },
    tell: (word) => void child.stdin.write(`${JSON.stringify(word)}\n`),
    arm: (...traps) => peer.tell({ word: 'arm', traps }),
    says(ev, passes = () => true) {
      let from = heard.length
      return new Promise((resolve, reject) => {
        const watch = () => {
          for (; from < heard.length; from++) {
            const said = heard[from]!
            if (said.ev !== ev || !passes(said)) continue
            watchers.delete(watch)
            return resolve(said)
          }
          if (over) reject(new Error(`${name} ended before ${ev}: ${complaints}`))
        }
        watchers.add(watch)
        watch()
      })
    },
  }
  peer.up = await peer.says('up')
  return peer
}
