import { type ChildProcess, type ForkOptions, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** A process of a bench's own, asked by name: what it serves is a table of async functions, typed by its file. */
export type Handlers = Record<string, (argument: never) => Promise<unknown>>

export interface Remote<H extends Handlers> {
  readonly pid: number
  /** Rejects with what the other side threw, when it dies, and after ANSWER_MS. */
  ask<N extends keyof H>(name: N, argument: Parameters<H[N]>[0]): ReturnType<H[N]>
  /** Ends it, kindly at first. Idempotent. */
  end(): Promise<void>
}

export interface RemoteOptions {
  /** Options of node, before the file. */
  execArgv?: string[]
  /** Runs on this core alone, where `taskset` can be had. */
  core?: number
}

/** The longest anything is waited for: 100 MB both ways over WebRTC, 20 epochs of four peers, ten minutes at rest. */
const ANSWER_MS = 15 * 60_000
const END_MS = 5_000

export const canPin = existsSync('/usr/bin/taskset')
const open = new Set<ChildProcess>()
process.on('exit', () => open.forEach((child) => child.kill('SIGKILL')))

export function startRemote<H extends Handlers>(
  file: string,
  options: RemoteOptions = {},
): Remote<H> {
  const child = forked(file, options)
  open.add(child)
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  let next = 0
  child.on('message', ({ id, value, error }: Answer) => {
    const waiter = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) waiter?.resolve(value)
    else waiter?.reject(new Error(`${file}: ${error}`))
  })
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      open.delete(child)
      for (const { reject } of waiting.values())
        reject(new Error(`${file} ended with ${signal ?? code}`))
      resolve()
    })
  })
  return {
    pid: child.pid!,
    ask: ((name: string, argument: unknown) =>
      new Promise((resolve, reject) => {
        const id = next++
        const timer = setTimeout(() => {
          waiting.delete(id)
          reject(new Error(`${file}: no answer to ${name} within ${ANSWER_MS} ms`))
        }, ANSWER_MS)
        const done =
          <T>(settle: (value: T) => void) =>
          (value: T) => {
            clearTimeout(timer)
            settle(value)
          }
        waiting.set(id, { resolve: done(resolve), reject: done(reject) })
        child.send({ id, name, argument } satisfies Question)
      })) as Remote<H>['ask'],
    async end() {
      if (!open.has(child)) return
      const timer = setTimeout(() => child.kill('SIGKILL'), END_MS)
      if (child.connected) child.disconnect()
      await ended
      clearTimeout(timer)
    },
  }
}

interface Question {
  id: number
  name: string
  argument: unknown
}
interface Answer {
  id: number
  value?: unknown
  error?: string
}

function forked(file: string, { execArgv = [], core }: RemoteOptions): ChildProcess {
  const path = fileURLToPath(new URL(file, import.meta.url))
  const common: ForkOptions = {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  }
  if (core === undefined || !canPin) return fork(path, [], { ...common, execArgv })
  const pinned = ['-c', String(core), process.execPath, ...execArgv]
  return fork(path, [], { ...common, execPath: 'taskset', execArgv: pinned })
}

/** In the child: answers until the parent is gone, then runs `close` and exits. */
export function serve(handlers: Handlers, close: () => Promise<void> = async () => {}): void {
  process.on('message', async ({ id, name, argument }: Question) => {
    try {
      process.send!({ id, value: await handlers[name]!(argument as never) } satisfies Answer)
    } catch (error) {
      process.send?.({ id, error: (error as Error).stack ?? String(error) } satisfies Answer)
    }
  })
  process.once('disconnect', async () => {
    await close().catch(() => {})
    process.exit(0)
  })
}
