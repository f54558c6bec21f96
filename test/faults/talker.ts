import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** A Node process that says JSON objects with an `ev`, one a line. */
export interface Talker<S extends { ev: string }> {
  name: string
  child: ChildProcess
  /** All it said so far. */
  heard: S[]
  /** The next object from now on that passes; rejects when the process ends before, or after the limit. */
  says(ev: S['ev'], passes?: (said: S) => boolean): Promise<S>
  /** Resolves when it has said so many in all, or has ended. */
  saysLines(count: number): Promise<void>
  /** A line on its stdin. */
  write(line: string): void
  complaints(): string
  /** Its exit code, or the signal that killed it; all of its output has been read by then. */
  ended: Promise<number | NodeJS.Signals>
}

/** Of what it said last, how much stands in an error. */
const SHOWN = 12

export function talk<S extends { ev: string }>(
  name: string,
  args: string[],
  limitMs: number,
  env: Record<string, string> = {},
): Talker<S> {
  const child = spawn(process.execPath, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', ...env },
  })
  const heard: S[] = []
  const watchers = new Set<() => void>()
  let complaints = ''
  let over: number | NodeJS.Signals | undefined
  const wake = () => {
    for (const watch of watchers) watch()
  }
  child.stderr.on('data', (text) => (complaints += text))
  // Who died cannot be told anything; that is noticed by its end.
  child.stdin.on('error', () => {})
  createInterface({ input: child.stdout }).on('line', (line) => {
    heard.push(JSON.parse(line))
    wake()
  })
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('close', (code, signal) => {
      over = code ?? signal ?? -1
      resolve(over)
      wake()
    })
  })
  return {
    name,
    child,
    heard,
    ended,
    complaints: () => complaints,
    write: (line) => void child.stdin.write(`${line}\n`),
    saysLines: (count) =>
      new Promise((resolve) => {
        const watch = () => {
          if (heard.length < count && over === undefined) return
          watchers.delete(watch)
          resolve()
        }
        watchers.add(watch)
        watch()
      }),
    says(ev, passes = () => true) {
      let from = heard.length
      return new Promise((resolve, reject) => {
        const give = (settle: () => void) => {
          clearTimeout(timer)
          watchers.delete(watch)
          settle()
        }
        const fail = (what: string) => {
          const last = heard.slice(-SHOWN).map((said) => JSON.stringify(said))
          reject(new Error(`${name} ${what} ${ev}: ${complaints}\n${last.join('\n')}`))
        }
        const watch = () => {
          for (; from < heard.length; from++) {
            const said = heard[from]!
            if (said.ev === ev && passes(said)) return give(() => resolve(said))
          }
          if (over !== undefined) give(() => fail(`ended with ${over} before`))
        }
        const timer = setTimeout(() => give(() => fail(`did not say in ${limitMs} ms`)), limitMs)
        watchers.add(watch)
        watch()
      })
    },
  }
}
