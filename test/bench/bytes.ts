import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { digitsDraft, digitsModelJson } from '../../node/samples/digits.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { sizeOf } from '../../protocol/params.ts'
import { readTopology } from '../../protocol/ports/trainer/topology.ts'
import { type Bench, type BenchOptions, columns, median } from './bench.ts'
import type { handlers, Span } from './bytes-peer.ts'
import { type Remote, startRemote } from './remote.ts'

/**
 * All bytes that a peer's sockets sent over 50 rounds with one swap a round, in swarms of 2 to 16 real processes on TCP.
 * What the same swarm sends when it trains and does not swap is chatter: gossip, cards, identify, pings, registries. The
 * rest is swaps, with all their framing.
 */
export const bench: Bench<BytesResult> = {
  name: 'bytes',
  reach:
    'bytes sent a peer: swaps <= 2 x (0.26 x 4 x params + 4 KiB) a round and flat in the number of peers, chatter <= 2 KiB/s',
  run,
  table: ({ runs }) =>
    columns([
      ['peers', 'params', 'swaps/round', 'KB/round', 'to reach', 'chatter B/s', 'to reach'],
      ...runs.map(({ peers, params, swapsPerRound, swapBytesPerRound, chatterBytesPerSecond }) => [
        peers,
        params,
        swapsPerRound.toFixed(2),
        (swapBytesPerRound / 1000).toFixed(1),
        (swapLimit(params) / 1000).toFixed(1),
        chatterBytesPerSecond,
        CHATTER_LIMIT,
      ]),
    ]),
}

interface BytesResult {
  bench: string
  runs: BytesRun[]
}

/** Of the peer in the middle of each swarm. */
interface BytesRun {
  peers: number
  params: number
  rounds: number
  /** As they came out; the budget is 1. */
  swapsPerRound: number
  swapBytesPerRound: number
  chatterBytesPerSecond: number
}

const SIZES = [2, 4, 8, 16]
const ROUNDS = 50
const CHATTER_LIMIT = 2048
/** Links that a peer makes by itself. */
const LINKS = 8

function swapLimit(params: number): number {
  return 2 * (0.26 * 4 * params + 4096)
}

async function run({ quick, say }: BenchOptions): Promise<BytesResult> {
  const manifest = digits()
  const runs: BytesRun[] = []
  for (const peers of quick ? [2] : SIZES) {
    const rounds = quick ? 4 : ROUNDS
    const quiet = await spansOf(manifest, peers, rounds, false)
    const spans = await spansOf(manifest, peers, rounds, true)
    const chatter = median(quiet.map(({ bytes, seconds }) => bytes / seconds))
    const over = (figure: (span: Span) => number) => median(spans.map(figure))
    runs.push({
      peers,
      params: sizeOf(manifest.tensors),
      rounds,
      swapsPerRound: over(({ swaps }) => swaps / rounds),
      swapBytesPerRound: Math.round(
        over(({ bytes, seconds }) => (bytes - chatter * seconds) / rounds),
      ),
      chatterBytesPerSecond: Math.round(chatter),
    })
    const { swapBytesPerRound, chatterBytesPerSecond } = runs.at(-1)!
    say(
      `${peers} peers: ${swapBytesPerRound} bytes of swaps a round, ${chatterBytesPerSecond} of chatter a second`,
    )
  }
  return { bench: 'bytes', runs }
}

/** A swarm of so many processes, of which the first introduces the others. */
async function spansOf(
  manifest: Manifest,
  peers: number,
  rounds: number,
  swap: boolean,
): Promise<Span[]> {
  const folder = await mkdtemp(join(tmpdir(), 'mlstore-bytes-'))
  const genesis = CID.createV1(
    0x70,
    await sha256.digest(new TextEncoder().encode(`${peers} peers`)),
  ).toString()
  const remotes: Remote<typeof handlers>[] = []
  const open = async (index: number, join: string[]) => {
    remotes[index] = startRemote<typeof handlers>('./bytes-peer.ts')
    return remotes[index].ask('open', { home: `${folder}/peer-${index}`, join })
  }
  try {
    const first = await open(0, [])
    const others = Array.from({ length: peers - 1 }, (_, index) => index + 1)
    await Promise.all(others.map((index) => open(index, [first])))
    const run = { manifest, genesis, swap, rounds, links: Math.min(LINKS, peers - 1) }
    await Promise.all(remotes.map((remote) => remote.ask('ready', run)))
    return await Promise.all(remotes.map((remote) => remote.ask('go', undefined as never)))
  } finally {
    await Promise.all(remotes.map((remote) => remote.end()))
    await rm(folder, { recursive: true, force: true })
  }
}

function digits(): Manifest {
  const { tensors } = readTopology(digitsModelJson, {
    memoryBytes: Number.POSITIVE_INFINITY,
    batchSize: 1,
  })
  const { train, gossip } = digitsDraft
  return {
    ...digitsDraft,
    owner: '',
    files: [],
    tensors: tensors.map(({ name, shape, role }) => ({ name, shape: [...shape], role })),
    train: { ...train, strict: false },
    gossip: { ...gossip, swapsPerRound: 1 },
  }
}
