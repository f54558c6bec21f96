import type { Fault } from '../protocol/errors.ts'
import { joinSwarm, type Ready, systemClock } from '../protocol/index.ts'
import type { Listing } from '../protocol/listing.ts'
import { type HeldVersion, introductionsOf } from '../protocol/ports/presence.ts'
import { keepRelease, newestKnown } from '../protocol/ports/release.ts'
import type { StoredVersion } from '../protocol/ports/store.ts'
import { isLongAway } from '../protocol/ports/trainer/round.ts'
import { dataFilesOf } from '../protocol/ports/version.ts'
import { randomFrom } from '../protocol/random.ts'
import type { Report } from '../protocol/report.ts'
import { bestBackend } from './abilities.ts'
import { checkpointedAt } from './checkpoint.ts'
import type { Host } from './host.ts'
import { announceKept } from './kept.ts'
import { type RunningLearner, startLearner } from './learner.ts'
import { takeLock } from './lock.ts'
import { startPredictor } from './predictor.ts'
import type { Run, TrainOptions } from './services.ts'
import { pageFault } from './words.ts'

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
  version: StoredVersion,
  { rounds, pace, swapping }: TrainOptions,
  { learner, genesis, at, release }: Started,
): Promise<Run> {
  const { manifest, checked, cid } = version
  const awayMs = at === undefined ? 0 : Date.now() - at
  const limitOf = ({ rounds: done }: Ready) => rounds && limitFrom(done, rounds)
  const serving = servingOf(host, { cid, genesis })
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
    rounds: limitOf,
    ...(pace !== undefined && { pace }),
    ...(swapping !== undefined && { swapping }),
    adopt: ({ msPerStep }) => isLongAway(awayMs, manifest, msPerStep),
    released: newestKnown(host, version),
    onRelease: serving.keep,
  })
  const found = await ready
  const { backend, msPerStep, remarks, resumed, data } = found
  const predictor = lazy(async () => startPredictor(checked, await learner.params()))
  return {
    reports: reports(),
    view: { backend, msPerStep, remarks, resumed, rounds: limitOf(found) ?? 0, data },
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
      serving.announce()
      await predictor.made()?.then(
        (running) => running.close(),
        () => {},
      )
    }
  }
}

/** A limit that was reached is behind: who goes on after 30 of 30 rounds wants as many again. */
function limitFrom(done: number, rounds: number): number {
  return rounds * (Math.floor(done / rounds) + 1)
}

/** What of a model this page serves: the version that a run began with, and then the last release that it kept. */
function servingOf(host: Host, { cid, genesis }: HeldVersion) {
  let held = cid
  let isAnnouncing = false // a run's own card names it
  const announce = () => {
    isAnnouncing = true
    // The person may have freed it while the run went on.
    void announceKept(host, genesis, held).catch(() => undefined)
  }
  return {
    announce,
    async keep(listing: Listing, bytes: Uint8Array): Promise<boolean> {
      try {
        await keepRelease(host, listing, bytes, AbortSignal.timeout(RELEASE_MS))
      } catch {
        return false // who asks for it next tries again, and hears why not
      }
      held = listing.version
      if (isAnnouncing) announce()
      return true
    },
  }
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
