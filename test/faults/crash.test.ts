import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkpointFile } from '../../node/checkpoint.ts'
import { encodeCheckpoint, readCheckpoint } from '../../protocol/ports/trainer/checkpoint.ts'
import { checkpointOf } from './rounds.ts'

/** A process dies at any call of a checkpoint's write: the next start finds the last whole one, or the one before. */
const LIMIT_MS = 60_000
const here = (name: string) => new URL(name, import.meta.url).pathname

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-crash-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

async function write(path: string, rounds: number): Promise<void> {
  await checkpointFile(path).write(await encodeCheckpoint(checkpointOf(rounds)))
}

/** Writes in a process that dies at that call; answers whether it lived to its end. */
async function dieWriting(path: string, rounds: number, call: number): Promise<boolean> {
  const args = ['--import', here('crash-fs.ts'), here('writer.ts'), path, `${rounds}`]
  const env = { ...process.env, MLSTORE_CRASH: String(call) }
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'inherit'] })
  const code = await new Promise((resolve) => child.once('close', resolve))
  return code === 0
}

async function found(path: string): Promise<number | undefined> {
  const checkpoint = await readCheckpoint(checkpointFile(path), 'g', 1000)
  if (!checkpoint) return undefined
  const { rounds } = checkpoint.facts
  expect(new Set(checkpoint.arrays.params)).toEqual(new Set([rounds]))
  return rounds
}

/** From making the folder to the folder's own close: 4 of them write, header, facts and two arrays. */
const CALLS_OF_A_WRITE = 13

test(
  'a crash at each call of a write leaves a whole checkpoint, the last or the one before',
  async () => {
    const lived: boolean[] = []
    const crash = async (call: number) => {
      const path = join(dir, 'checkpoints', `case-${call}`)
      await write(path, 1)
      await write(path, 2)
      lived[call] = await dieWriting(path, 3, call)
      expect([2, 3]).toContain(await found(path))
      // And the next write finds nothing in its way.
      await write(path, 4)
      expect(await found(path)).toBe(4)
    }
    for (let call = 1; call <= CALLS_OF_A_WRITE + 1; call += 2) {
      await Promise.all([crash(call), crash(call + 1)])
    }
    expect(lived.indexOf(true)).toBe(CALLS_OF_A_WRITE + 1)
  },
  LIMIT_MS,
)

test(
  'a crash in the very first write leaves nothing, or that',
  async () => {
    for (const call of [1, 3, 7, 10]) {
      const path = join(dir, 'checkpoints', `first-${call}`)
      expect(await dieWriting(path, 1, call)).toBe(false)
      expect([undefined, 1]).toContain(await found(path))
    }
  },
  LIMIT_MS,
)
