import { type ChildProcess, spawn } from 'node:child_process'
import { type AddressInfo, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** Programs as their users start them, and what they say with --json. */
export interface Program {
  pid: number
  ended: Promise<unknown>
  /** The first line from now on that is wanted; rejects when it ends before, and after LIMIT_MS. */
  says(wanted: (line: Line) => boolean): Promise<Line>
  /** Asks it to end and waits until it has. */
  end(signal?: NodeJS.Signals): Promise<void>
}

/** As far as benches look. */
export interface Line {
  ev?: string
  cid?: string
  addresses?: string[]
  steps?: number
  t?: string
}

const LIMIT_MS = 120_000
export const mlstore = fileURLToPath(new URL('../../node/mlstore.js', import.meta.url))

const running = new Set<ChildProcess>()

/** `core` pins it there, where `taskset` can be had (remote.ts). */
export function start(args: string[], { core }: { core?: number } = {}): Program {
  const [file, ...rest] =
    core === undefined ? [process.execPath] : ['taskset', '-c', String(core), process.execPath]
  const child = spawn(file!, [...rest, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
  const listeners = new Set<(line: Line | undefined) => void>()
  const tell = (line: Line | undefined) => listeners.forEach((listener) => listener(line))
  running.add(child)
  createInterface({ input: child.stdout }).on(
    'line',
    (text) => text.startsWith('{') && tell(JSON.parse(text)),
  )
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => {
      running.delete(child)
      tell(undefined)
      resolve()
    })
  })
  return {
    pid: child.pid!,
    ended,
    says(wanted) {
      const { promise, resolve, reject } = Promise.withResolvers<Line>()
      const fail = (why: string) => reject(new Error(`${args.slice(0, 3).join(' ')} ${why}`))
      const timer = setTimeout(fail, LIMIT_MS, `said nothing expected within ${LIMIT_MS} ms`)
      const listener = (line: Line | undefined) => {
        if (line === undefined)
          fail(`ended with ${child.exitCode} before it said what was expected`)
        else if (wanted(line)) resolve(line)
      }
      listeners.add(listener)
      const done = () => {
        clearTimeout(timer)
        listeners.delete(listener)
      }
      promise.then(done, done)
      return promise
    },
    async end(signal = 'SIGINT') {
      child.kill(signal)
      await ended
    },
  }
}

/** Those that a bench left running when it failed. */
export async function endAll(): Promise<void> {
  await Promise.all(
    [...running].map(
      (child) => new Promise((resolve) => child.once('close', resolve).kill('SIGKILL')),
    ),
  )
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
