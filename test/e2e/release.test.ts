import { mkdir, writeFile } from 'node:fs/promises'
import * as v from 'valibot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { randomFrom } from '../../protocol/random.ts'
import { reportSchema } from '../../protocol/report.ts'
import { anyPorts, bootstraps } from '../support/bootstrap.ts'
import { commandLine, type Running } from '../support/cli.ts'

/** From training to a release that somebody else measures: real processes, each with a home of its own. */
const LIMIT_MS = 120_000

let mlstore: Awaited<ReturnType<typeof commandLine>>
const registries = bootstraps()
let shared: string[]

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

test('a release is measured the same by its swarm, by its owner and by a machine that never trained, and stays when its owner is gone', {
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
  const trainer = mlstore.start('train', 'tiny', ...gently, ...shared, ...home('trainer'))
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

  const owner = mlstore.start('release', 'tiny', '--serve', ...shared, ...home('owner'))
  const released = await said(owner)
  expect(released).toMatchObject({
    version: '1.1.0',
    metrics: { ...last.metrics, examples: last.examples },
  })

  const told = await trainer.until('stdout', /"ev":"release".*\n/)
  expect(objects(told).filter(({ ev }) => ev === 'release')).toMatchObject([
    { version: '1.1.0', cid: released.cid },
  ])
  await trainer.until('stderr', /keeps and serves the release/)

  const measured = await mlstore.run(
    'eval',
    String(released.cid),
    ...shared,
    '--home',
    mlstore.path('visitor-home'),
  )
  expect(measured.code, measured.stderr).toBe(0)
  expect(objects(measured.stdout).at(-1)).toEqual({
    model: released.cid,
    metrics: last.metrics,
    examples: 120,
  })

  const listed = await mlstore.run('ls', 'tiny', ...shared, ...home('visitor'))
  expect(objects(listed.stdout).at(-1)).toMatchObject({
    models: [{ version: released.cid, genesis: released.genesis }],
  })
  owner.child.kill('SIGINT')
  expect((await owner.ended).code).toBe(130)

  const late = ['eval', 'tiny', ...shared, '--home', mlstore.path('late-home')]
  const fetched = await mlstore.run(...late)
  expect(fetched.code, fetched.stderr).toBe(0)
  expect(objects(fetched.stdout).at(-1)).toMatchObject({ model: released.cid, examples: 120 })
  trainer.child.kill('SIGINT')
  expect((await trainer.ended).code).toBe(130)
})

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
