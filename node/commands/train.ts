import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Fault } from '../../protocol/errors.ts'
import type { Learner, Ready, Swarm } from '../../protocol/index.ts'
import type { Listing } from '../../protocol/listing.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import type { StoredVersion } from '../../protocol/ports/store.ts'
import {
  type BackendName,
  backendNames,
  type WorkerEvent,
  type WorkerInit,
} from '../../protocol/ports/trainer/commands.ts'
import { isLongAway, roundMsOf } from '../../protocol/ports/trainer/round.ts'
import { randomFrom } from '../../protocol/random.ts'
import { phaseReport, type Report } from '../../protocol/report.ts'
import {
  type CommandSpec,
  type Context,
  readChoice,
  readCount,
  readDuration,
  shared,
} from '../command.ts'
import { deviceText, timeText } from '../device.ts'
import type { Host } from '../host.ts'
import { kindOf } from '../place.ts'

/** `mlstore train`: one peer of a swarm, from the model's name to the last checkpoint. */
export const train: CommandSpec = {
  arguments: '<model>',
  options: [
    {
      flags: '--data <path>',
      text: 'a folder with one folder per label, or a CSV file with a header',
      required: true,
    },
    {
      flags: '--rounds <n>',
      text: 'stop after n rounds of training (default: the recipe says, unless --for does)',
      read: readCount(1),
    },
    {
      flags: '--for <time>',
      text: 'stop training after a while: 90s, 10m, 2h',
      read: readDuration,
    },
    { flags: '--no-swap', text: 'train alone, without averaging: a control' },
    {
      flags: '--swaps-per-round <n>',
      text: 'swaps offered and accepted per round (default: the recipe)',
      read: readCount(1),
    },
    {
      flags: '--backend <name>',
      text: 'auto, engine, engine-plain (same bits everywhere), wasm, cpu, or tfjs-node where you installed it',
      read: readChoice([...backendNames]),
      default: 'auto',
    },
    shared.threads,
    {
      flags: '--intensity <percent>',
      text: 'share of the time that training takes: it rests between steps (default: 100)',
      read: readCount(1, 100),
    },
    shared.maxMemory,
    {
      flags: '--seed <n>',
      text: 'seed of the order of your data (default: at random)',
      read: readCount(0),
    },
    { flags: '--fresh', text: 'start anew instead of from the checkpoint' },
    shared.listen,
    shared.join,
    shared.home,
    shared.timeout,
  ],
  examples: [
    'mlstore train digits --data ./mine --join /ip4/127.0.0.1/tcp/4001/p2p/12D3...',
    'mlstore train digits --data digits.csv --for 10m --threads 2',
    'mlstore train bafybei... --data digits.csv --rounds 50 --json',
  ],
  async run(context) {
    const { options, print } = context
    const data = String(options.data)
    await kindOf(data)
    // The thread loads its libraries while we load ours and start the network.
    const worker = await openWorker((event) =>
      screen.show(phaseReport(event.of === 'device' ? 'checking-device' : 'preparing', event)),
    )
    const { createLive } = await import('../live.ts')
    const live = await createLive(print)
    const screen: Screen = {
      note: live.note,
      show(report) {
        print.event(report)
        live.take(report)
      },
    }
    screen.show(phaseReport('checking-device'))
    const { withHost } = await import('../open.ts')
    try {
      await withHost(context, (host) => trainOn(context, host, { path: data, worker }, screen))
    } catch (error) {
      if (!context.signal.aborted || error instanceof Fault) screen.show(phaseReport('failed'))
      throw error
    } finally {
      live.end()
      await worker.close()
    }
  },
}

/** Where a run is shown: reports to programs and to the live block, notes to the person. */
interface Screen {
  show(report: Report): void
  note(text: string): void
}

/** The learner loads data and measures a step within this, or something is wrong with it. */
const READY_MS = 10 * 60_000
/** Its last checkpoint. */
const GOODBYE_MS = 30_000

interface Own {
  /** The user's data. */
  path: string
  worker: OpenWorker
}

async function trainOn(
  context: Context,
  host: Host,
  { path, worker }: Own,
  screen: Screen,
): Promise<void> {
  const { options, signal } = context
  const { memoryLimitOf } = await import('../memory.ts')
  const memoryBytes = memoryLimitOf(options)
  const version = await fetchVersion(context, host, memoryBytes, screen)
  const { manifest, checked, cid } = version
  const genesis = manifest.genesis ?? cid
  const checkpointPath = join(host.home.checkpoints, genesis)
  const awayMs = await ageOf(checkpointPath)
  const { dataFilesOf } = await import('../../protocol/ports/version.ts')
  const evalFiles = await dataFilesOf(checked, version, 'eval')
  const { device, ready } = worker.begin(signal, {
    manifest,
    genesis,
    version: cid,
    modelJson: checked.modelJson,
    params: checked.params,
    frozen: checked.frozen,
    data: { path },
    evalFiles,
    seed: (options.seed as number | undefined) ?? randomBytes(4).readUInt32LE(),
    checkpointPath,
    resume: options.fresh !== true,
    backend: options.backend as BackendName,
    threads: options.threads as number | undefined,
    memoryBytes,
  })
  const [found] = await Promise.all([device, import('../../protocol/index.ts')])
  showDevice(found, manifest, screen)
  const intensity = options.intensity as number | undefined
  if (intensity !== undefined)
    screen.note(`          rests between steps, which take ${intensity} % of the time`)
  const shown = ready.then((ready) => {
    showReady(ready, { path, rounds: roundsOf(options, manifest) }, screen)
    return ready
  })
  shown.catch(() => {}) // it may fail before the swarm, which throws it to us, listens
  const { learner } = worker
  await swarmOn(
    context,
    host,
    { version, genesis, learner, ready: shown, awayMs, checkpointPath },
    screen,
  )
  await Promise.race([
    worker.ended,
    new Promise((resolve) => setTimeout(resolve, GOODBYE_MS).unref()),
  ])
}

/** What computes, and how long a round takes: said before the swarm is joined, so that a person may think better of it. */
function showDevice(
  { backend, threads, msPerStep, remarks }: Device,
  manifest: Manifest,
  screen: Screen,
) {
  const { stepsPerRound, batchSize } = manifest.train
  const roundMs = roundMsOf(manifest, msPerStep)
  const secondsPerRound = Number((roundMs / 1000).toPrecision(3))
  screen.show({ ev: 'device', backend, threads, secondsPerRound, remarks: [...remarks] })
  const steps = Math.max(stepsPerRound, Math.round(roundMs / msPerStep))
  screen.note(
    `device    ${deviceText({ backend, threads })}: a step of ${batchSize} examples takes ${timeText(msPerStep)}, a round of ${steps} steps ${timeText(roundMs)}`,
  )
  for (const remark of remarks) screen.note(`          ${remark}`)
}

/** Rounds of our own: what the user says, else the recipe; undefined where neither does. */
function roundsOf(options: Context['options'], { train }: Manifest): number | undefined {
  if (options.rounds !== undefined) return Number(options.rounds)
  return options.for === undefined ? train.stop?.rounds : undefined
}

/** What was read, and where it goes on. */
function showReady(
  ready: Ready,
  { path, rounds }: { path: string; rounds: number | undefined },
  screen: Screen,
): void {
  const { read, skippedCount, labels, train: training, validation, skipped } = ready.data
  screen.show({ ev: 'data', read, skipped: skippedCount, labels, train: training, validation })
  screen.note(
    `data      ${path}: ${read} examples (${training} to train, ${validation} to validate), ${skippedCount} skipped${ready.resumed ? `; goes on from round ${ready.rounds}` : ''}`,
  )
  for (const { item, reason } of skipped.slice(0, 5))
    screen.note(`          skipped ${item}: ${reason}`)
  if (rounds !== undefined && ready.rounds >= rounds) {
    screen.note(
      `          the checkpoint has ${ready.rounds} rounds already: give a larger --rounds, or --fresh to start anew`,
    )
  }
}

interface Run {
  version: StoredVersion
  genesis: string
  learner: Learner
  ready: Promise<Ready>
  awayMs: number
  checkpointPath: string
}

async function swarmOn({ args, options, signal }: Context, host: Host, run: Run, screen: Screen) {
  const [{ joinSwarm, systemClock }, { introductionsOf }, { newestKnown }] = await Promise.all([
    import('../../protocol/index.ts'),
    import('../../protocol/ports/presence.ts'),
    import('../../protocol/ports/release.ts'),
  ])
  const { manifest } = run.version
  const swarm = await joinSwarm({
    manifest,
    genesis: run.genesis,
    version: run.version.cid,
    libp2p: host.libp2p,
    introductions: introductionsOf(host),
    learner: run.learner,
    addresses: host.addresses,
    ready: run.ready,
    onSubscribed: () =>
      screen.show({
        ev: 'joined',
        run: randomBytes(4).toString('hex'),
        peer: host.libp2p.peerId.toString(),
        model: String(args[0]),
        version: run.version.cid,
      }),
    clock: systemClock,
    random: randomFrom(randomBytes(6).readUIntLE(0, 6)),
    freshNonce: () => randomBytes(16).toString('hex'),
    key: host.home.peerKey,
    rounds: roundsOf(options, manifest),
    swap: options.swap !== false,
    ...(options.intensity !== undefined && { pace: Number(options.intensity) / 100 }),
    adopt: ({ msPerStep }) => isLongAway(run.awayMs, manifest, msPerStep),
    swapsPerRound: options.swapsPerRound as number | undefined,
    released: newestKnown(host, run.version),
    onRelease: (listing, bytes) => keptRelease(host, listing, bytes, screen.note),
  })
  const onSignal = () => void swarm.leave('interrupted')
  if (signal.aborted) onSignal()
  signal.addEventListener('abort', onSignal, { once: true })
  const ears = listenToWords(swarm)
  const limit = options.for as number | undefined
  const timer = limit === undefined ? undefined : setTimeout(() => swarm.finish(), limit)
  try {
    for await (const report of swarm.reports) {
      screen.show(report.ev === 'stopped' ? { ...report, checkpoint: run.checkpointPath } : report)
      if (report.ev !== 'stopped') continue
      screen.show(phaseReport('stopped'))
      if (report.lostDoubts) screen.note(lostText(report.lostDoubts))
    }
  } finally {
    clearTimeout(timer)
    ears.close()
    signal.removeEventListener('abort', onSignal)
  }
}

function lostText(count: number): string {
  return `${count} ${count === 1 ? 'swap' : 'swaps'} ended in doubt: the other side may have moved by it, and this one did not`
}

/** What another program may ask of a run, one word a line on its stdin: pause, resume, finish, leave. */
function listenToWords(swarm: Swarm): { close(): void } {
  if (process.stdin.isTTY) return { close: () => {} }
  const words: Record<string, () => void> = {
    pause: swarm.pause,
    resume: swarm.resume,
    finish: swarm.finish,
    leave: () => void swarm.leave('asked to leave'),
  }
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => {
    const word = line.trim()
    if (Object.hasOwn(words, word)) words[word]!()
  })
  // A closed stdin is no wish: many programs are started with none.
  process.stdin.on('error', () => {})
  return {
    close() {
      lines.close()
      process.stdin.unref?.()
    },
  }
}

/** A release by the model's owner, kept and served from now on; what came of it goes to the person. */
async function keptRelease(
  host: Host,
  listing: Listing,
  bytes: Uint8Array,
  note: (text: string) => void,
): Promise<boolean> {
  const { keepRelease } = await import('../../protocol/ports/release.ts')
  try {
    await keepRelease(host, listing, bytes, AbortSignal.timeout(READY_MS))
    note(`keeps and serves the release ${listing.version}`)
    return true
  } catch (error) {
    note(`could not fetch the release ${listing.version}: ${(error as Error).message}`)
    return false
  }
}

/** Finds and fetches the version, as reports; what it is goes to the person. */
async function fetchVersion(
  context: Context,
  host: Host,
  memoryBytes: number,
  screen: Screen,
): Promise<StoredVersion> {
  const { args } = context
  const { fetchModel } = await import('../open.ts')
  const { plain } = await import('../../protocol/ports/plain.ts')
  screen.show(phaseReport('fetching'))
  let said = -1
  const { version } = await fetchModel(context, host, String(args[0]), {
    memoryBytes,
    onProgress({ bytes, total, providers }) {
      if (bytes === said) return
      said = bytes
      screen.show({ ev: 'fetch', bytes, total, providers })
    },
  })
  const { title, version: number, license, owner } = version.manifest
  screen.note(`model     ${plain(title)} ${number}  ${version.cid}`)
  screen.note(`          ${plain(license)}, signed by …${owner.slice(-8)}`)
  return version
}

interface OpenWorker {
  learner: Learner
  /** Gives its `device` and its `ready`; rejects when it fails, when we are told to stop, and after READY_MS. */
  begin(signal: AbortSignal, init: WorkerInit): { device: Promise<Device>; ready: Promise<Ready> }
  ended: Promise<void>
  close(): Promise<void>
}

type Device = Extract<WorkerEvent, { type: 'device' }>

/** The worker's thread, and who listens to it: what comes up to `ready` is for us, the rest for the swarm. */
async function openWorker(
  onProgress: (event: Extract<WorkerEvent, { type: 'progress' }>) => void,
): Promise<OpenWorker> {
  const { openLearner } = await import('../learner.ts')
  const device = Promise.withResolvers<Device>()
  const ready = Promise.withResolvers<Ready>()
  // Thrown to who begins.
  device.promise.catch(() => {})
  ready.promise.catch(() => {})
  const reject = (why: unknown) => {
    device.reject(why)
    ready.reject(why)
  }
  let listener: ((event: WorkerEvent) => void) | undefined
  const early: WorkerEvent[] = []
  const { begin, send, ended, close } = openLearner((event) => {
    if (event.type === 'device') return device.resolve(event)
    if (event.type === 'progress' && !listener) return onProgress(event)
    if (event.type === 'ready') return ready.resolve(event)
    if (event.type === 'failed') reject(new Fault(event.detail))
    if (listener) listener(event)
    else early.push(event)
  })
  return {
    learner: {
      send,
      listen(next) {
        listener = next
        for (const event of early.splice(0)) next(event)
      },
    },
    begin(signal, init) {
      const onAbort = () => reject(signal.reason)
      if (signal.aborted) onAbort()
      signal.addEventListener('abort', onAbort)
      const timer = setTimeout(() => reject(notReady()), READY_MS)
      const over = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
      }
      ready.promise.then(over, over)
      begin(init)
      return { device: device.promise, ready: ready.promise }
    },
    ended,
    close,
  }
}

function notReady(): Fault {
  return new Fault({
    kind: 'unexpected',
    type: 'worker-not-ready',
    message: `the training thread was not ready after ${READY_MS / 60_000} minutes`,
    hint: 'try less data, or a smaller model',
  })
}

/** Milliseconds since a checkpoint was written; 0 when there is none. */
async function ageOf(path: string): Promise<number> {
  const times = await Promise.all(
    [path, `${path}.old`].map((file) =>
      stat(file).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    ),
  )
  const newest = Math.max(...times)
  return newest === 0 ? 0 : Date.now() - newest
}
