import { stat, statfs, unlink, writeFile } from 'node:fs/promises'
import { availableParallelism, freemem } from 'node:os'
import { join } from 'node:path'
import type { Fault, FaultKind } from '../protocol/errors.ts'
import type { Trainer } from '../protocol/ports/trainer/trainer.ts'
import { systemFault } from './command.ts'
import { deviceText, timeText } from './device.ts'
import { sizeText } from './print.ts'

/** What `mlstore doctor` looks at on this machine. Each check ends in one line and, unless all is well, a way out. */
export interface Check {
  check: string
  /** Of a check of another peer. */
  address?: string
  state: 'ok' | 'warn' | 'fail'
  text: string
  fix?: string
  /** Of a failure: what the exit code says. */
  kind?: FaultKind
}

const GIB = 1024 ** 3
/** A model, its checkpoints and a few versions; below the lower limit not even those. */
const DISK_WANTED = 2 * GIB
const DISK_NEEDED = GIB / 4
/** A peer in training takes about 300 MB. */
const MEMORY_WANTED = GIB
const MEMORY_NEEDED = GIB / 4
/** No clock that is right is before the day this was written. */
const CLOCK_FLOOR = Date.UTC(2025, 0, 1)
/** The file system's clock and ours tick together. */
const CLOCK_DIFFERENCE_MS = 60_000
/** Steps timed, of which the quickest counts. */
const TRIAL_STEPS = 5
const OLDEST_NODE = [22, 19] as const

/** Runs one check; what it throws becomes its failure. */
export async function checked(
  check: string,
  work: () => Promise<Omit<Check, 'check'>>,
): Promise<Check> {
  try {
    return { check, ...(await work()) }
  } catch (thrown) {
    return { check, ...failureOf(systemFault(thrown)) }
  }
}

export function failureOf({ detail: { message, hint, kind } }: Fault): Omit<Check, 'check'> {
  return {
    state: 'fail',
    text: message,
    kind,
    fix:
      kind === 'unexpected'
        ? 'run mlstore doctor again with DEBUG=libp2p:* and look at what it says'
        : hint,
  }
}

/** The checks that need no network, in the order they are shown. */
export function machineChecks(home: string): Promise<Check[]> {
  return Promise.all([
    checked('node', nodeVersion),
    checked('clock', clock),
    checked('memory', memory),
    checked('backend', backend),
    homeChecks(home),
  ]).then((found) => found.flat())
}

/** Opening comes first: it makes a home that is not there yet. */
async function homeChecks(home: string): Promise<Check[]> {
  const opened = await checked('home', () => homeOpens(home))
  return [opened, await checked('disk', () => disk(home)), await checked('keys', () => keys(home))]
}

async function nodeVersion(): Promise<Omit<Check, 'check'>> {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const text = `Node ${process.versions.node} on ${process.platform} ${process.arch}`
  if (major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]))
    return { state: 'ok', text }
  const fix = `install Node ${OLDEST_NODE.join('.')} or newer`
  return {
    state: 'fail',
    text: `${text}, expected at least ${OLDEST_NODE.join('.')}`,
    fix,
    kind: 'unexpected',
  }
}

async function clock(): Promise<Omit<Check, 'check'>> {
  const now = new Date()
  if (now.getTime() >= CLOCK_FLOOR) return { state: 'ok', text: `${now.toISOString()}` }
  return {
    state: 'fail',
    kind: 'unexpected',
    text: `the clock says ${now.toISOString()}, which is past`,
    fix: "set this machine's clock: signatures and listings carry dates",
  }
}

async function memory(): Promise<Omit<Check, 'check'>> {
  const free = process.availableMemory?.() ?? freemem()
  return level(
    free,
    MEMORY_WANTED,
    MEMORY_NEEDED,
    `${sizeText(free)} free`,
    'close other programs, or train with --max-memory',
  )
}

async function disk(home: string): Promise<Omit<Check, 'check'>> {
  const { bavail, bsize } = await statfs(home)
  const free = bavail * bsize
  return level(
    free,
    DISK_WANTED,
    DISK_NEEDED,
    `${sizeText(free)} free in ${home}`,
    'free some space, or choose a --home on another disk',
  )
}

function level(
  got: number,
  wanted: number,
  needed: number,
  text: string,
  fix: string,
): Omit<Check, 'check'> {
  if (got >= wanted) return { state: 'ok', text }
  if (got >= needed) return { state: 'warn', text: `${text}, ${sizeText(wanted)} are better`, fix }
  return { state: 'fail', kind: 'resource', text: `${text}, expected ${sizeText(needed)}`, fix }
}

const [INPUTS, HIDDEN, CLASSES, BATCH] = [784, 128, 10, 32] as const
/** A small model for digits: enough to see the backend start, compute, and how fast it trains. */
const smallModel = JSON.stringify({
  modelTopology: {
    class_name: 'Sequential',
    config: {
      layers: [
        dense('hidden', HIDDEN, { activation: 'relu', batch_input_shape: [null, INPUTS] }),
        dense('out', CLASSES, { activation: 'softmax' }),
      ],
    },
  },
  weightsManifest: [
    {
      paths: ['group1-shard1of1.bin'],
      weights: [
        { name: 'hidden/kernel', shape: [INPUTS, HIDDEN], dtype: 'float32' },
        { name: 'hidden/bias', shape: [HIDDEN], dtype: 'float32' },
        { name: 'out/kernel', shape: [HIDDEN, CLASSES], dtype: 'float32' },
        { name: 'out/bias', shape: [CLASSES], dtype: 'float32' },
      ],
    },
  ],
})

function dense(name: string, units: number, settings: object): object {
  return { class_name: 'Dense', config: { name, units, ...settings } }
}

async function backend(): Promise<Omit<Check, 'check'>> {
  const [{ createTrainer }, { sizeOf }] = await Promise.all([
    import('./trainer.ts'),
    import('../protocol/params.ts'),
  ])
  const startedAt = performance.now()
  const trainer = await createTrainer(smallModel, { backend: 'auto', batchSize: BATCH })
  const startMs = Math.round(performance.now() - startedAt)
  try {
    const params = trainer.floats(sizeOf(trainer.tensors))
    trainer.load(params)
    const [found = 0] = trainer.predict(new Float32Array(INPUTS), 1)
    const right = Math.abs(found - 1 / CLASSES) < 1e-6
    const text = `${deviceText(trainer)}, started in ${startMs} ms; a step of ${BATCH} examples of a small model (${INPUTS}-${HIDDEN}-${CLASSES}) takes ${timeText(stepMsOf(trainer, params))}; ${coresText()}`
    if (right) return { state: 'ok', text }
    const fix = 'train with --backend cpu, and please report it with the line above'
    return {
      state: 'fail',
      kind: 'unexpected',
      text: `${text}; but computed ${found} instead of ${1 / CLASSES}`,
      fix,
    }
  } finally {
    trainer.close()
  }
}

/** The quickest of a few: the first compiles. */
function stepMsOf(trainer: Trainer, params: Float32Array): number {
  const gradient = trainer.floats(params.length)
  const inputs = new Float32Array(BATCH * INPUTS).fill(0.5)
  const batch = { inputs, labels: new Int32Array(BATCH), size: BATCH, seed: 0 }
  const times = Array.from({ length: TRIAL_STEPS }, () => {
    const startedAt = performance.now()
    trainer.gradientInto(gradient, params, batch)
    return performance.now() - startedAt
  })
  return Math.min(...times)
}

/** Large models take all cores but one. */
function coresText(): string {
  const cores = availableParallelism()
  const most = Math.max(1, cores - 1)
  return `${cores} ${cores === 1 ? 'core' : 'cores'}, of which a large model takes ${most}`
}

/** Opens and closes the home: its directory, its lock, its key. A clock that differs from the disk's is told too. */
async function homeOpens(dir: string): Promise<Omit<Check, 'check'>> {
  const { openHome } = await import('./home.ts')
  const home = await openHome(dir)
  try {
    const probe = join(dir, `doctor.${process.pid}.tmp`)
    await writeFile(probe, 'x', { mode: 0o600 })
    const { mtimeMs } = await stat(probe)
    await unlink(probe)
    const offMs = Math.abs(mtimeMs - Date.now())
    const text = `${dir} can be written and is not in use`
    if (offMs <= CLOCK_DIFFERENCE_MS) return { state: 'ok', text }
    const fix = 'set the clocks of this machine and of the file server that holds the home'
    return {
      state: 'warn',
      text: `${text}, but its clock differs by ${Math.round(offMs / 1_000)} s`,
      fix,
    }
  } finally {
    await home.close()
  }
}

async function keys(home: string): Promise<Omit<Check, 'check'>> {
  const found: string[] = []
  for (const name of ['peer.key', 'owner.key']) {
    const mode = await stat(join(home, name)).then(
      (file) => file.mode & 0o777,
      () => undefined,
    )
    if (mode === undefined) continue
    if (mode & 0o077 && process.platform !== 'win32') {
      return {
        state: 'warn',
        text: `others may read ${name} (mode ${mode.toString(8)})`,
        fix: `chmod 600 ${join(home, name)}`,
      }
    }
    found.push(name)
  }
  const owner = found.includes('owner.key') ? '' : '; owner.key is made by the first publish'
  return { state: 'ok', text: `${found.join(', ') || 'none yet'}${owner}` }
}
