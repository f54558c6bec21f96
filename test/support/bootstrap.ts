import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { program } from './programs.ts'

/** Real `mlstore-bootstrap` processes on 127.0.0.1, and a way to end them all. */
const main = program('bootstrap')
/** A start takes a second on a quiet machine. */
const START_LIMIT_MS = 20_000

export interface BootstrapProcess {
  peer: string
  addresses: string[]
  health: string
  child: ChildProcess
  /** Resolves with the exit code. */
  stop(signal?: NodeJS.Signals): Promise<number>
}

export interface Ended {
  code: number
  stdout: string
  stderr: string
}

export const anyPorts = [
  '--host',
  '127.0.0.1',
  '--ws',
  '0',
  '--tcp',
  '0',
  '--udp',
  '0',
  '--http',
  '0',
]

export function bootstraps() {
  const children: ChildProcess[] = []
  const homes: string[] = []
  const launch = (args: string[]) => {
    const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    children.push(child)
    return child
  }
  return {
    async home(): Promise<string> {
      const home = await mkdtemp(join(tmpdir(), 'mlstore-bootstrap-'))
      homes.push(home)
      return home
    },
    /** Runs to its end. */
    async run(args: string[]): Promise<Ended> {
      const child = launch(args)
      const said = { stdout: '', stderr: '' }
      child.stdout!.on('data', (text) => (said.stdout += text))
      child.stderr!.on('data', (text) => (said.stderr += text))
      return { code: await exitOf(child), ...said }
    },
    /** Resolves when it has printed its addresses. */
    async start(args: string[]): Promise<BootstrapProcess> {
      const child = launch([...args, '--json'])
      const ended = exitOf(child)
      const line = await firstLine(child)
      return {
        ...JSON.parse(line),
        child,
        stop: (signal = 'SIGTERM') => {
          child.kill(signal)
          return ended
        },
      }
    },
    async end(): Promise<void> {
      for (const child of children.splice(0)) child.kill('SIGKILL')
      for (const home of homes.splice(0))
        await rm(home, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => child.once('close', (code) => resolve(code ?? -1)))
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let complaints = ''
    child.stderr!.on('data', (text) => (complaints += text))
    const timer = setTimeout(
      () => reject(new Error(`no line within ${START_LIMIT_MS} ms`)),
      START_LIMIT_MS,
    )
    createInterface({ input: child.stdout! }).once('line', (line) => {
      clearTimeout(timer)
      resolve(line)
    })
    child.once('close', (code) => reject(new Error(`ended with ${code}: ${complaints}`)))
  })
}
