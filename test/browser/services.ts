import type {
  Check,
  KeptRun,
  ListedModel,
  NetworkView,
  OpenVersion,
  Run,
  Services,
  VersionHere,
} from '../../browser/services.ts'
import { text } from '../../browser/text.ts'
import { Fault } from '../../protocol/errors.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import {
  collectExamples,
  type Examples,
  reportOf,
  splitRows,
} from '../../protocol/ports/examples.ts'
import { randomFrom } from '../../protocol/random.ts'
import { phaseReport, type Report } from '../../protocol/report.ts'

/**
 * Services that pretend: two models, three peers, and a run whose figures get better whatever it is given. `?state=` in the
 * address chooses an odd one: empty, slow, failing, offline, alone, broken, closed, unstarted, newer, long, damaged.
 */
export async function createServices(): Promise<Services> {
  const odd = new URLSearchParams(location.search).get('state') ?? ''
  if (odd === 'unstarted') throw unreachable()
  let rounds = 0
  let owner: string | undefined
  let here = odd === 'empty' ? [] : versionsHere
  return {
    onNetwork(listener) {
      listener({ ...network, phase: 'looking', peers: [] })
      const view = odd === 'offline' ? offline : odd === 'closed' ? closed : network
      const timer = setTimeout(() => listener(view), 300)
      return () => clearTimeout(timer)
    },
    async join(address) {
      if (!address.startsWith('/')) throw wrongAddress(address)
    },
    unjoin() {},
    async selfTest(tell) {
      const isOffline = odd === 'offline'
      const running = [...checksOf(isOffline)].map(({ check, peer }): Check => {
        return { check, state: 'running', ...(peer && { peer }) }
      })
      tell(running)
      await wait(100)
      tell(checksOf(isOffline))
    },
    async listModels(asked) {
      if (odd === 'slow') await new Promise(() => {})
      if (odd === 'failing') throw unreachable()
      const listed = odd === 'empty' ? [] : odd === 'newer' ? newerModels : models
      return {
        models:
          odd === 'offline'
            ? listed.map((model) => ({ ...model, kept: true, peers: undefined }))
            : listed,
        ...{ asked, listed: listed.length, total: listed.length },
        answered: odd === 'offline' ? 0 : 3,
        at: Date.now() - (odd === 'offline' ? 7_200_000 : 0),
      }
    },
    async openVersion(reference, _via, { onProgress }) {
      if (odd === 'broken' || reference === 'nothing') throw notFound(reference)
      const manifest = reference === tableCid ? flowers : digits
      for (let bytes = 0; bytes <= 4; bytes++) {
        onProgress({ bytes: bytes * 51_000, total: 204_000, providers: 2 })
        await wait(odd === 'slow' ? 60_000 : 30)
      }
      return {
        cid: reference,
        genesis: manifest === flowers ? tableCid : genesis,
        manifest,
        readme,
        modelJson: '{}',
        params: new Uint8Array(203_560),
        frozen: new Uint8Array(0),
        // Of a size that is measured when a person asks for it, where that takes long.
        demand: { memoryBytes: 2_450_000, multiplyAdds: odd === 'long' ? 2 ** 31 : 9_800_000 },
      }
    },
    async *ancestorsOf({ manifest }) {
      await wait(odd === 'slow' ? 60_000 : 30)
      const [parent] = manifest.parents
      if (parent === undefined) return
      yield { cid: parent, number: '1.1.0', accuracy: 0.893 }
      if (odd === 'newer') throw notFound(before)
      yield { cid: before, number: '1.0.1', accuracy: 0.871 }
      yield { cid: genesis, number: '1.0.0', accuracy: undefined }
    },
    async sampleOf({ manifest }) {
      await wait(200)
      return sample(manifest)
    },
    async measure(_, { onProgress, signal }) {
      if (odd === 'failing') throw tooLarge()
      if (odd === 'long') {
        onProgress({ of: 'device', done: 1, total: 3 })
        await new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason))
        })
      }
      await wait(50)
      return { backend: 'engine', msPerStep: 1.4, remarks: [] }
    },
    async train(version, { examples, resume, pace = 1, swapping = true }) {
      await wait(200)
      const round = resume ? rounds : 0
      const start = { round, alone: odd === 'alone', long: odd === 'long', pace, swapping }
      return pretend(version, examples, start, (round) => {
        rounds = round
      })
    },
    async predictor({ manifest }) {
      const classes = manifest.output.labels.length
      return { predict: async (_, size) => guesses(size, classes, 3), close() {} }
    },
    async versions() {
      if (odd === 'failing') throw unreachable()
      return here
    },
    async freeVersion(cid) {
      await wait(100)
      here = here.filter((version) => version.cid !== cid)
    },
    async runs() {
      if (odd === 'failing') throw unreachable()
      if (odd === 'damaged') return [damagedRun]
      if (rounds === 0) return []
      return [
        {
          genesis,
          title: digits.title,
          version: genesis,
          rounds,
          at: Date.now() - 90_000,
          bytes: 410_000,
        },
      ]
    },
    keptParams: async ({ params }) => (rounds === 0 ? undefined : params),
    async forgetRun() {
      rounds = 0
    },
    owner: async () => owner,
    async exportOwner(passphrase) {
      await wait(800)
      if (passphrase.length < 10) throw weakPassphrase(passphrase)
      owner = network.peer
      return { name: 'mlstore-owner-pretended.json', text: '{}' }
    },
    async importOwner(file, passphrase) {
      await wait(800)
      if (passphrase !== 'correct horse battery' || file.size === 0) throw wrongPassphrase()
      owner = others[0][0]
      return owner
    },
  }
}

interface Start {
  round: number
  alone: boolean
  /** A round takes seconds, and so does a swap. */
  long: boolean
  pace: number
  swapping: boolean
}

function pretend(
  version: OpenVersion,
  examples: Examples,
  { round: start, alone: lonely, long, pace, swapping }: Start,
  keep: (round: number) => void,
): Run {
  const random = randomFrom(1)
  const labels = version.manifest.output.labels
  const split = splitRows(examples.size, 0.1, random)
  let over = false
  let paused = false
  let round = start
  const traffic = { up: 0, down: 0 }
  async function* reports(): AsyncGenerator<Report> {
    yield phaseReport('fetching')
    yield phaseReport('connecting')
    await wait(300)
    yield { ev: 'peers', count: lonely ? 0 : 3, direct: lonely ? 0 : 3 }
    let told = ''
    while (!over) {
      const alone = lonely || !swapping
      const phase = paused ? 'paused' : alone ? 'training-alone' : 'training'
      if (phase !== told) yield phaseReport(phase)
      told = phase
      await wait(150 / pace)
      if (paused) continue
      if (long) yield* slowly(others[0][0])
      round++
      keep(round)
      const loss = 2.2 * Math.exp(-round / 14) + 0.18 + 0.06 * random()
      yield { ev: 'round', round, steps: 10 * round, loss, samples: 640 }
      const trained = 0.94 - 0.7 * Math.exp(-round / 9) - 0.05 * random()
      yield evaluation(round, 'trained', trained, loss + 0.1)
      if (alone) continue
      const [peer, path] = others[round % 3]!
      if (round % 11 === 0) {
        yield { ev: 'swap-failed', round, with: peer, reason: 'no answer within 10 s' }
      } else {
        traffic.up += 51_000
        traffic.down += 51_000
        yield {
          ev: 'swap',
          round,
          with: peer,
          path,
          bytesUp: 51_000,
          bytesDown: 51_000,
          distance: 0.1,
        }
      }
      const averaged = Math.min(0.97, trained + 0.03 + 0.02 * random())
      yield evaluation(round, 'averaged', averaged, loss)
    }
    yield {
      ev: 'stopped',
      reason: 'stopped by its user',
      rounds: round,
      bytesUp: traffic.up,
      bytesDown: traffic.down,
    }
  }
  return {
    reports: reports(),
    view: {
      backend: 'engine',
      msPerStep: 1.4,
      remarks: ['webgl is not used: its step takes 4.90 ms, that of engine 1.40 ms'],
      resumed: start > 0,
      rounds: 0,
      data: reportOf('imagefolder', examples, labels, split, { list: [], count: 0 }),
    },
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
    },
    finish: () => {
      over = true
    },
    leave: async () => {
      over = true
    },
    setPace: (share) => {
      pace = share
    },
    traffic,
    allowSwaps: (allowed) => {
      swapping = allowed
    },
    predict: async (_, size) => guesses(size, labels.length, 12),
    params: async () => version.params,
  }
}

/** A round of 40 steps that meets a swap of 8 MB. */
async function* slowly(peer: string): AsyncGenerator<Report> {
  for (let done = 1; done < 40; done += 3) {
    yield { ev: 'progress', of: 'round', done, total: 40 }
    yield { ev: 'progress', of: 'swap', with: peer, done: done * 2e5, total: 8e6 }
    await wait(250)
  }
  yield { ev: 'progress', of: 'swap', with: peer, done: 8e6, total: 8e6 }
}

function evaluation(
  round: number,
  at: 'trained' | 'averaged',
  accuracy: number,
  loss: number,
): Report {
  return {
    ev: 'eval',
    round,
    at,
    metrics: { accuracy: Math.max(0, accuracy), loss },
    examples: 500,
  }
}

function guesses(size: number, classes: number, sharpness: number): Float32Array {
  const all = new Float32Array(size * classes)
  for (let row = 0; row < size; row++) {
    const scores = Array.from({ length: classes }, (_, i) =>
      Math.exp(
        sharpness *
          (i === row % classes || (size === 1 && i === 3 % classes) ? 1 : ((i + row) % 4) / 4),
      ),
    )
    const sum = scores.reduce((a, b) => a + b)
    scores.forEach((score, i) => {
      all[row * classes + i] = score / sum
    })
  }
  return all
}

function sample(manifest: Manifest): Examples {
  const random = randomFrom(2)
  const { input, output } = manifest
  const width = input.kind === 'image' ? 784 : input.columns.length
  const collector = collectExamples(width, input.kind === 'image' ? 'pixels' : 'numbers')
  for (let i = 0; i < 500; i++) {
    const label = i % output.labels.length
    const row = Array.from({ length: width }, (_, at) => {
      if (input.kind === 'table') return Math.round(10 * (label + random())) / 10
      const [x, y] = [(at % 28) - 13.5, Math.floor(at / 28) - 13.5]
      const ring = Math.abs(Math.hypot(x, y * (1 - label / 15)) - 7)
      return ring < 1.6 ? Math.round(255 - 60 * ring - 20 * random()) : 0
    })
    collector.add(row, label)
  }
  return collector.finish()
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

const others = [
  ['12D3KooWAnaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaBc1', 'webrtc'],
  ['12D3KooWBobbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbDe2', 'ws'],
  ['12D3KooWCiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaFg3', 'webrtc-direct'],
] as const

const network: NetworkView = {
  phase: 'online',
  peer: '12D3KooWMeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeHi4',
  addresses: [
    '/ip4/127.0.0.1/tcp/4002/ws/p2p/12D3KooWBobbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbDe2/p2p-circuit/webrtc/p2p/12D3KooWMeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeHi4',
  ],
  joined: [
    '/dns4/peers.example.org/tcp/443/wss/p2p/12D3KooWBobbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbDe2',
  ],
  registries: 3,
  introducers: 2,
  isOnline: true,
  peers: others.map(([peer, path], i) => ({
    ...{ peer, path, rttMs: i === 2 ? undefined : 3 + 28 * i },
    roles: i === 1 ? ['introduces', 'lists'] : ['lists'],
  })),
}

function checksOf(isOffline: boolean): Check[] {
  const [first, second] = others.map(([peer]) => peer)
  const local: Check[] = [
    { check: 'webrtc', state: 'ok', ms: 84 },
    { check: 'home', state: 'ok', ms: 3 },
    { check: 'backend', state: 'ok', ms: 12 },
  ]
  if (isOffline) {
    const { nobody, noPlace } = text.selfTest
    return [
      { check: 'listing', state: 'failed', ms: 0, fault: nobody.listing },
      { check: 'ping', state: 'failed', ms: 0, fault: nobody.ping },
      { check: 'relay', state: 'failed', ms: 0, fault: noPlace },
      ...local,
    ]
  }
  const fault = text.selfTest.failed.ping(text.selfTest.late(5))
  return [
    { check: 'listing', peer: second!, state: 'ok', ms: 31, count: 2 },
    { check: 'ping', peer: first!, state: 'ok', ms: 4 },
    { check: 'ping', peer: second!, state: 'failed', ms: 5_000, fault },
    { check: 'relay', state: 'ok', ms: 412, path: 'webrtc' },
    ...local,
  ]
}

const offline: NetworkView = {
  ...network,
  phase: 'offline',
  addresses: [],
  registries: 0,
  introducers: 0,
  isOnline: false,
  peers: [],
}

const closed: NetworkView = {
  ...network,
  addresses: [],
  registries: 1,
  introducers: 0,
  peers: network.peers.filter(({ path }) => path === 'webrtc'),
}

const before = 'bafybeibefore2digits2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
const genesis = 'bafybeigenesis2digits2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
const tableCid = 'bafybeigenesis2flowers2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'

const versionsHere: VersionHere[] = [
  {
    ...{ cid: genesis, genesis, title: 'Handwritten digits', number: '1.2.0', bytes: 205_660 },
    ...{ at: Date.now() - 7_200_000, listed: true, isDamaged: false },
  },
  {
    ...{ cid: before, genesis, title: 'digits', number: '1.0.1', bytes: 205_660 },
    ...{ at: undefined, listed: false, isDamaged: true },
  },
]

const damagedRun: KeptRun = {
  ...{ genesis, title: 'Handwritten digits', version: genesis, rounds: 0 },
  ...{ at: Date.now() - 86_400_000, bytes: 410_000, damage: 'cut short in its facts' },
}

const digits: Manifest = {
  manifest: 1,
  name: 'digits',
  version: '1.2.0',
  title: 'Handwritten digits',
  description: 'Reads one handwritten digit, 28 x 28 pixels, light on dark.',
  license: 'Apache-2.0',
  tags: ['digits', 'mnist', 'sample'],
  owner: network.peer,
  genesis,
  parents: ['bafybeiparent2digits2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
  task: 'image-classification',
  input: { kind: 'image', shape: [28, 28, 1], dtype: 'float32' },
  output: { kind: 'classes', labels: Array.from({ length: 10 }, (_, digit) => String(digit)) },
  preprocess: [{ op: 'scale', multiply: 1 / 255 }],
  train: {
    loss: 'categoricalCrossentropy',
    optimizer: { name: 'sgd', learningRate: 0.2 },
    momentum: 0.9,
    batchSize: 64,
    stepsPerRound: 10,
    validation: 0.1,
    seed: 1,
    metrics: ['accuracy', 'loss'],
  },
  gossip: { rule: 'swap', codec: 'int8', swapsPerRound: 2 },
  data: { accept: ['csv', 'imagefolder'], label: 'label', eval: 'eval/digits.csv' },
  tensors: [
    { name: 'hidden/kernel', shape: [784, 64], role: 'trainable' },
    { name: 'hidden/bias', shape: [64], role: 'trainable' },
    { name: 'digit/kernel', shape: [64, 10], role: 'trainable' },
    { name: 'digit/bias', shape: [10], role: 'trainable' },
  ],
  files: [
    { path: 'model.json', bytes: 2_100, sha256: '0'.repeat(64) },
    { path: 'group1-shard1of1.bin', bytes: 203_560, sha256: '0'.repeat(64) },
  ],
  metrics: { accuracy: 0.912, loss: 0.31, examples: 500 },
}

const flowers: Manifest = {
  ...digits,
  name: 'flowers',
  version: '1.0.0',
  title: 'Flowers by their measures',
  description: 'Tells three irises apart by four lengths.',
  tags: ['flowers', 'table'],
  genesis: undefined,
  parents: [],
  task: 'tabular-classification',
  input: {
    kind: 'table',
    columns: ['sepal length', 'sepal width', 'petal length', 'petal width'],
    dtype: 'float32',
  },
  output: { kind: 'classes', labels: ['setosa', 'versicolor', 'virginica'] },
  preprocess: [],
  data: { accept: ['csv'], label: 'species', sample: 'sample.csv' },
  metrics: undefined,
}

function listedAs(
  manifest: Manifest,
  cid: string,
  version: string,
  peers: number | undefined,
): ListedModel {
  return {
    listing: undefined,
    name: manifest.name,
    title: manifest.title,
    task: manifest.task,
    tags: manifest.tags ?? [],
    labels: manifest.output.labels,
    genesis: cid,
    version,
    manifestVersion: manifest.version,
    bytes: 205_660,
    peers,
    kept: false,
    issuedAt: Date.now() - 3_600_000 * (1 + (peers ?? 40)),
  }
}

const models: ListedModel[] = [
  listedAs(digits, genesis, 'bafybeiversion2digits2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 3),
  listedAs(flowers, tableCid, tableCid, 0),
]

/** The first of them has a version that is later than the one that is opened. */
const newerModels = models.map((model, i) =>
  i === 0 ? { ...model, manifestVersion: '1.3.0' } : model,
)

const readme = `---
license: apache-2.0
---
# Handwritten digits

The sample model of ML-Store: one hidden layer of 64 units that reads a handwritten digit.

- **Takes** 28 x 28 pixels, light ink on dark paper
- **Gives** one of ten labels, 0 to 9

<img src=x onerror="alert(1)"> [a link](javascript:alert(1)) and [a good one](https://example.org/)
`

function wrongAddress(address: string): Fault {
  return new Fault({
    kind: 'usage',
    type: 'wrong-address',
    address,
    message: `${JSON.stringify(address)} is no multiaddr`,
    hint: 'paste an address as mlstore prints it: /ip4/.../p2p/12D3...',
  })
}

function unreachable(): Fault {
  return new Fault({
    kind: 'network',
    type: 'no-registry',
    registries: 2,
    message: 'none of 2 peers that list models answered within 15 s',
    hint: 'check your connection, or paste the address of a peer under Network',
  })
}

function tooLarge(): Fault {
  return new Fault({
    kind: 'verification',
    type: 'too-much-memory',
    ...{ memoryBytes: 3100e6, limitBytes: 1074e6, layer: 'hidden (Dense)', threads: 1 },
    message:
      'training this model takes about 3100 MB, expected at most 1074 MB; the largest layer is hidden (Dense)',
    hint: 'close other programs, or train it on a device with more memory',
  })
}

function weakPassphrase({ length }: string): Fault {
  return new Fault({
    kind: 'usage',
    type: 'weak-passphrase',
    length,
    least: 10,
    message: `the passphrase has ${length} characters, expected at least 10`,
    hint: 'take several words: whoever gets hold of the file may try as long as they like',
  })
}

function wrongPassphrase(): Fault {
  return new Fault({
    kind: 'verification',
    type: 'wrong-passphrase',
    owner: network.peer,
    message: 'the passphrase does not open this key, or the file was changed since it was written',
    hint: 'type it as it was when the key was exported',
  })
}

function notFound(reference: string): Fault {
  return new Fault({
    kind: 'not-found',
    type: 'artifact-not-found',
    cid: reference,
    waitedMs: 60_000,
    peers: 3,
    message: `nobody in reach has ${reference.slice(0, 12)}…; waited 60 s`,
    hint: 'ask who sent the link to keep a peer running',
  })
}
