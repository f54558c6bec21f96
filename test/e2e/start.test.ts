import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

/** `npm start` as a newcomer runs it: real processes, real digits; the numbers come from models held by other processes. */

const start = fileURLToPath(new URL('../../node/start.ts', import.meta.url))
const LIMIT_MS = 120_000

async function demo(...args: string[]): Promise<{ result: Result; stderr: string }> {
  const home = await mkdtemp(join(tmpdir(), 'ml-store-start-'))
  try {
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      [start, '--json', '--home', home, ...args],
      {
        timeout: LIMIT_MS,
      },
    )
    return { result: JSON.parse(stdout.trim().split('\n').at(-1)!) as Result, stderr }
  } finally {
    await rm(home, { recursive: true, force: true })
  }
}

interface Result {
  peers: number
  rounds: number
  accuracy: { alone: number; local: number; released: number }
  bytesUpPerPeer: number
  seconds: number
  release: string
}

test('three peers that each hold some of the digits end far above what each reaches alone, and release it', {
  timeout: LIMIT_MS,
}, async () => {
  const { result, stderr } = await demo('--rounds', '20')
  expect(result).toMatchObject({ peers: 3, rounds: 20 })
  expect(result.accuracy.alone).toBeLessThan(0.5)
  expect(result.accuracy.local).toBeGreaterThan(result.accuracy.alone + 0.2)
  expect(result.accuracy.released).toBeGreaterThan(result.accuracy.alone + 0.2)
  expect(result.bytesUpPerPeer).toBeGreaterThan(0)
  expect(result.release).toMatch(/^bafy[a-z2-7]+$/)
  expect(stderr).toContain('npx mlstore train digits')
})

test('with the swap unplugged each peer stays where it is alone', {
  timeout: LIMIT_MS,
}, async () => {
  const { result } = await demo('--rounds', '20', '--no-swap')
  expect(result.accuracy.local).toBeLessThan(0.5)
  expect(result.accuracy.alone).toBe(result.accuracy.local)
  expect(result.bytesUpPerPeer).toBe(0)
})
