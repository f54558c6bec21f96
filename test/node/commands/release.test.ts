import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lpStream } from '@libp2p/utils'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { Interrupted } from '../../../node/command.ts'
import { publish } from '../../../node/commands/publish.ts'
import { release } from '../../../node/commands/release.ts'
import { train } from '../../../node/commands/train.ts'
import { writeDirectory } from '../../../node/files.ts'
import { openHome } from '../../../node/home.ts'
import { startHost } from '../../../node/host.ts'
import {
  decodeRequest,
  encode,
  LISTING_PROTOCOL,
  type RegistryResponse,
} from '../../../protocol/ports/registry/wire.ts'
import { evaluate } from '../../../protocol/ports/trainer/evaluate.ts'
import { runHere } from '../../support/commands.ts'
import { anyPort, nodes } from '../../support/libp2p.ts'
import { type Meeting, startMeeting, tinyRows } from '../../support/meeting.ts'
import { tableDraft, tableModel } from '../../support/versions.ts'

/** A release is listed by somebody else, or it never was: what is in a home before one that failed is in it after. */
const LIMIT_MS = 60_000
const dead = '/ip4/127.0.0.1/tcp/9'
const rest = nodes()
let dir: string
let meeting: Meeting
let genesis: string
/** A copy of the owner's home whose releases stay; what it lists, nobody else can serve. */
let released: string
let homes = 0

vi.mock('../../../protocol/ports/trainer/evaluate.ts', async (load) => {
  const real = await load<object>()
  return { ...real, evaluate: vi.fn((real as { evaluate: typeof evaluate }).evaluate) }
})

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-release-'))
  meeting = await startMeeting(dir)
  const draft = join(dir, 'draft')
  const { modelJson, params } = tableModel()
  const recipe = { ...tableDraft.train, stop: { rounds: 3 } }
  const data = { accept: ['csv'], eval: 'eval/rows.csv' }
  const manifest = { ...tableDraft, name: 'ours', train: recipe, data }
  const text = new TextEncoder()
  await writeDirectory(
    draft,
    new Map([
      ['mlstore.json', text.encode(JSON.stringify(manifest))],
      ['model.json', modelJson],
      ['group1-shard1of1.bin', params],
      ['eval/rows.csv', text.encode(tinyRows(20, 2))],
    ]),
  )
  const options = { home: join(dir, 'owner'), join: [meeting.address], listen: [anyPort] }
  const published = await runHere(publish, [draft], options)
  genesis = JSON.parse(published.stdout[0]!).cid
  const own = join(dir, 'data.csv')
  await writeFile(own, tinyRows(40, 1))
  const asked = { ...options, data: own, rounds: 1, swap: false }
  const trained = await runHere(train, [genesis], asked)
  expect(trained.code, trained.stderr.join()).toBe(0)
  // The user's word comes before the recipe's.
  const stopped = trained.stdout.map((line) => JSON.parse(line)).find(({ ev }) => ev === 'stopped')
  expect(stopped).toMatchObject({ rounds: 1 })
  released = await ownerHome()
}, LIMIT_MS)
afterAll(async () => {
  await rest.stop()
  await meeting.host.close()
  await rm(dir, { recursive: true, force: true, maxRetries: 5 })
})

/** The owner's home after training, as it met nobody since: a copy, so that tests do not meet each other's releases. */
async function ownerHome(): Promise<string> {
  const home = join(dir, `copy-${homes++}`)
  await cp(join(dir, 'owner'), home, { recursive: true })
  await rm(join(home, 'config.json'), { force: true })
  return home
}

/** Versions and listings of a home. */
async function heldIn(home: string) {
  const host = await startHost({ home: await openHome(home), join: [], listen: [anyPort] })
  const versions = (await host.store.versions()).map(({ cid }) => cid)
  const { entries } = host.book.search({ genesis }, Date.now())
  await host.close()
  return { versions, listed: entries.map(({ listing }) => listing.version) }
}

const before = () => ({ versions: [genesis], listed: [genesis] })

function releaseIn(home: string, options: object = {}, signal?: AbortSignal) {
  const given = { home, join: [meeting.address], listen: [anyPort], ...options }
  return runHere(release, [genesis], given, signal && { signal })
}

test(
  'by the CID of a version that is here, it waits until somebody is in reach who lists it',
  async () => {
    const { code, stdout, stderr } = await releaseIn(released)
    expect(code, stderr.join()).toBe(0)
    const registries = [meeting.host.libp2p.peerId.toString()]
    expect(JSON.parse(stdout.at(-1)!)).toMatchObject({ version: '1.1.0', registries })
  },
  LIMIT_MS,
)

test(
  'a number is given once: where the genesis is named it follows the newest, and --version rises',
  async () => {
    const first = (await heldIn(released)).listed[0]
    const { stdout } = await releaseIn(released)
    const second = JSON.parse(stdout.at(-1)!)
    expect(second).toMatchObject({ genesis, version: '1.2.0' })
    const host = await startHost({ home: await openHome(released), join: [], listen: [anyPort] })
    const { parents } = await host.store.fetchManifest(second.cid)
    await host.close()
    expect(parents).toEqual([first])
    for (const version of ['1.2.0', '1.0.5', 'latest']) {
      const { code, stdout, stderr } = await releaseIn(released, { version })
      expect(stderr.join()).toMatch(/--version got ".*", expected three numbers above 1\.2\.0/)
      expect(JSON.parse(stdout.at(-1)!)).toMatchObject({ type: 'wrong-version', code: 2 })
      expect(code).toBe(2)
    }
  },
  LIMIT_MS,
)

test(
  'one that is stopped while it measures leaves nothing behind',
  async () => {
    const held = await heldIn(released)
    const stop = new AbortController()
    vi.mocked(evaluate).mockImplementationOnce(async () => {
      stop.abort(new Interrupted('SIGINT'))
      return undefined
    })
    await releaseIn(released, {}, stop.signal)
    expect(stop.signal.aborted).toBe(true)
    expect(await heldIn(released)).toEqual(held)
  },
  LIMIT_MS,
)

const unreached: [string, object, number, string][] = [
  ['nobody is known', { join: [] }, 2, 'nobody-to-list'],
  ['nobody answers', { join: [dead], timeout: 3_000 }, 4, 'no-network'],
]
test.each(unreached)(
  'where %s there is no release, and nothing of one is left',
  async (_, options, exit, type) => {
    const home = await ownerHome()
    const { code, stdout } = await releaseIn(home, options)
    expect(JSON.parse(stdout.at(-1)!)).toMatchObject({ ev: 'failed', type })
    expect(code).toBe(exit)
    expect(await heldIn(home)).toEqual(before())
  },
  LIMIT_MS,
)

test(
  'what every registry refuses is neither kept nor passed on from here later',
  async () => {
    const home = await ownerHome()
    const { code, stdout, stderr } = await releaseIn(home, { join: [await refuser()] })
    expect(stderr.join()).toMatch(/the one registry in reach refused the listing: no room/)
    expect(JSON.parse(stdout.at(-1)!)).toMatchObject({ type: 'listing-refused' })
    expect(code).toBe(7)
    expect(await heldIn(home)).toEqual(before())
  },
  LIMIT_MS,
)

/** The address of a registry that has nothing and takes nothing. */
async function refuser(): Promise<string> {
  const node = await rest.start()
  const answers: Record<string, RegistryResponse> = {
    list: { type: 'listings', total: 0, listings: [] },
    cards: { type: 'cards', cards: [] },
    lacks: { type: 'lacks', places: [] },
    put: { type: 'put', answers: [{ type: 'full', message: 'no room' }] },
    'put-card': { type: 'put', answers: [{ type: 'full', message: 'no room' }] },
  }
  await node.handle(LISTING_PROTOCOL, async (stream) => {
    const frames = lpStream(stream)
    const request = decodeRequest((await frames.read()).subarray())
    await frames.write(encode(answers[request!.type]!))
    await stream.close()
  })
  return node.getMultiaddrs()[0]!.toString()
}
