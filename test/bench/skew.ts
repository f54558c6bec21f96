import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  dealDigits,
  digitsModelJson,
  digitsParams,
  readDigits,
  splitDigits,
  writeDigitsCsv,
} from '../../node/samples/digits.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { type Bench, columns, rounded } from './bench.ts'
import {
  accuracyOf,
  heldOut,
  type Lab,
  type LockstepOptions,
  type Method,
  openLab,
  PEERS,
  type Skew,
  skewedDigits,
  train,
  walkerSeed,
} from './lockstep.ts'
import { type Remote, startRemote } from './remote.ts'
import type { handlers, Ran } from './skew-peer.ts'

/**
 * Four peers in four processes, each with two of the eight pieces of digits sorted by label: what each one's own params
 * come to, beside training alone, centralised training and exact FedAvg with the same optimiser and H.
 * Source of the split: McMahan et al. 2017, section 3.
 */
export const bench: Bench<SkewResult> = {
  name: 'skew',
  reach:
    'label-skewed digits, 4 processes: worst >= 0.86 after 5 epochs at H 10, >= 0.90 at the best H, 20 epochs >= 0.91; mean >= FedAvg - 0.015',

  async run({ quick, say }) {
    const rows = quick ? [{ epochs: 1, H: 10, swaps: 2 }] : allRows
    const seeds = quick ? [1] : [1, 2, 3]
    const lab = await openLab()
    // One choice for each H, at 5 epochs and 2 swaps: other rows of that H take it as it is.
    const rates = new Map<number, Rates>()
    for (const row of rows)
      if (!rates.has(row.H)) rates.set(row.H, await chooseRates(lab, row, quick, say))
    const runs: SkewRun[] = []
    const swarms = await openSwarms(seeds)
    try {
      for (const row of rows)
        runs.push(await measure(lab, swarms, row, rates.get(row.H)!, seeds, say))
    } finally {
      await swarms.end()
    }
    return { bench: 'skew', runs }
  },

  table: ({ runs }) =>
    columns([
      [
        'epochs',
        'H',
        'swaps/round',
        'rate',
        'alone',
        'central',
        'fedavg',
        'mean',
        'worst',
        'MB up',
      ],
      ...runs.map((run) => [
        run.epochs,
        run.H,
        run.swapsPerRound,
        run.learningRate,
        ...[run.alone, run.central, run.fedavg, run.mean, run.worst].map((value) =>
          value.toFixed(3),
        ),
        (run.bytesUpPerPeer / 1e6).toFixed(2),
      ]),
    ]),
}

interface SkewResult {
  bench: string
  runs: SkewRun[]
}

/** Means over the seeds; `worst` is the lowest of any peer and seed. */
interface SkewRun {
  epochs: number
  H: number
  /** Settled swaps per peer and round of training, as they came out. */
  swapsPerRound: number
  learningRate: number
  alone: number
  central: number
  fedavg: number
  mean: number
  worst: number
  bytesUpPerPeer: number
}

interface Row {
  epochs: number
  H: number
  /** The budget of a round. */
  swaps: number
}

const allRows: Row[] = [
  { epochs: 5, H: 10, swaps: 2 },
  { epochs: 5, H: 10, swaps: 1 },
  { epochs: 5, H: 5, swaps: 2 },
  { epochs: 5, H: 2, swaps: 2 },
  { epochs: 5, H: 2, swaps: 1 },
  { epochs: 20, H: 10, swaps: 2 },
]
const methods = ['alone', 'central', 'fedavg', 'swap'] as const
/** One grid for all methods; the best of each must lie inside it. */
const RATES = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
const BATCH = 64
const DIGITS_PER_PEER = 2000
const TUNING_SEED = 11

type Rates = Record<Method, number>

function roundsOf({ epochs, H }: Row): number {
  return Math.round((epochs * DIGITS_PER_PEER) / BATCH / H)
}

function optionsOf(row: Row, method: Method, learningRate: number, seed: number): LockstepOptions {
  return {
    method,
    stepsPerRound: row.H,
    rounds: roundsOf(row),
    swapsPerRound: row.swaps,
    learningRate,
    seed,
  }
}

/** The rate of each method, on digits held out of each peer's training data; never on the test digits. */
async function chooseRates(
  lab: Lab,
  row: Row,
  quick: boolean,
  say: (text: string) => void,
): Promise<Rates> {
  const grid = quick ? [0.2] : RATES
  const chosen = {} as Rates
  for (const method of methods) {
    const scores = []
    for (const rate of grid) scores.push(await scoreOf(lab, row, method, rate))
    const best = scores.indexOf(Math.max(...scores))
    chosen[method] = grid[best]!
    const isEdge = !quick && (best === 0 || best === grid.length - 1)
    say(
      `rate of ${method} for ${row.epochs} epochs, H ${row.H}: ${chosen[method]}${isEdge ? ' (at the edge of the grid)' : ''}`,
    )
  }
  return chosen
}

async function scoreOf(lab: Lab, row: Row, method: Method, rate: number): Promise<number> {
  const skew = heldOut(await skewedDigits(TUNING_SEED), TUNING_SEED)
  return meanAccuracy(lab, train(lab, skew.shares, optionsOf(row, method, rate, TUNING_SEED)), skew)
}

async function meanAccuracy(
  lab: Lab,
  models: readonly Float32Array[],
  { test }: Skew,
): Promise<number> {
  return mean(await accuracies(lab, models, test))
}

async function accuracies(
  lab: Lab,
  models: readonly Float32Array[],
  test: Skew['test'],
): Promise<number[]> {
  const all: number[] = []
  // A model with a value that is no number has learned nothing; it is a result, not an error.
  for (const params of models)
    all.push(params.every(Number.isFinite) ? await accuracyOf(lab, params, test) : 0.1)
  return all
}

/** One row: baselines in step, the swarm in its processes, on the same seeds and shares. */
async function measure(
  lab: Lab,
  swarms: Swarms,
  row: Row,
  rates: Rates,
  seeds: readonly number[],
  say: (text: string) => void,
): Promise<SkewRun> {
  const found = { alone: [], central: [], fedavg: [], peers: [], bytes: [], swaps: [] } as Record<
    string,
    number[]
  >
  for (const seed of seeds) {
    const skew = await skewedDigits(seed)
    for (const method of ['alone', 'central', 'fedavg'] as const) {
      const models = train(lab, skew.shares, optionsOf(row, method, rates[method], seed))
      found[method]!.push(await meanAccuracy(lab, models, skew))
    }
    const ran = await swarms.run(lab, row, rates.swap, seed)
    const peers = await accuracies(
      lab,
      ran.map(({ params }) => floatsOf(params)),
      skew.test,
    )
    found.peers!.push(...peers)
    found.bytes!.push(...ran.map(({ bytesUp }) => bytesUp))
    found.swaps!.push(...ran.map(({ swapsTraining }) => swapsTraining / roundsOf(row)))
    const shown = peers.map((value) => value.toFixed(3)).join(' ')
    say(
      `${row.epochs} epochs, H ${row.H}, ${row.swaps} swaps a round, seed ${seed}: ${shown} in ${ran[0]!.seconds.toFixed(1)} s`,
    )
  }
  return {
    epochs: row.epochs,
    H: row.H,
    swapsPerRound: rounded(mean(found.swaps!)),
    learningRate: rates.swap,
    alone: rounded(mean(found.alone!)),
    central: rounded(mean(found.central!)),
    fedavg: rounded(mean(found.fedavg!)),
    mean: rounded(mean(found.peers!)),
    worst: rounded(Math.min(...found.peers!)),
    bytesUpPerPeer: Math.round(mean(found.bytes!)),
  }
}

interface Swarms {
  run(lab: Lab, row: Row, learningRate: number, seed: number): Promise<Ran[]>
  end(): Promise<void>
}

/** Four processes that stay; each run is a swarm of its own among them. */
async function openSwarms(seeds: readonly number[]): Promise<Swarms> {
  const folder = await mkdtemp(join(tmpdir(), 'ml-store-skew-'))
  const { train: digits } = splitDigits(await readDigits())
  const path = (seed: number, index: number) => join(folder, `digits-${seed}-${index}.csv`)
  for (const seed of seeds) {
    for (const [index, share] of dealDigits(digits, PEERS, seed).entries())
      await writeDigitsCsv(path(seed, index), share)
  }
  const remotes: Remote<typeof handlers>[] = Array.from({ length: PEERS }, () =>
    startRemote<typeof handlers>('./skew-peer.ts'),
  )
  const first = await remotes[0]!.ask('open', { home: join(folder, 'peer-0'), join: [] })
  await Promise.all(
    remotes
      .slice(1)
      .map((remote, i) =>
        remote.ask('open', { home: join(folder, `peer-${i + 1}`), join: [first] }),
      ),
  )
  let count = 0
  return {
    async run({ manifest, trainer }, row, learningRate, seed) {
      count += 1
      const genesis = `skew${count}`
      const recipe: Manifest = {
        ...manifest,
        tensors: trainer.tensors.map(({ name, shape, role }) => ({
          name,
          shape: [...shape],
          role,
        })),
        files: [],
        train: {
          ...manifest.train,
          optimizer: { name: 'sgd', learningRate },
          batchSize: BATCH,
          stepsPerRound: row.H,
          strict: true,
          validation: 0,
        },
        gossip: { ...manifest.gossip, swapsPerRound: row.swaps },
        data: { accept: ['csv'], label: 'label' },
      }
      const runOf = (index: number) => ({
        rounds: roundsOf(row),
        peers: PEERS,
        init: {
          manifest: recipe,
          genesis,
          version: genesis,
          modelJson: digitsModelJson,
          params: digitsParams(seed),
          data: { path: path(seed, index) },
          seed: walkerSeed(seed, index),
          resume: false,
          backend: 'wasm' as const,
        },
      })
      await Promise.all(remotes.map((remote, index) => remote.ask('ready', runOf(index))))
      return Promise.all(remotes.map((remote) => remote.ask('go', undefined as never)))
    },
    async end() {
      await Promise.all(remotes.map((remote) => remote.end()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer)
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
