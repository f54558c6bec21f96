import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isFull } from '../faults/every.ts'
import { type Running, running } from '../support/cli.ts'
import { program } from '../support/programs.ts'

/** `npm start` as a newcomer runs it: real processes, real digits; the numbers come from models held by other processes. */

const start = fileURLToPath(new URL('../../node/start.ts', import.meta.url))
const LIMIT_MS = 180_000
/** Enough for the swarm to be far above a peer alone. */
const ROUNDS = '10'

let home: string
const children: ChildProcess[] = []
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'ml-store-start-'))
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await rm(home, { recursive: true, force: true, maxRetries: 5 })
})

const bundled = new URL('../support/bundled.ts', import.meta.url).href

function demo(...args: string[]): Running {
  return runs([start, '--json', '--home', home, ...args], bundled)
}

/** `load` are modules that it, and all that it starts, load first. */
function runs(args: string[], ...load: string[]): Running {
  const env = { ...process.env, NODE_OPTIONS: load.map((module) => `--import=${module}`).join(' ') }
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
  children.push(child)
  return running(child)
}

interface Result {
  peers: number
  rounds: number
  accuracy: { alone: number | null; local: number; released: number }
  bytesUpPerPeer: number
  seconds: number
  release: string
}

async function resultOf({ ended }: Running): Promise<Result> {
  const { code, stdout, stderr } = await ended
  expect(code, stderr).toBe(0)
  return JSON.parse(stdout.trim().split('\n').at(-1)!)
}

/** What each of the three reaches alone, as the demonstration measured it. */
let alone: number | null

test('three peers that each hold some of the digits end far above what each reaches alone, and release it', {
  timeout: LIMIT_MS,
}, async () => {
  const result = await resultOf(demo('--rounds', ROUNDS))
  alone = result.accuracy.alone
  expect(result).toMatchObject({ peers: 3, rounds: Number(ROUNDS) })
  expect(alone).toBeLessThan(0.5)
  expect(result.accuracy.local).toBeGreaterThan(alone! + 0.2)
  expect(result.accuracy.released).toBeGreaterThan(alone! + 0.2)
  expect(result.bytesUpPerPeer).toBeGreaterThan(0)
  expect(result.release).toMatch(/^bafy[a-z2-7]+$/)
})

test('with the swap unplugged each peer ends with the very accuracy that was measured of it alone', {
  timeout: LIMIT_MS,
}, async () => {
  const result = await resultOf(demo('--rounds', ROUNDS, '--no-swap'))
  // The same data, seeds, first params and steps, on one thread: the same bits.
  expect(result.accuracy.local).toBe(alone)
  expect(result.accuracy.alone).toBe(alone)
  expect(result.bytesUpPerPeer).toBe(0)
})

test.runIf(isFull)(
  'the printed command joins a fourth peer that swaps; then Ctrl-C ends the run with a release, and nothing is said of who trained alone',
  {
    timeout: LIMIT_MS,
  },
  async () => {
    const swarm = demo()
    const said = await swarm.until('stderr', /\/p2p\/\w+\n\n/)
    const [, command] = /^ {2}npx mlstore (train [\s\S]+?\/p2p\/\w+)$/m.exec(said)!
    const words = command!.replaceAll('\\\n', ' ').split(/ +/)
    const fourth = runs([program('cli'), ...words])
    await fourth.until('stderr', /swaps [1-9]/)
    fourth.child.kill('SIGINT')
    expect((await fourth.ended).code).toBe(130)
    swarm.child.kill('SIGINT')
    const result = await resultOf(swarm)
    expect(result.rounds).toBeGreaterThan(0)
    expect(result.accuracy).toMatchObject({ alone: null, released: expect.any(Number) })
    expect(result.release).toMatch(/^bafy[a-z2-7]+$/)
  },
)

/** What it and its programs wrote has an end only when all of them are gone. */
test('where preparing fails it says why, and ends with all that it started', async () => {
  const fails = "data:text/javascript,if(process.argv[2]==='publish')process.exit(9)"
  const { code, stderr } = await runs([start, '--home', home], bundled, fails).ended
  expect(stderr).toMatch(/^npm start: mlstore publish ended with code 9/m)
  expect(code).toBe(1)
})

test('Ctrl-C while it prepares ends it at once', async () => {
  const swarm = demo()
  await swarm.until('stderr', /dealing/)
  swarm.child.kill('SIGINT')
  const { code, stderr } = await swarm.ended
  expect(stderr).toMatch(/stopped before anything was trained\n$/)
  expect(code).toBe(130)
})
