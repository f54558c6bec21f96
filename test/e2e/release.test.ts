import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { unixfs } from '@helia/unixfs'
import * as dagPb from '@ipld/dag-pb'
import { MemoryBlockstore } from 'blockstore-core'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import * as v from 'valibot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openHome } from '../../node/home.ts'
import { startHost } from '../../node/host.ts'
import { randomFrom } from '../../protocol/random.ts'
import { reportSchema } from '../../protocol/report.ts'
import { anyPorts, bootstraps } from '../support/bootstrap.ts'
import { commandLine, type Running } from '../support/cli.ts'
import { anyPort } from '../support/libp2p.ts'

/** From training to a release that somebody else measures: real processes, each with a home of its own. */
const LIMIT_MS = 120_000
/** A wait for something that must not come. */
const NOTHING_LIMIT_MS = 1_000

let mlstore: Awaited<ReturnType<typeof commandLine>>
const registries = bootstraps()
let shared: string[]
/** The owner's home has trained; it serves what it released, `cid`. */
let owner: Running
let cid: string
/** Somebody else, who trains, keeps what the owner released, and serves it. */
let trainer: Running

beforeAll(async () => {
  mlstore = await commandLine()
  const bootstrap = await registries.start([...anyPorts, '--home', await registries.home()])
  const tcp = bootstrap.addresses.find((address) => /\/tcp\/\d+\/p2p\//.test(address))!
  shared = ['--join', tcp, '--json']
})
afterAll(async () => {
  await mlstore.end()
  await registries.end()
})

const home = (name: string) => [
  '--home',
  mlstore.path(`${name}-home`),
  '--listen',
  '/ip4/127.0.0.1/tcp/0',
]

test('a release is measured the same by its swarm, by its owner and by a machine that never trained', {
  timeout: LIMIT_MS,
}, async () => {
  const draft = await mlstore.draft('draft', { data: { accept: ['csv'], eval: 'eval/rows.csv' } })
  await mkdir(`${draft}/eval`)
  await writeFile(`${draft}/eval/rows.csv`, rows(120, 2))
  await writeFile(mlstore.path('own.csv'), rows(80, 3))
  const publisher = mlstore.start('publish', draft, '--replicas', '1', ...shared, ...home('owner'))
  await said(publisher)
  const data = ['--data', mlstore.path('own.csv')]
  const gently = [...data, '--intensity', '5'] // it trains as long as this test lasts
  trainer = mlstore.start('train', 'tiny', ...gently, ...shared, ...home('trainer'))
  const published = await publisher.ended
  expect(published.code, published.stderr).toBe(0)
  const { t: _, ...replica } = objects(published.stdout).at(-1)!
  expect(v.parse(reportSchema, replica)).toEqual(replica)
  expect(replica).toMatchObject({ ev: 'replica', count: 1, wanted: 1 })

  const rounds = ['--rounds', '3', '--no-swap']
  const trained = await mlstore.run(
    'train',
    'tiny',
    ...data,
    ...rounds,
    ...shared,
    ...home('owner'),
  )
  expect(trained.code).toBe(0)
  const evaluations = objects(trained.stdout).filter(({ ev }) => ev === 'eval')
  const last = evaluations.at(-1) as unknown as { metrics: Metrics; examples: number }

  owner = mlstore.start('release', 'tiny', '--serve', ...shared, ...home('owner'))
  const released = await said(owner)
  cid = String(released.cid)
  expect(released).toMatchObject({
    version: '1.1.0',
    metrics: { ...last.metrics, examples: last.examples },
  })

  const told = await trainer.until('stdout', /"ev":"release".*\n/)
  expect(objects(told).filter(({ ev }) => ev === 'release')).toMatchObject([
    { version: '1.1.0', cid: released.cid },
  ])
  await trainer.until('stderr', /keeps and serves the release/)

  const measured = await mlstore.run('eval', cid, ...shared, '--home', mlstore.path('visitor-home'))
  expect(measured.code, measured.stderr).toBe(0)
  expect(objects(measured.stdout).at(-1)).toEqual({
    model: released.cid,
    metrics: last.metrics,
    examples: 120,
  })

  const listed = await mlstore.run('ls', 'tiny', ...shared, ...home('visitor'))
  expect(objects(listed.stdout).at(-1)).toMatchObject({
    models: [{ version: cid, genesis: released.genesis }],
  })
})

test('who asks the home that trained for its dataset and its checkpoints by CID gets nothing, though it gets the release', {
  timeout: LIMIT_MS,
}, async () => {
  const [, address] = /reachable at (\S+)/.exec(await owner.until('stderr', /reachable at \S+\n/))!
  const checkpoints = mlstore.path('owner-home', 'checkpoints')
  const saved = (await readdir(checkpoints)).map((name) => `${checkpoints}/${name}`)
  expect(saved.length).toBeGreaterThan(0)
  const asker = await startHost({
    home: await openHome(mlstore.path('asker-home')),
    join: [address!],
    listen: [anyPort],
  })
  await asker.store.fetchVersion(cid, { providers: [address!] })
  const cids = await Promise.all([mlstore.path('own.csv'), ...saved].map(cidsOf))
  const asked = cids.flat().map((secret) => {
    const signal = AbortSignal.timeout(NOTHING_LIMIT_MS)
    return Array.fromAsync(asker.helia.blockstore.get(secret, { signal }))
  })
  const outcomes = await Promise.allSettled(asked)
  expect(new Set(outcomes.map(({ status }) => status))).toEqual(new Set(['rejected']))
  await asker.close()
})

test('a release stays when its owner is gone: who trained keeps and serves it', {
  timeout: LIMIT_MS,
}, async () => {
  owner.child.kill('SIGINT')
  expect((await owner.ended).code).toBe(130)
  const late = ['eval', 'tiny', ...shared, '--home', mlstore.path('late-home')]
  const fetched = await mlstore.run(...late)
  expect(fetched.code, fetched.stderr).toBe(0)
  expect(objects(fetched.stdout).at(-1)).toMatchObject({ model: cid, examples: 120 })
})

test('an owner whose home never trained releases what others have found', {
  timeout: LIMIT_MS,
}, async () => {
  await rm(mlstore.path('owner-home', 'checkpoints'), { recursive: true })
  const again = await mlstore.run('release', 'tiny', ...shared, ...home('owner'))
  expect(again.code, again.stderr).toBe(0)
  const told = await trainer.until('stdout', /"ev":"joined".*\n/)
  const joined = told.split('\n').find((line) => line.includes('"ev":"joined"'))
  const { peer } = JSON.parse(joined!) as { peer: string }
  expect(again.stderr).toMatch(
    new RegExp(`no checkpoint here: takes the params of ${peer}, after [1-9]\\d* steps`),
  )
  expect(objects(again.stdout).at(-1)).toMatchObject({ version: '1.2.0' })
  trainer.child.kill('SIGINT')
  expect((await trainer.ended).code).toBe(130)
})

/** What a file would be called: its blocks and its root, as they are and inside UnixFS. */
async function cidsOf(path: string): Promise<CID[]> {
  const blockstore = new MemoryBlockstore()
  const bytes = await readFile(path)
  const roots = [true, false].map((rawLeaves) =>
    unixfs({ blockstore }).addBytes(bytes, { rawLeaves, cidVersion: 1 }),
  )
  expect((await Promise.all(roots)).map(({ code }) => code)).toEqual([raw.code, dagPb.code])
  const blocks = await Array.fromAsync(blockstore.getAll(), ({ cid }) => cid.multihash)
  return blocks.flatMap((hash) => [raw, dagPb].map(({ code }) => CID.createV1(code, hash)))
}

test('who does not hold the owner key cannot release, and is told so', {
  timeout: LIMIT_MS,
}, async () => {
  const stranger = mlstore.start('seed', 'tiny', ...shared, ...home('owner'))
  await said(stranger)
  const refused = await mlstore.run('release', 'tiny', ...shared, ...home('stranger'))
  expect(refused.code).toBe(7)
  expect(objects(refused.stdout).at(-1)).toMatchObject({
    ev: 'failed',
    code: 7,
    type: 'not-the-owner',
  })
  stranger.child.kill('SIGINT')
  await stranger.ended
})

interface Metrics {
  accuracy: number
  loss: number
}

/** Points that are `yes` where x + y > z. */
function rows(count: number, seed: number): string {
  const random = randomFrom(seed)
  const lines = Array.from({ length: count }, () => {
    const [x = 0, y = 0, z = 0] = [0, 1, 2].map(() => 2 * random() - 1)
    return [x, y, z, x + y > z ? 'yes' : 'no'].join()
  })
  return `x,y,z,label\n${lines.join('\n')}\n`
}

function objects(stdout: string): Record<string, unknown>[] {
  return stdout
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** The answer a command prints while it goes on. */
async function said(running: Running): Promise<Record<string, unknown>> {
  const text = await running.until('stdout', /"cid":"[^"]+".*\n/)
  return objects(text).find(({ cid }) => cid !== undefined)!
}
