import { type ChildProcess, spawn } from 'node:child_process'
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
  kill(): void
  /** The last lines of its stderr. */
  complaint(): string
}

const bins = {
  mlstore: fileURLToPath(new URL('../mlstore.js', import.meta.url)),
  bootstrap: fileURLToPath(new URL('../../bootstrap/mlstore-bootstrap.js', import.meta.url)),
}

const COMPLAINT_LINES = 8
const running = new Set<ChildProcess>()

/** Starts one of our two bins in a process group of its own: Ctrl-C is ours to pass on. */
export function start(name: string, bin: keyof typeof bins, args: readonly string[]): Program {
  const child = spawn(process.execPath, [bins[bin], ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  })
  running.add(child)
  const said: string[] = []
  createInterface({ input: child.stderr }).on('line', (line) => {
    said.push(line)
    if (said.length > COMPLAINT_LINES) said.shift()
  })
  // A child that ended while we spoke to it is noticed by its end.
  child.stdin.on('error', () => {})
  const ended = new Promise<number>((resolve) => {
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve(code ?? (signal ? 128 + 15 : 1))
    })
  })
  return {
    name,
    lines: jsonLines(child),
    ended,
    tell: (word) => void child.stdin.write(`${word}\n`),
    interrupt: () => void child.kill('SIGINT'),
    kill: () => void child.kill('SIGKILL'),
    complaint: () => said.join('\n'),
  }
}

/** Runs one to its end and gives the last object it printed. Throws Fault `step-failed`. */
export async function run(
  name: string,
  bin: keyof typeof bins,
  args: readonly string[],
): Promise<Record<string, unknown>> {
  const program = start(name, bin, args)
  let last: Record<string, unknown> = {}
  for await (const line of program.lines) last = line
  const code = await program.ended
  if (code === 0) return last
  throw failed(program, code, last)
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
