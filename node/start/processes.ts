import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Fault } from '../../protocol/errors.ts'

/** Real processes of this demonstration: what they say comes as JSON lines, what went wrong as a Fault. */
export interface Program {
  readonly name: string
  /** Each JSON object it prints, in order; ends when its stdout does. */
  lines: AsyncIterable<Record<string, unknown>>
  /** Its exit code; a signal counts as 128 + its number. */
  ended: Promise<number>
  /** A word on its stdin: `finish`, `leave`. */
  tell(word: string): void
  interrupt(): void
  /** `why` becomes the last of its complaints. */
  kill(why?: string): void
  /** The last lines of its stderr, without stacks. */
  complaint(): string
}

const bins = {
  mlstore: fileURLToPath(new URL('../mlstore.js', import.meta.url)),
  bootstrap: fileURLToPath(new URL('../../bootstrap/mlstore-bootstrap.js', import.meta.url)),
  vite: fileURLToPath(new URL('bin/vite.js', import.meta.resolve('vite/package.json'))),
}

/** Any one thing that a program is asked for: to start, publish, release, evaluate, build the page, or to end. */
const STEP_MS = 120_000
/** A peer that trains says something each round; one that says nothing for so many ticks is stuck. */
const SILENT_TICKS = 12
const TICK_MS = 10_000
const COMPLAINT_LINES = 8
const running = new Set<ChildProcess>()

/** Starts one of these bins in a process group of its own: Ctrl-C is ours to pass on. */
export function start(name: string, bin: keyof typeof bins, args: readonly string[]): Program {
  const child = spawn(process.execPath, [bins[bin], ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    // A test runner says otherwise, and Vue's warnings for developers would come into the page: a fifth of its first paint.
    env: { ...process.env, NODE_ENV: 'production' },
  })
  running.add(child)
  const said: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (/^\s+at /.test(line)) return
    said.push(line)
    if (said.length > COMPLAINT_LINES) said.shift()
  })
  // A child that ended while we spoke to it is noticed by its end.
  child.stdin.on('error', () => {})
  const ended = new Promise<number>((resolve) => {
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve(code ?? (signal ? 128 + constants.signals[signal] : 1))
    })
  })
  return {
    name,
    lines: jsonLines(child),
    ended,
    tell: (word) => void child.stdin.write(`${word}\n`),
    interrupt: () => void child.kill('SIGINT'),
    kill(why) {
      if (why) said.push(why)
      child.kill('SIGKILL')
    },
    complaint: () => said.join('\n'),
  }
}

/** Runs one to its end and gives the last object it printed. Throws Fault `step-failed`. */
export async function run(
  name: string,
  bin: keyof typeof bins,
  args: readonly string[],
  limitMs = STEP_MS,
): Promise<Record<string, unknown>> {
  const program = start(name, bin, args)
  let last: Record<string, unknown> = {}
  const read = async () => {
    for await (const line of program.lines) last = line
    return program.ended
  }
  const code = await limited(program, read(), limitMs)
  if (code === 0) return last
  throw failed(program, code, last)
}

/** Asks one to end, and waits for that. */
export async function stop(program: Program): Promise<void> {
  program.interrupt()
  await limited(program, program.ended)
}

/** What a program does, within `limitMs`: killed after that, which ends what waits for it. */
export async function limited<T>(
  program: Program,
  work: Promise<T>,
  limitMs = STEP_MS,
): Promise<T> {
  const timer = setTimeout(
    () => program.kill(`stopped, for it took longer than ${limitMs / 1000} s`),
    limitMs,
  )
  try {
    return await work
  } finally {
    clearTimeout(timer)
  }
}

/** The lines of one that goes on as long as it is wanted; killed when it says no more. */
export async function* talking(
  program: Program,
  tickMs = TICK_MS,
): AsyncGenerator<Record<string, unknown>> {
  let ticks = 0
  // Ticks, not one long timer: while all of us are suspended none of them passes.
  const timer = setInterval(() => {
    ticks += 1
    if (ticks < SILENT_TICKS) return
    program.kill(`stopped, for it said nothing for ${(SILENT_TICKS * tickMs) / 1000} s`)
  }, tickMs)
  try {
    for await (const line of program.lines) {
      ticks = 0
      yield line
    }
  } finally {
    clearInterval(timer)
  }
}

export function failed(
  { name, complaint }: Program,
  code: number,
  last: Record<string, unknown> = {},
): Fault {
  const why = typeof last.message === 'string' ? last.message : complaint()
  return new Fault({
    kind: 'unexpected',
    type: 'step-failed',
    message: `${name} ended with code ${code}: ${why.trim().replace(/\s+/g, ' ')}`,
    hint:
      typeof last.hint === 'string' && last.hint !== ''
        ? last.hint
        : 'run it again; npm start begins with an empty folder each time',
  })
}

/** Ends every process that is still there; for the last moment. */
export function killAll(): void {
  for (const child of running) child.kill('SIGKILL')
}

async function* jsonLines({ stdout }: ChildProcess): AsyncGenerator<Record<string, unknown>> {
  for await (const line of createInterface({ input: stdout! })) {
    if (line.startsWith('{')) yield JSON.parse(line) as Record<string, unknown>
  }
}
