import { createHash } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { anyPorts, type BootstrapProcess, bootstraps } from '../support/bootstrap.ts'
import { commandLine, type Running } from '../support/cli.ts'

/** One model on its way through real processes: published, listed, seeded, pulled, exported, without its publisher. */
const LIMIT_MS = 60_000
const listen = ['--listen', '/ip4/127.0.0.1/tcp/0']

let mlstore: Awaited<ReturnType<typeof commandLine>>
const registries = bootstraps()
let bootstrap: BootstrapProcess
let join: string[]
let cid: string
let seeder: Running

beforeAll(async () => {
  mlstore = await commandLine()
  bootstrap = await registries.start([...anyPorts, '--home', await registries.home()])
  join = ['--join', bootstrap.addresses.find((address) => /\/tcp\/\d+\/p2p\//.test(address))!]
})
afterAll(async () => {
  await mlstore.end()
  await registries.end()
})

const home = (name: string) => ['--home', mlstore.path(`${name}-home`), ...listen]

test(
  'publish prints the CID, and ends when another peer holds the version',
  async () => {
    const draft = await mlstore.draft('draft')
    const publisher = mlstore.start(
      'publish',
      draft,
      ...join,
      ...home('owner'),
      '--replicas',
      '1',
      '--timeout',
      '50s',
    )
    cid = (await publisher.until('stdout', /\n/)).trim()
    expect(cid).toMatch(/^bafybei[a-z2-7]{52}$/)
    seeder = mlstore.start('seed', 'tiny', ...join, ...home('seeder'), '-q')
    expect((await seeder.until('stdout', /\n/)).trim()).toBe(cid)
    const { code, stderr } = await publisher.ended
    expect(stderr).toMatch(/1 of 1 replicas/)
    expect(code).toBe(0)
  },
  LIMIT_MS,
)

test(
  'ls and show say what is listed and who holds it',
  async () => {
    const { stdout } = await mlstore.run('ls', 'table', ...join, ...home('reader'), '--json')
    expect(JSON.parse(stdout).models).toMatchObject([
      { name: 'tiny', version: cid, genesis: cid, manifestVersion: '1.0.0' },
    ])
    const shown = JSON.parse(
      (await mlstore.run('show', 'tiny', ...home('reader'), '--json')).stdout,
    )
    expect(shown).toMatchObject({
      cid,
      genesis: cid,
      manifest: { name: 'tiny' },
      peers: [{ version: cid, phase: 'seeding' }],
    })
  },
  LIMIT_MS,
)

test(
  'with every bootstrap dead, the model is found, pulled and exported from the peer that seeds it',
  async () => {
    await bootstrap.stop('SIGKILL')
    const pulled = mlstore.path('pulled')
    expect(await mlstore.run('pull', 'tiny@1.0.0', '-o', pulled, ...home('reader'))).toMatchObject({
      code: 0,
    })
    expect(await mlstore.run('check', pulled, '-q')).toMatchObject({ code: 0, stdout: 'ok\n' })
    const exported = mlstore.path('exported')
    expect(
      await mlstore.run(
        'export',
        cid,
        '-o',
        exported,
        '--format',
        'safetensors',
        ...home('reader'),
      ),
    ).toMatchObject({ code: 0 })
    expect(await readdir(exported)).toContain('model.safetensors')
  },
  LIMIT_MS,
)

test(
  'a pulled version with one byte changed does not pass',
  async () => {
    const path = mlstore.path('pulled', 'group1-shard1of1.bin')
    const bytes = await readFile(path)
    bytes[0] = bytes[0]! ^ 1
    await writeFile(path, bytes)
    const { code, stderr } = await mlstore.run('check', mlstore.path('pulled'))
    expect(stderr).toContain(createHash('sha256').update(bytes).digest('hex'))
    expect(code).toBe(7)
  },
  LIMIT_MS,
)

test(
  'a directory that is not empty is not written over, and an unknown model is exit code 3',
  async () => {
    expect(
      await mlstore.run('pull', 'tiny', '-o', mlstore.path('pulled'), ...home('reader')),
    ).toMatchObject({ code: 2 })
    const unknown = await mlstore.run(
      'pull',
      'nothing',
      '-o',
      mlstore.path('new'),
      ...home('reader'),
    )
    expect(unknown.stderr).toMatch(/no model nothing is listed/)
    expect(unknown.code).toBe(3)
  },
  LIMIT_MS,
)

test(
  'two processes on one home: the second is exit code 8',
  async () => {
    const { code, stderr } = await mlstore.run('ls', ...home('seeder'))
    expect(stderr).toMatch(/home locked/)
    expect(code).toBe(8)
  },
  LIMIT_MS,
)

test(
  'the first Ctrl-C ends a seed with 130',
  async () => {
    seeder.child.kill('SIGINT')
    expect((await seeder.ended).code).toBe(130)
  },
  LIMIT_MS,
)

test(
  'with nobody to list it, publish says so and leaves nothing running',
  async () => {
    const { code, stderr } = await mlstore.run(
      'publish',
      await mlstore.draft('lonely'),
      ...home('lonely'),
    )
    expect(stderr).toMatch(/expected --join with the address of one/)
    expect(code).toBe(2)
  },
  LIMIT_MS,
)

test(
  'a peer that serves lists by itself, needs no bootstrap, and ends with 143 when told to',
  async () => {
    const draft = await mlstore.draft('served')
    const server = mlstore.start('publish', draft, '--serve', ...home('server'))
    const served = (await server.until('stdout', /\n/)).trim()
    const said = await server.until('stderr', /reachable at .*\/tcp\/\d+\/p2p\/.*\n/)
    const [, address] = /reachable at (\S+)/.exec(said)!
    const found = await mlstore.run('ls', '-q', '--join', address!, ...home('visitor'))
    expect(found).toMatchObject({ code: 0, stdout: `${served}\n` })
    server.child.kill('SIGTERM')
    expect((await server.ended).code).toBe(143)
  },
  LIMIT_MS,
)
