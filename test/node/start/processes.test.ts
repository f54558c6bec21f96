import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Program, run, talking } from '../../../node/start/processes.ts'

/** Programs of `npm start` that hang. A bootstrap serves until it is told to end, which is as good as that. */
let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'ml-store-processes-'))
})
afterEach(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))

const ports = ['ws', 'tcp', 'udp', 'http'].flatMap((name) => [`--${name}`, '0'])
const args = () => ['--json', '--host', '127.0.0.1', ...ports, '--home', home]

test('a step that does not end is stopped at its limit, and the fault says so', async () => {
  await expect(run('the bootstrap', 'bootstrap', args(), 100)).rejects.toThrow(
    /^the bootstrap ended with code 137: .*stopped, for it took longer than 0.1 s$/,
  )
})

test('what a program complained of is said, without its stack', async () => {
  const failing = run('vite', 'vite', ['build', '--config', join(home, 'nothing.ts')])
  await expect(failing).rejects.toThrow(/^vite ended with code 1: (?!.* at async ).*nothing\.ts/)
})

test('a program that says no more is stopped, and what it said before is heard', async () => {
  const { promise: killed, resolve: kill } = Promise.withResolvers<string | undefined>()
  async function* lines() {
    yield { ev: 'joined' }
    await killed
  }
  const nothing = () => undefined
  const stuck: Program = {
    ...{ name: 'peer-1', lines: lines(), ended: killed.then(() => 137) },
    ...{ tell: nothing, interrupt: nothing, kill, complaint: () => '' },
  }
  expect(await Array.fromAsync(talking(stuck, 10))).toEqual([{ ev: 'joined' }])
  expect(await killed).toBe('stopped, for it said nothing for 0.12 s')
})
