import { writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkpointFile } from '../../node/checkpoint.ts'
import { readCheckpoint } from '../../protocol/ports/trainer/checkpoint.ts'
import { anyPorts, type BootstrapProcess, bootstraps } from '../support/bootstrap.ts'
import { commandLine } from '../support/cli.ts'
import { anyPort } from '../support/libp2p.ts'
import { type Meeting, startMeeting, tinyRows } from '../support/meeting.ts'
import { program } from '../support/programs.ts'
import { STALL_MS } from './swarm.ts'
import { type Talker, talk } from './talker.ts'

/**
 * Every bootstrap and the publisher die for good while two peers train. From then on there are only they: each test
 * goes on with what the one before left.
 */
const LIMIT_MS = 60_000
/** What a peer is waited for. */
const SAY_LIMIT_MS = 40_000
/** 3 inputs, 4 hidden units, 2 classes. */
const PARAMS = 26
const STEPS_PER_ROUND = 4
const cli = program('cli')

interface Said {
  ev: string
  t: string
  peer?: string
  phase?: string
  round?: number
  with?: string
}

const registries = bootstraps()
let mlstore: Awaited<ReturnType<typeof commandLine>>
let meeting: Meeting
let dead: BootstrapProcess[]
const peers: Talker<Said>[] = []
let one: Talker<Said>
let two: Talker<Said>
/** Where peer one is, as its operator would tell a friend. */
let address: string

beforeAll(async () => {
  mlstore = await commandLine()
  dead = await Promise.all([startBootstrap(), startBootstrap()])
  meeting = await startMeeting(mlstore.path(), { join: dead.map(tcpOf) })
  await writeFile(mlstore.path('data.csv'), tinyRows(80, 1))
  const listen = `/ip4/127.0.0.1/tcp/${await freePort()}`
  const joins = dead.flatMap((bootstrap) => ['--join', tcpOf(bootstrap)])
  one = train('one', ...joins, '--listen', listen)
  two = train('two', ...joins, '--listen', anyPort)
  const joined = one.says('joined')
  await Promise.all([swap(one), swap(two)])
  address = `${listen}/p2p/${(await joined).peer}`
}, LIMIT_MS)
afterAll(async () => {
  for (const { child } of peers) child.kill('SIGKILL')
  await registries.end()
  await mlstore.end()
})

async function startBootstrap(): Promise<BootstrapProcess> {
  return registries.start([...anyPorts, '--home', await registries.home()])
}

function tcpOf({ addresses }: BootstrapProcess): string {
  return addresses.find((text) => /\/tcp\/\d+\/p2p\//.test(text))!
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

function train(home: string, ...more: string[]): Talker<Said> {
  const data = ['--data', mlstore.path('data.csv'), '--home', mlstore.path(home)]
  const peer = talk<Said>(home, [cli, 'train', 'tiny', ...data, '--json', ...more], SAY_LIMIT_MS)
  peers.push(peer)
  return peer
}

const swap = (peer: Talker<Said>, other?: Talker<Said>) =>
  peer.says('swap', (said) => other === undefined || said.with === idOf(other))

/** Undefined until it has joined. */
function idOf({ heard }: Talker<Said>): string | undefined {
  return heard.find(({ ev }) => ev === 'joined')?.peer
}

/** The longest it said nothing of a new round. */
function longestPause({ heard }: Talker<Said>): number {
  const times = heard.filter(({ ev }) => ev === 'round').map(({ t }) => Date.parse(t))
  return Math.max(...times.slice(1).map((t, i) => t - times[i]!))
}

async function stop(peer: Talker<Said>): Promise<void> {
  peer.child.kill('SIGINT')
  expect(await peer.ended, peer.complaints()).toBe(130)
}

test(
  'with every bootstrap and the publisher dead, two peers train and swap on',
  async () => {
    await Promise.all(dead.map((bootstrap) => bootstrap.stop('SIGKILL')))
    await meeting.host.close()
    for (let i = 0; i < 3; i++)
      await Promise.all([swap(one, two), swap(two, one), one.says('round')])
    expect(longestPause(one)).toBeLessThan(STALL_MS)
  },
  LIMIT_MS,
)

test(
  'the model is listed by a peer',
  async () => {
    const { code, stdout, stderr } = await mlstore.run(
      'ls',
      '-q',
      '--join',
      address,
      '--home',
      mlstore.path('reader'),
    )
    expect(code, stderr).toBe(0)
    expect(stdout).toBe(`${meeting.cid}\n`)
  },
  LIMIT_MS,
)

test(
  'a third peer finds, fetches and joins through a peer, pulls the state, and meets both',
  async () => {
    const third = train('third', '--join', address, '--listen', anyPort)
    await Promise.all([third.says('joined'), third.says('round')])
    await Promise.all([swap(third, one), swap(third, two)])
    await stop(third)
    const { facts } = (await checkpointIn('third'))!
    expect(facts.steps).toBeGreaterThan(facts.rounds * STEPS_PER_ROUND + STEPS_PER_ROUND)
  },
  LIMIT_MS,
)

async function checkpointIn(home: string) {
  return readCheckpoint(
    checkpointFile(mlstore.path(home, 'checkpoints', meeting.cid)),
    meeting.cid,
    PARAMS,
  )
}

test(
  'it comes back with no address, by those it remembers',
  async () => {
    const third = train('third', '--listen', anyPort)
    await third.says('swap')
    await stop(third)
  },
  LIMIT_MS,
)

test(
  'a peer that stands still for a while stalls nobody, and is back when it wakes',
  async () => {
    const third = train('third', '--join', address, '--listen', anyPort)
    await Promise.all([swap(third, one), swap(one, third)])
    two.child.kill('SIGSTOP')
    for (let i = 0; i < 12; i++) await one.says('round')
    await Promise.all([swap(one, third), swap(third, one)])
    two.child.kill('SIGCONT')
    await Promise.all([swap(two), one.says('swap', (said) => said.with === idOf(two))])
    expect(longestPause(one)).toBeLessThan(STALL_MS)
    expect(longestPause(third)).toBeLessThan(STALL_MS)
    await stop(third)
  },
  LIMIT_MS,
)

test(
  'with nobody left and only dead addresses, a warm home still starts and trains',
  async () => {
    await Promise.all([stop(one), stop(two)])
    const { facts } = (await checkpointIn('two'))!
    const joins = dead.flatMap((bootstrap) => ['--join', tcpOf(bootstrap)])
    const rounds = ['--rounds', String(facts.rounds + 2)]
    const alone = train('two', ...joins, '--listen', anyPort, ...rounds)
    const first = await alone.says('round')
    expect(first.round).toBe(facts.rounds + 1)
    expect(await alone.ended, alone.complaints()).toBe(0)
    expect(alone.heard.find(({ phase }) => phase === 'offline-training')).toBeDefined()
  },
  LIMIT_MS,
)
