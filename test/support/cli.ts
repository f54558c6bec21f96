import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { program } from './programs.ts'
import { tableDraft, tableModel } from './versions.ts'

/** Real `mlstore` processes with homes of their own, and a way to end them all. */
const cli = program('cli')

export interface Ended {
  code: number
  stdout: string
  stderr: string
}

/** What a process finds around it beside what we have. */
export interface Surroundings {
  /** Modules loaded before it begins. */
  imports?: string[]
  env?: Record<string, string>
}

export interface Running {
  child: ChildProcess
  /** Resolves with everything printed on that stream when it first matches. */
  until(stream: 'stdout' | 'stderr', pattern: Pick<RegExp, 'test'>): Promise<string>
  ended: Promise<Ended>
}

export async function commandLine() {
  const dir = await mkdtemp(join(tmpdir(), 'mlstore-cli-'))
  const children: ChildProcess[] = []
  const startWith = ({ imports = [], env = {} }: Surroundings, ...args: string[]): Running => {
    const own = imports.map((module) => `--import=${module}`)
    const child = spawn(process.execPath, [...own, cli, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', MLSTORE_HOME: join(dir, 'home'), ...env },
    })
    children.push(child)
    return running(child)
  }
  const start = (...args: string[]): Running => startWith({}, ...args)
  return {
    /** A path inside this test's own folder. */
    path: (...parts: string[]) => join(dir, ...parts),
    start,
    startWith,
    run: (...args: string[]): Promise<Ended> => start(...args).ended,
    /** Writes a draft of the tiny table model; `change` goes into its mlstore.json. */
    async draft(name: string, change: object = {}): Promise<string> {
      const { modelJson, params } = tableModel()
      const files = {
        'mlstore.json': JSON.stringify({ ...tableDraft, ...change }),
        'model.json': modelJson,
        'group1-shard1of1.bin': params,
      }
      for (const [path, content] of Object.entries(files)) {
        await mkdir(dirname(join(dir, name, path)), { recursive: true })
        await writeFile(join(dir, name, path), content)
      }
      return join(dir, name)
    },
    async end(): Promise<void> {
      for (const child of children.splice(0)) child.kill('SIGKILL')
      await rm(dir, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

export function running(child: ChildProcess): Running {
  const said = { stdout: '', stderr: '' }
  const watchers = new Set<() => void>()
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]!.setEncoding('utf8').on('data', (text: string) => {
      said[stream] += text
      for (const watch of watchers) watch()
    })
  }
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code) => resolve({ code: code ?? -1, ...said }))
  })
  return {
    child,
    ended,
    until: (stream, pattern) =>
      new Promise((resolve, reject) => {
        const watch = () => {
          if (!pattern.test(said[stream])) return
          watchers.delete(watch)
          resolve(said[stream])
        }
        watchers.add(watch)
        void ended.then(({ code, stderr }) =>
          reject(new Error(`ended with ${code} before ${pattern}: ${stderr}`)),
        )
        watch()
      }),
  }
}
