import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, expect, test } from 'vitest'
import type { Check } from '../../../node/checks.ts'
import { doctor } from '../../../node/commands/doctor.ts'
import { openHome } from '../../../node/home.ts'
import { createPrint, type Print } from '../../../node/print.ts'
import { anyPorts, bootstraps } from '../../support/bootstrap.ts'
import { nodes } from '../../support/libp2p.ts'

const processes = bootstraps()
const all = nodes()
let home: string

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'mlstore-doctor-'))
})
afterAll(async () => {
  await all.stop()
  await processes.end()
})

interface Visit {
  code: number
  ok: boolean
  checks: Check[]
  text: string
}

async function visit(...addresses: string[]): Promise<Visit> {
  let said: { object: object; text: string } | undefined
  const print: Print = {
    ...createPrint({ json: false, quiet: true }),
    answer: (forms) => {
      said = forms
    },
  }
  const options = { home, join: addresses }
  const code =
    (await doctor.run({ args: [], options, print, signal: new AbortController().signal })) ?? 0
  await rm(home, { recursive: true, force: true })
  const { ok, checks } = said!.object as Visit
  return { code, ok, checks, text: said!.text }
}

const stateOf = ({ checks }: Visit, name: string) =>
  checks.find(({ check }) => check === name)?.state

test('a sound machine and a bootstrap pass every check, and each is one line', async () => {
  const bootstrap = await processes.start([...anyPorts, '--home', await processes.home()])
  const found = await visit(bootstrap.addresses.find((address) => address.includes('/ws/'))!)
  expect(found.checks.filter(({ state }) => state === 'fail')).toEqual([])
  expect(found).toMatchObject({ code: 0, ok: true })
  const names = [
    'node',
    'clock',
    'memory',
    'backend',
    'home',
    'disk',
    'keys',
    'dial',
    'ping',
    'listing',
    'relay',
    'webrtc-direct',
  ]
  expect(found.checks.map(({ check }) => check)).toEqual(names)
  for (const name of ['backend', 'home', 'dial', 'listing', 'relay', 'webrtc-direct']) {
    expect(stateOf(found, name), name).toBe('ok')
  }
  expect(found.checks.find(({ check }) => check === 'backend')?.text).toMatch(
    /^engine with relaxed SIMD, 1 thread, started in \d+ ms; a step .* takes [\d.]+ ms; \d+ cores?/,
  )
  expect(found.text.split('\n').length).toBeGreaterThanOrEqual(names.length)
})

test('a home in use fails with exit code 8 and says what to do', async () => {
  const held = await openHome(home)
  const found = await visit()
  await held.close()
  expect(found.code).toBe(8)
  expect(found.checks.find(({ check }) => check === 'home')).toMatchObject({
    state: 'fail',
    fix: expect.stringContaining('--home'),
  })
})

test('an address where nobody answers fails with exit code 4', async () => {
  const found = await visit('/ip4/127.0.0.1/tcp/1')
  expect(found.code).toBe(4)
  expect(stateOf(found, 'dial')).toBe('fail')
  expect(stateOf(found, 'listing')).toBeUndefined()
})

test('a peer without relay, listings or WebRTC is told apart from one that has them', async () => {
  const plain = await all.start()
  const found = await visit(plain.getMultiaddrs()[0]!.toString())
  expect(stateOf(found, 'dial')).toBe('ok')
  expect(stateOf(found, 'listing')).toBe('fail')
  expect(stateOf(found, 'relay')).toBe('warn')
  expect(stateOf(found, 'webrtc-direct')).toBe('warn')
})

test('a key that others may read is a warning with the command that mends it', async () => {
  await (await openHome(home)).close()
  await chmod(join(home, 'peer.key'), 0o644)
  const found = await visit()
  expect(found.checks.find(({ check }) => check === 'keys')).toMatchObject({
    state: 'warn',
    fix: `chmod 600 ${join(home, 'peer.key')}`,
  })
})

test('a key that is none fails with exit code 7', async () => {
  await writeFile(join(home, 'peer.key'), 'garbage', { mode: 0o600 })
  expect((await visit()).code).toBe(7)
})
