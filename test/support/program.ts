import { spawn } from 'node:child_process'
import { delimiter, dirname } from 'node:path'
import { createInterface } from 'node:readline'

/** A program a test started, and what it says. */
export interface Program {
  /** Lines of stdout so far. */
  lines: string[]
  /** The first line of stdout, read as JSON, that `wanted` takes; rejects when the program ends before. */
  says(wanted: (line: Said) => boolean): Promise<Said>
  /** All of stdout, once it has ended with this exit code (default 0); else rejects with what it said. */
  ended(code?: number): Promise<string>
  signal(name: NodeJS.Signals): void
}

/** What our programs say with --json, as far as tests ask. */
export interface Said {
  ev?: string
  cid?: string
  addresses?: string[]
  round?: number
  rounds?: number
}

/**
 * Starts a program as a person in `cwd` would: with our Node first on PATH, and nothing of what npm and vitest tell
 * their children about this clone. What the machine trusts stays, for its registry may have a certificate of its own, and
 * so does compiled code.
 */
export function start(file: string, args: string[], cwd: string): Program {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|NODE_(?!EXTRA_CA_CERTS|COMPILE_CACHE)|VITEST|INIT_CWD)/.test(name),
  )
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter)
  const child = spawn(file, args, {
    cwd,
    env: { ...Object.fromEntries(own), PATH: path },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  const waiting = new Set<() => void>()
  let complaints = ''
  let over = false
  const wake = () => waiting.forEach((look) => look())
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    wake()
  })
  child.stderr.on('data', (chunk: Buffer) => (complaints += chunk))
  const exit = new Promise<number | null>((resolve, reject) =>
    child.on('error', reject).on('close', resolve),
  )
  exit.finally(() => (over = true)).then(wake, wake)
  const wrong = (what: string) =>
    new Error(`${file} ${args.join(' ')} ${what}\n${lines.slice(-20).join('\n')}\n${complaints}`)

  return {
    lines,
    says: (wanted) =>
      new Promise((resolve, reject) => {
        let read = 0
        const look = () => {
          while (read < lines.length) {
            const line = JSON.parse(lines[read++]!)
            if (wanted(line)) return done(() => resolve(line))
          }
          if (over) done(() => reject(wrong('ended before it said what was expected')))
        }
        const done = (settle: () => void) => {
          waiting.delete(look)
          settle()
        }
        waiting.add(look)
        look()
      }),
    async ended(code = 0) {
      const got = await exit
      if (got !== code) throw wrong(`ended with ${got}, expected ${code}`)
      return lines.join('\n')
    },
    signal: (name) => void child.kill(name),
  }
}
