import type { Fault } from '../protocol/errors.ts'
import { joinSwarm, systemClock } from '../protocol/index.ts'
import { introductionsOf } from '../protocol/ports/presence.ts'
import type { StoredVersion } from '../protocol/ports/store.ts'
import { dataFilesOf } from '../protocol/ports/version.ts'
import { randomFrom } from '../protocol/random.ts'
import type { Report } from '../protocol/report.ts'
import { bestBackend } from './abilities.ts'
import { checkpointedAt } from './checkpoint.ts'
import type { Host } from './host.ts'
import { type RunningLearner, startLearner } from './learner.ts'
import { takeLock } from './lock.ts'
import { startPredictor } from './predictor.ts'
import type { Run, TrainOptions } from './services.ts'
import { pageFault } from './words.ts'

/** A run that was away for more than this many rounds' time pulls a live peer's state. */
const ROUNDS_AWAY = 20
const ROUND_MS = 250
/** Of a page, which pays for each in battery and memory; a bootstrap and who seeds a model come to these. */
const LINK_LIMIT = 9
/** The learner loads data and measures a step within this, or something is wrong with it. */
const READY_MS = 5 * 60_000
/** Its last checkpoint. */
const GOODBYE_MS = 30_000
/** Fetching a release to keep and serve it. */
const RELEASE_MS = 10 * 60_000

/** Joins a version's swarm and trains. Throws Fault `already-training` when another tab of this profile does. */
export async function startRun(
  host: Host,
  version: StoredVersion,
  options: TrainOptions,
): Promise<Run> {
  const release = await takeLock('mlstore-training')
  if (!release) throw alreadyTraining()
  let learner: RunningLearner | undefined
  try {
    const { manifest, checked, cid } = version
    const genesis = manifest.genesis ?? cid
    const { examples, format, skips, from, onKept = () => {}, onPreparing = () => {} } = options
    const resume = options.resume && !from
    const at = resume ? await checkpointedAt(genesis) : undefined
    learner = startLearner(
      {
        type: 'learn',
        title: manifest.title,
        own: { examples, format, skips },
        init: {
          manifest,
          genesis,
          version: cid,
          modelJson: checked.modelJson,
          params: (from ?? checked.params).slice(),
          frozen: checked.frozen,
          data: { path: 'this page' },
          evalFiles: await dataFilesOf(checked, version, 'eval'),
          seed: randomBelow(2 ** 32),
          checkpointPath: genesis,
          resume,
          backend: bestBackend(),
        },
      },
      { onKept, onPreparing },
    )
    return await join(host, version, options, { learner, genesis, at, release })
  } catch (error) {
    learner?.close()
    release()
    throw error
  }
}

interface Started {
  learner: RunningLearner
  genesis: string
  /** When its checkpoint was written, milliseconds since 1970. */
  at: number | undefined
  release: () => void
}

async function join(
  host: Host,
  { manifest, checked, cid }: StoredVersion,
  { rounds, pace, swapping }: TrainOptions,
  { learner, genesis, at, release }: Started,
): Promise<Run> {
  const awayMs = at === undefined ? 0 : Date.now() - at
  host.yieldCard(genesis)
  const ready = within(learner.ready, READY_MS)
  const swarm = await joinSwarm({
    manifest,
    genesis,
    version: cid,
    libp2p: host.libp2p,
    introductions: introductionsOf(host),
    learner,
    addresses: host.addresses,
    ready,
    clock: systemClock,
    random: randomFrom(randomBelow(2 ** 48)),
    freshNonce,
    linkLimit: LINK_LIMIT,
    hasRoom: host.hasRoom,
    key: host.home.peerKey,
    rounds,
    ...(pace !== undefined && { pace }),
    ...(swapping !== undefined && { swapping }),
    adopt: ({ msPerStep }) => {
      const { strict, stepsPerRound } = manifest.train
      const roundMs = Math.max(strict ? 0 : ROUND_MS, stepsPerRound * msPerStep)
      return awayMs > ROUNDS_AWAY * Math.max(ROUND_MS, roundMs)
    },
    onRelease: ({ version }, bytes) => void keepRelease(host, version, bytes),
  })
  const { backend, msPerStep, remarks, resumed, data } = await ready
  const predictor = lazy(async () => startPredictor(checked, await learner.params()))
  return {
    reports: reports(),
    view: { backend, msPerStep, remarks, resumed, rounds: rounds ?? 0, data },
    pause: swarm.pause,
    resume: swarm.resume,
    finish: swarm.finish,
    leave: swarm.leave,
    setPace: swarm.pace,
    traffic: swarm.traffic,
    allowSwaps: swarm.allowSwaps,
    async predict(inputs, size) {
      const running = await predictor.get()
      running.load(await learner.params())
      return running.predict(inputs, size).catch((error: unknown) => {
        predictor.drop(running)
        throw error
      })
    },
    params: learner.params,
  }

  async function* reports(): AsyncGenerator<Report> {
    try {
      yield* swarm.reports
    } finally {
      await Promise.race([learner.ended, new Promise((resolve) => setTimeout(resolve, GOODBYE_MS))])
      release()
      void host.announce({ cid, genesis }).catch(() => undefined)
      await predictor.made()?.then(
        (running) => running.close(),
        () => {},
      )
    }
  }
}

/** A release by the model's owner: peers who train keep it and serve it, and pass its listing on. */
async function keepRelease(host: Host, cid: string, listing: Uint8Array): Promise<void> {
  await host.book.put(listing, Date.now()).catch(() => undefined)
  await host.store
    .fetchVersion(cid, { signal: AbortSignal.timeout(RELEASE_MS) })
    .catch(() => undefined) // who asks for it next tries again, and hears why not
}

/** Made at the first use, and made anew at the next once it is dropped or could not be made. */
function lazy<T extends { close(): void }>(make: () => Promise<T>) {
  let made: Promise<T> | undefined
  let current: T | undefined
  return {
    get(): Promise<T> {
      made ??= make().then(
        (one) => {
          current = one
          return one
        },
        (error: unknown) => {
          made = undefined
          throw error
        },
      )
      return made
    },
    drop(one: T) {
      one.close()
      if (one === current) made = undefined
    },
    made: () => made,
  }
}

function within<T>(work: Promise<T>, limitMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout>
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(notReady(limitMs)), limitMs)
  })
  const first = Promise.race([work, late])
  first.then(over, over)
  return first

  function over() {
    clearTimeout(timer)
  }
}

/** A whole number 0 ..< limit, at most 2^48, from the browser's own source. */
function randomBelow(limit: number): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2))
  return ((high! & 0xffff) * 2 ** 32 + low!) % limit
}

function freshNonce(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function alreadyTraining(): Fault {
  return pageFault('resource', 'already-training', {})
}

function notReady(limitMs: number): Fault {
  return pageFault('unexpected', 'worker-not-ready', { waitedMs: limitMs })
}
