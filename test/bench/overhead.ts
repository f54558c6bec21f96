import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  dealDigits,
  digitsDraft,
  readDigits,
  splitDigits,
  writeDigitsCsv,
} from '../../node/samples/digits.ts'
import { modelJson, paramsOf, topologyOf } from '../support/models.ts'
import { type Bench, type BenchOptions, columns, median, type Result, rounded } from './bench.ts'
import { endAll, freePort, mlstore, type Program, start } from './programs.ts'
import { canPin } from './remote.ts'

/**
 * What the swarm costs a trainer: steps per second of two peers that swap, through those of the same two with --no-swap, both at
 * once on a core each, with the same data and recipe. Blocks of one kind and the other take turns; medians of the blocks.
 */
export interface OverheadResult extends Result {
  /** Rounds of at least a second. */
  ratio: number
  /** Rounds of exactly ten steps, which wait for their swaps. */
  ratioH10: number
  /** The same by the processors' time, which other programs of this machine hardly move; waiting costs nothing here. */
  cpuRatio: number
  cpuRatioH10: number
  stepsPerSecond: { alone: number; swarm: number; aloneH10: number; swarmH10: number }
  /** Swaps per peer and second. */
  swapsPerSecond: { swarm: number; swarmH10: number }
  pinned: boolean
}

export const bench: Bench<OverheadResult> = {
  name: 'overhead',
  reach:
    'dense 784-512-512-10, two peers: steps per second in the swarm >= 0.9 of those alone; strict rounds of 10 steps beside it',
  run,
  table: ({
    stepsPerSecond: { alone, swarm, aloneH10, swarmH10 },
    swapsPerSecond,
    pinned,
    ...ratios
  }) =>
    columns([
      ['rounds', 'alone steps/s', 'swarm steps/s', 'ratio', 'by CPU', 'swaps/s'],
      ['>= 1 s', alone, swarm, ratios.ratio, ratios.cpuRatio, swapsPerSecond.swarm],
      ['H = 10', aloneH10, swarmH10, ratios.ratioH10, ratios.cpuRatioH10, swapsPerSecond.swarmH10],
    ]) + (pinned ? '' : '\nnot pinned to a core each: this system has no taskset'),
}

const BLOCKS = 3
const BLOCK_MS = 10_000
const QUICK = { blocks: 1, blockMs: 3000 }

async function run({ quick, say }: BenchOptions): Promise<OverheadResult> {
  const dir = await mkdtemp(join(tmpdir(), 'mlstore-overhead-'))
  const spans = quick ? QUICK : { blocks: BLOCKS, blockMs: BLOCK_MS }
  try {
    if (!canPin) say('no taskset here: the peers share the cores as they like')
    const shares = dealDigits(splitDigits(await readDigits()).train, 2)
    await Promise.all(shares.map((digits, i) => writeDigitsCsv(join(dir, `${i}.csv`), digits)))
    const long = await compare(dir, 'long', spans, say)
    const strict = await compare(dir, 'strict', spans, say)
    return {
      bench: 'overhead',
      ratio: rounded(long.swarm / long.alone),
      ratioH10: rounded(strict.swarm / strict.alone),
      cpuRatio: rounded(long.swarmCpu / long.aloneCpu),
      cpuRatioH10: rounded(strict.swarmCpu / strict.aloneCpu),
      stepsPerSecond: {
        alone: rounded(long.alone),
        swarm: rounded(long.swarm),
        aloneH10: rounded(strict.alone),
        swarmH10: rounded(strict.swarm),
      },
      swapsPerSecond: { swarm: rounded(long.swaps), swarmH10: rounded(strict.swaps) },
      pinned: canPin,
    }
  } finally {
    await endAll()
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** A step takes 5 ms or more where this was written: two hundred are a round of a second. */
const recipes = {
  long: { strict: false, stepsPerRound: 200 },
  strict: { strict: true, stepsPerRound: 10 },
}

/** A second, or a second of the processor's time. */
interface Compared {
  alone: number
  aloneCpu: number
  swarm: number
  swarmCpu: number
  swaps: number
}

async function compare(
  dir: string,
  name: keyof typeof recipes,
  { blocks, blockMs }: typeof QUICK,
  say: BenchOptions['say'],
): Promise<Compared> {
  const published = await publish(dir, name)
  const seen: Compared[] = []
  for (let i = 0; i < blocks; i++) {
    const alone = await block(dir, name, published, ['--no-swap'], blockMs)
    const swarm = await block(dir, name, published, [], blockMs)
    seen.push({
      alone: alone.steps,
      aloneCpu: alone.perCpu,
      swarm: swarm.steps,
      swarmCpu: swarm.perCpu,
      swaps: swarm.swaps,
    })
    const [a, s] = [alone.steps, swarm.steps].map((steps) => steps.toFixed(1))
    const [ratio, cpu] = [swarm.steps / alone.steps, swarm.perCpu / alone.perCpu].map((value) =>
      value.toFixed(3),
    )
    say(
      `${name}: alone ${a}, swarm ${s} steps/s, ${ratio} (by CPU ${cpu}); ${swarm.swaps.toFixed(2)} swaps/s`,
    )
  }
  const middle = (what: keyof Compared) => median(seen.map((one) => one[what]))
  return {
    alone: middle('alone'),
    aloneCpu: middle('aloneCpu'),
    swarm: middle('swarm'),
    swarmCpu: middle('swarmCpu'),
    swaps: middle('swaps'),
  }
}

interface Published {
  cid: string
  /** Where the first peer is found, each time it is started. */
  address: string
}

/** Both peers hold the version from here on. */
async function publish(dir: string, name: keyof typeof recipes): Promise<Published> {
  const draft = join(dir, name)
  await mkdir(draft)
  await writeFile(join(draft, 'README.md'), '# Dense 784-512-512-10\n')
  await writeFile(join(draft, 'labels.txt'), `${digitsDraft.output.labels.join('\n')}\n`)
  await writeFile(join(draft, 'model.json'), denseModel)
  await writeFile(join(draft, 'group1-shard1of1.bin'), paramsOf(topologyOf(denseModel), 1, 0.05))
  const { eval: _, sample: __, ...data } = digitsDraft.data
  const optimizer = { name: 'sgd', learningRate: 0.05 }
  const train = { ...digitsDraft.train, ...recipes[name], optimizer }
  await writeFile(
    join(draft, 'mlstore.json'),
    JSON.stringify({ ...digitsDraft, name, data, train }),
  )
  const home = (index: number) => ['--home', join(dir, `${name}-${index}`), '--json']
  const place = `/ip4/127.0.0.1/tcp/${await freePort()}`
  const server = start([mlstore, 'publish', draft, '--serve', ...home(0), ...listenAt(place)])
  const { cid, addresses: [address] = [] } = await server.says((line) => line.cid !== undefined)
  const seeder = start([mlstore, 'seed', cid!, ...home(1), ...listenAt(), '--join', address!])
  await seeder.says((line) => line.cid !== undefined)
  await Promise.all([seeder.end(), server.end()])
  return { cid: cid!, address: address! }
}

/** One start of both peers: what each does a second, from the first round (and swap) of both until `blockMs` later. */
async function block(
  dir: string,
  name: string,
  { cid, address }: Published,
  options: string[],
  blockMs: number,
) {
  const peers = [0, 1].map((index) => {
    const home = [
      '--home',
      join(dir, `${name}-${index}`),
      ...listenAt(index === 0 ? address : undefined),
    ]
    const args = [
      'train',
      cid,
      '--data',
      join(dir, `${index}.csv`),
      '--fresh',
      '--json',
      ...home,
      ...options,
    ]
    return start(
      [mlstore, ...args, ...(index === 0 ? [] : ['--join', address])],
      canPin ? { core: index } : {},
    )
  })
  const begun = options.length === 0 ? 'swap' : 'round'
  await Promise.all(peers.map((peer) => peer.says(({ ev }) => ev === begun)))
  const counts = await Promise.all(peers.map((peer) => count(peer, blockMs)))
  await Promise.all(peers.map((peer) => peer.end()))
  const mean = (what: keyof Count) => (counts[0]![what] + counts[1]![what]) / 2
  return { steps: mean('steps'), swaps: mean('swaps'), perCpu: mean('perCpu') }
}

interface Count {
  /** A second. */
  steps: number
  swaps: number
  /** Steps a second of the processor's time; NaN where the system does not tell. */
  perCpu: number
}

/** From the end of one round to that of the first after `forMs`. */
async function count(peer: Program, forMs: number): Promise<Count> {
  const seen = { steps: 0, swaps: 0 }
  await peer.says(({ ev }) => ev === 'round')
  const startedAt = performance.now()
  const cpuBefore = await cpuSeconds(peer.pid)
  await peer.says(({ ev, steps = 0 }) => {
    if (ev === 'swap') seen.swaps += 1
    if (ev === 'round') seen.steps += steps
    return ev === 'round' && performance.now() - startedAt >= forMs
  })
  const seconds = (performance.now() - startedAt) / 1000
  const cpu = (await cpuSeconds(peer.pid)) - cpuBefore
  return { steps: seen.steps / seconds, swaps: seen.swaps / seconds, perCpu: seen.steps / cpu }
}

/** What a process has used of the processors so far. Source: proc(5), utime and stime in hundredths. */
async function cpuSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function listenAt(address?: string): string[] {
  return ['--listen', address?.replace(/\/p2p\/.*$/, '') ?? '/ip4/127.0.0.1/tcp/0']
}

const SIZES = [784, 512, 512, 10]
const denseModel = modelJson(
  [28, 28, 1],
  [
    { class_name: 'Flatten', config: {} },
    ...SIZES.slice(1).map((units, i) => ({
      class_name: 'Dense',
      config: { units, activation: i === SIZES.length - 2 ? 'softmax' : 'relu' },
    })),
  ],
  SIZES.slice(1).flatMap((units, i): [string, number[]][] => [
    [`layer${i + 1}/kernel`, [SIZES[i]!, units]],
    [`layer${i + 1}/bias`, [units]],
  ]),
)
