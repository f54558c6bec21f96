import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openHome } from '../../node/home.ts'
import { Fault } from '../../protocol/errors.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-home-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

test('keys are made on demand, are the same next time, and only their owner may read them', async () => {
  const first = await openHome(dir)
  expect(await readdir(dir)).not.toContain('owner.key')
  const owner = (await first.ownerKey()).publicKey.toString()
  const peer = first.peerKey.publicKey.toString()
  await first.close()
  const second = await openHome(dir)
  expect(second.peerKey.publicKey.toString()).toBe(peer)
  expect((await second.ownerKey()).publicKey.toString()).toBe(owner)
  expect(owner).not.toBe(peer)
  for (const name of ['peer.key', 'owner.key'])
    expect((await stat(join(dir, name))).mode & 0o777).toBe(0o600)
  await second.close()
})

test('a second opening is refused until the first is closed', async () => {
  const first = await openHome(dir)
  const fault = await faultOf(openHome(dir))
  expect(fault.exitCode).toBe(8)
  expect(fault.detail).toMatchObject({ type: 'home-locked', dir })
  await first.close()
  await (await openHome(dir)).close()
})

test('a broken key or configuration stops with its path, and is not written over', async () => {
  await (await openHome(dir)).close()
  await writeFile(join(dir, 'config.json'), '{"peers": 7}')
  expect((await faultOf(openHome(dir))).message).toContain(join(dir, 'config.json'))
  await rm(join(dir, 'config.json'))
  await writeFile(join(dir, 'peer.key'), 'no key')
  expect((await faultOf(openHome(dir))).detail).toMatchObject({
    kind: 'verification',
    type: 'wrong-key',
  })
  expect(await readFile(join(dir, 'peer.key'), 'utf8')).toBe('no key')
})

test('configuration is written whole, and many writes at once leave the last', async () => {
  const home = await openHome(dir)
  const configs = Array.from({ length: 20 }, (_, i) => ({
    peers: [`/ip4/192.0.2.1/tcp/${i}`],
    joined: [],
    listen: [],
  }))
  await Promise.all(configs.map((config) => home.saveConfig(config)))
  expect(JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'))).toEqual(configs.at(-1))
  expect((await readdir(dir)).filter((name) => name.endsWith('.tmp'))).toEqual([])
  await home.close()
})

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof Fault) return error
  throw new Error(`expected a Fault, got ${error}`)
}
