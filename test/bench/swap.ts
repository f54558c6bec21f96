import { randomBytes } from 'node:crypto'
import { sizeOf } from '../../protocol/params.ts'
import { type Bench, type BenchOptions, columns, median, type Result, rounded } from './bench.ts'
import type { TransportName } from './link.ts'
import { type Remote, startRemote } from './remote.ts'
import type { handlers as settleHandlers } from './settle-peer.ts'
import { tensorsFor } from './sizes.ts'
import type { Exchange, Span, handlers as transferHandlers } from './swap-peer.ts'

/**
 * A swap's copies between two processes, over each transport: how long beside a bare stream of the same connection, and
 * what a whole swap adds to a peer's memory.
 */
export interface SwapResult extends Result {
  runs: SwapRun[]
}

export interface SwapRun {
  transport: TransportName
  /** Of one encoded copy; one goes each way. */
  megabytes: number
  /** Bare time / our time: medians of exchanges that took turns. */
  ratio: number
  /** Our time - bare time. */
  extraMs: number
  oursMs: number
  bareMs: number
  /** Resident above the settled level at the peak of one whole swap, the larger of both peers. */
  peakExtraBytes: number
  /** What it may be: 0.6 x float32 params + 32 MiB. */
  peakLimitBytes: number
}

export const bench: Bench<SwapResult> = {
  name: 'swap',
  reach:
    'bare time / ours >= 0.5 at 10 and 100 MB, <= 60 ms more at 1 MB; peak <= 0.6 x float32 params + 32 MiB',
  run,
  table: ({ runs }) =>
    columns([
      ['transport', 'MB', 'ours ms', 'bare ms', 'ratio', 'extra ms', 'peak MB', 'at most MB'],
      ...runs.map((run) => [
        ...[run.transport, run.megabytes, run.oursMs, run.bareMs, run.ratio, run.extraMs],
        ...[run.peakExtraBytes, run.peakLimitBytes].map((bytes) => rounded(bytes / 1e6)),
      ]),
    ]),
}

const transports: TransportName[] = ['tcp', 'ws', 'webrtc']
/** How often each size goes each way; the first exchange, which opens windows and compiles, is left out. */
const plans = {
  full: [
    { megabytes: 1, times: 15 },
    { megabytes: 10, times: 7 },
    { megabytes: 100, times: 3 },
  ],
  quick: [{ megabytes: 0.1, times: 1 }],
}

type Transfer = Remote<typeof transferHandlers>
type Settle = Remote<typeof settleHandlers>
interface Times {
  ours: number[]
  bare: number[]
}

async function run({ quick, say }: BenchOptions): Promise<SwapResult> {
  const plan = quick ? plans.quick : plans.full
  const relay = startRemote<typeof transferHandlers>('./swap-peer.ts')
  try {
    const relayAddress = await relay.ask('relay', undefined)
    const runs: SwapRun[] = []
    for (const transport of transports) {
      const timed = await timeAll(transport, relayAddress, plan, say)
      for (const [i, { megabytes }] of plan.entries()) {
        say(`${transport} ${megabytes} MB: memory of one whole swap`)
        runs.push(
          runOf(transport, megabytes, timed[i]!, await peakOf(transport, relayAddress, megabytes)),
        )
      }
    }
    return { bench: 'swap', runs }
  } finally {
    await relay.end()
  }
}

function runOf(
  transport: TransportName,
  megabytes: number,
  times: Times,
  peakExtraBytes: number,
): SwapRun {
  const [ours, bare] = [median(times.ours), median(times.bare)]
  return {
    transport,
    megabytes,
    ratio: rounded(bare / ours),
    extraMs: Math.round(ours - bare),
    oursMs: Math.round(ours),
    bareMs: Math.round(bare),
    peakExtraBytes,
    peakLimitBytes: Math.round(0.6 * 4 * sizeOf(tensorsFor(megabytes)) + 32 * 1024 * 1024),
  }
}

/** Two processes, one connection, every size in turn; ours and bare take turns, and so does who is first. */
async function timeAll(
  transport: TransportName,
  relay: string,
  plan: typeof plans.full,
  say: BenchOptions['say'],
): Promise<Times[]> {
  const peers = [0, 1].map(() => startRemote<typeof transferHandlers>('./swap-peer.ts'))
  const [a, b] = peers as [Transfer, Transfer]
  try {
    const [near, far] = await Promise.all([
      a.ask('open', { transport, relay }),
      b.ask('open', { transport, relay }),
    ])
    await a.ask('link', { address: far.address, transport })
    const all: Times[] = []
    for (const { megabytes, times } of plan) {
      await Promise.all(peers.map((peer) => peer.ask('prepare', { megabytes })))
      const seen: Times = { ours: [], bare: [] }
      for (let time = 0; time <= times; time++) {
        for (const way of time % 2 === 0
          ? (['ours', 'bare'] as const)
          : (['bare', 'ours'] as const)) {
          const ms = await exchange(a, b, { way, to: far.peer }, { way, to: near.peer })
          say(`${transport} ${megabytes} MB each way, ${way}: ${Math.round(ms)} ms`)
          if (time > 0) seen[way].push(ms)
        }
      }
      all.push(seen)
    }
    return all
  } finally {
    await Promise.all(peers.map((peer) => peer.end()))
  }
}

type Half = Pick<Exchange, 'way' | 'to'>

/** Milliseconds until both hold what the other sent. */
async function exchange(a: Transfer, b: Transfer, near: Half, far: Half): Promise<number> {
  const nonce = randomBytes(16).toString('hex')
  const [ours, theirs] = [
    { ...near, nonce, opens: true },
    { ...far, nonce, opens: false },
  ]
  await b.ask('expect', theirs)
  const spans: Span[] = await Promise.all([a.ask('begin', ours), b.ask('span', undefined)])
  await Promise.all([a.ask('end', ours), b.ask('end', theirs)])
  const ended = spans.reduce((last, { endedAt }) => (endedAt > last ? endedAt : last), 0n)
  return Number(ended - spans[0]!.startedAt) / 1e6
}

/** Young objects as few as where mlstore starts (protocol/ports/runtime.js), and a collection when we ask for one. */
const AS_SHIPPED = ['--expose-gc', '--semi-space-growth-factor=1']

/** Two fresh processes, one swap: what is resident at its peak above what was before it. Bytes. */
async function peakOf(transport: TransportName, relay: string, megabytes: number): Promise<number> {
  const peers = [0, 1].map(() =>
    startRemote<typeof settleHandlers>('./settle-peer.ts', { execArgv: AS_SHIPPED }),
  )
  const [a, b] = peers as [Settle, Settle]
  try {
    const [, address] = await Promise.all([
      a.ask('open', { transport, relay }),
      b.ask('open', { transport, relay }),
    ])
    await a.ask('link', { address, transport })
    await Promise.all(peers.map((peer) => peer.ask('join', { megabytes })))
    const settled = await Promise.all(peers.map((peer) => peer.ask('settle', undefined)))
    await Promise.all(peers.map((peer) => peer.ask('offer', undefined)))
    const peaks = await Promise.all(peers.map((peer) => peer.ask('swapped', undefined)))
    return Math.max(...peaks.map((peak, i) => peak - settled[i]!))
  } finally {
    await Promise.all(peers.map((peer) => peer.end()))
  }
}
