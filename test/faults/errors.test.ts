import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, statfs, symlink, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { unixfs } from '@helia/unixfs'
import { lpStream } from '@libp2p/utils'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { CommandSpec } from '../../node/command.ts'
import { check } from '../../node/commands/check.ts'
import { evaluate } from '../../node/commands/eval.ts'
import { ls } from '../../node/commands/ls.ts'
import { publish } from '../../node/commands/publish.ts'
import { pull } from '../../node/commands/pull.ts'
import { train } from '../../node/commands/train.ts'
import { writeDirectory } from '../../node/files.ts'
import { openHome } from '../../node/home.ts'
import { type Host, startHost } from '../../node/host.ts'
import { signListing } from '../../protocol/listing.ts'
import { readManifest, writeManifest } from '../../protocol/manifest.ts'
import { encode } from '../../protocol/ports/registry/wire.ts'
import { LISTING_PROTOCOL } from '../../protocol/ports/registry.ts'
import { makeVersion, sha256 } from '../../protocol/ports/version.ts'
import { anyPorts, bootstraps } from '../support/bootstrap.ts'
import { contentsOf, runHere } from '../support/commands.ts'
import { anyPort, newKey, nodes } from '../support/libp2p.ts'
import { denseJson, paramsOf, topologyOf } from '../support/models.ts'
import { owner, tableDraft, tableVersion } from '../support/versions.ts'

/**
 * What a user may do wrong or meet: each gives one line that says what came, what was expected and what to do, the
 * exit code of its kind, `failed` as the last line of --json, and leaves home and output as they were.
 */
const LIMIT_MS = 30_000
const dead = '/ip4/127.0.0.1/tcp/9'
const rest = nodes()
const processes = bootstraps()
let dir: string
let stranger: Host
let address: string
let sound: string
let home: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-errors-'))
  stranger = await startHost({
    home: await openHome(join(dir, 'stranger')),
    join: [],
    listen: [anyPort],
  })
  address = stranger.libp2p.getMultiaddrs()[0]!.toString()
  sound = await stranger.store.addVersion(await tableVersion())
  // A home with something to lose: keys, a version, the address of a peer.
  home = join(dir, 'home')
  const { code } = await user(pull, [sound], { out: join(dir, 'sound') })
  expect(code).toBe(0)
}, LIMIT_MS)
afterAll(async () => {
  await processes.end()
  await rest.stop()
  await stranger.close()
  await rm(dir, { recursive: true, force: true, maxRetries: 5 })
})

/** A user whose only peer is the stranger. */
function user(spec: CommandSpec, args: string[], options: Record<string, unknown> = {}) {
  return runHere(spec, args, { home, join: [address], listen: [anyPort], ...options })
}

/** What must not change: keys, versions, checkpoints. The rest of a home is LevelDB's and the list of peers met. */
async function valuables() {
  const contents = Object.entries(await contentsOf(home))
  return contents.filter(([path]) => /\/(blockstore|checkpoints)\/|\.key$/.test(path))
}

interface Expected {
  code: number
  type: string
  says: RegExp
}

/** Runs what must fail, and looks at all that it may and may not leave. */
async function fails(
  expected: Expected,
  spec: CommandSpec,
  args: string[],
  options: Record<string, unknown> = {},
) {
  const out = join(dir, 'out')
  const before = await valuables()
  const { code, stdout, stderr } = await user(spec, args, { out, ...options })
  expect(stderr.join('\n')).toMatch(expected.says)
  expect(stderr, stderr.join('\n')).toHaveLength(1)
  const last = JSON.parse(stdout.at(-1)!)
  expect(last).toMatchObject({ ev: 'failed', code: expected.code, type: expected.type })
  expect(last.message.length).toBeGreaterThan(10)
  expect(last.hint.length).toBeGreaterThan(10)
  expect(stderr[0]).toContain(`; ${last.hint}`)
  expect(Date.parse(last.t)).toBeGreaterThan(0)
  expect(code).toBe(expected.code)
  expect(await contentsOf(out)).toEqual({})
  expect(await valuables()).toEqual(before)
}

describe('a version that a stranger serves', () => {
  type Change = (files: Map<string, Uint8Array>) => void | Promise<void>
  const shard = 'group1-shard1of1.bin'
  const encoder = new TextEncoder()
  const setManifest = (files: Map<string, Uint8Array>, change: object) => {
    const manifest = JSON.parse(new TextDecoder().decode(files.get('mlstore.json')))
    files.set('mlstore.json', encoder.encode(JSON.stringify({ ...manifest, ...change })))
  }
  /** Listed with its right size and hash, so that the next check meets it. */
  const setFile = async (files: Map<string, Uint8Array>, path: string, bytes: Uint8Array) => {
    const manifest = readManifest(files.get('mlstore.json')!)
    const listed = { path, bytes: bytes.length, sha256: await sha256(bytes) }
    const others = manifest.files.filter((file) => file.path !== path)
    files.set(path, bytes)
    files.set('mlstore.json', writeManifest({ ...manifest, files: [...others, listed] }))
  }
  const modelOf = (files: Map<string, Uint8Array>) =>
    new TextDecoder().decode(files.get('model.json'))

  const cases: [string, Omit<Expected, 'code'>, Change][] = [
    [
      'a wrong hash',
      { type: 'wrong-hash', says: /group1-shard1of1\.bin has sha256 \w{64}, expected \w{64}/ },
      (files) =>
        files.set(
          shard,
          files.get(shard)!.map((byte) => byte ^ 1),
        ) as never,
    ],
    [
      'a missing shard',
      {
        type: 'missing-file',
        says: /group1-shard1of1\.bin is missing, expected as mlstore\.json lists it/,
      },
      (files) => void files.delete(shard),
    ],
    [
      'a wrong size',
      { type: 'wrong-size', says: /group1-shard1of1\.bin has 100 bytes, expected 104/ },
      (files) => void files.set(shard, files.get(shard)!.subarray(0, 100)),
    ],
    [
      'a file too many',
      {
        type: 'extra-file',
        says: /install\.sh is not among the files of mlstore\.json, expected only those/,
      },
      (files) => void files.set('install.sh', encoder.encode('echo')),
    ],
    [
      'an unknown layer',
      { type: 'unknown-layer', says: /layer 1 layer0 is a "Lambda", expected one of/ },
      (files) =>
        setFile(files, 'model.json', encoder.encode(modelOf(files).replace('"Dense"', '"Lambda"'))),
    ],
    [
      'an unknown manifest major',
      {
        type: 'unknown-manifest',
        says: /mlstore\.json is of major 2, expected 1; a newer mlstore may read it/,
      },
      (files) => setManifest(files, { manifest: 2 }),
    ],
    [
      'params that are no numbers',
      { type: 'not-finite', says: /the params hold NaN or infinity, expected finite numbers/ },
      (files) => setFile(files, shard, new Uint8Array(104).fill(255)),
    ],
    [
      'a manifest that is no JSON',
      { type: 'wrong-manifest', says: /mlstore\.json/ },
      (files) => void files.set('mlstore.json', encoder.encode('{"manifest":1')),
    ],
  ]
  test.each(cases)(
    '%s',
    async (_, expected, change) => {
      const files = await tableVersion()
      await change(files)
      const cid = await serveAnything(files)
      await fails({ ...expected, code: 7 }, pull, [cid])
    },
    LIMIT_MS,
  )

  test(
    'more memory than is allowed',
    async () => {
      const cid = await stranger.store.addVersion(await tableVersion({}, { hidden: 20_000 }))
      const says = /training this model takes about \d+ MB, expected at most 1 MB; .*--max-memory/
      const data = await table('x,y,z,label', '1,2,3,no')
      const options = { home: join(dir, 'small'), data }
      const expected = { code: 7, type: 'too-much-memory', says }
      await fails(expected, train, [cid], { ...options, maxMemory: 1 })
    },
    LIMIT_MS,
  )

  test(
    'more memory than half of what is free is refused where it trains or is measured, unless raised',
    async () => {
      const cid = await stranger.store.addVersion(await tableVersion({}, { hidden: 20_000 }))
      const says = /training this model takes about \d+ MB, expected at most 1 MB; .*--max-memory/
      const expected = { code: 7, type: 'too-much-memory', says }
      const [out, data] = [join(dir, 'hungry'), await table('x,y,z,label', '1,2,3,no', '1,2,4,no')]
      const free = vi.spyOn(process, 'availableMemory').mockReturnValue(2.5e6)
      try {
        const home = join(dir, 'hungry-home')
        for (const spec of [train, evaluate]) await fails(expected, spec, [cid], { home, data })
        // Who only holds it, or passes it on, does not train it.
        expect(await user(pull, [cid], { home, out })).toMatchObject({ code: 0, stderr: [] })
        await fails(expected, evaluate, [out], { data })
        const raised = await user(evaluate, [out], { data, maxMemory: 100 })
        expect(raised).toMatchObject({ code: 0, stderr: [] })
        const checked = JSON.parse((await user(check, [out])).stdout[0]!)
        expect(checked).toMatchObject({ ok: true, trains: false })
        const options = { home, data, rounds: 1, swap: false, maxMemory: 100 }
        expect(await user(train, [cid], options)).toMatchObject({ code: 0, stderr: [] })
      } finally {
        free.mockRestore()
      }
    },
    LIMIT_MS,
  )

  test(
    'a listing with a bad signature',
    async () => {
      const key = await newKey()
      const draft = {
        ...{
          name: 'forged',
          title: 'Forged',
          task: tableDraft.task,
          tags: [],
          labels: ['no', 'yes'],
        },
        ...{ genesis: sound, version: sound, manifestVersion: '1.0.0', bytes: 1, sequence: 1 },
      }
      const signed = await signListing(draft, key, Date.now())
      const forged = signed.map((byte, i) => (i === signed.length - 5 ? byte ^ 1 : byte))
      const liar = await rest.start()
      await liar.handle(LISTING_PROTOCOL, async (stream) => {
        const frames = lpStream(stream)
        await frames.read()
        await frames.write(encode({ type: 'listings', total: 1, listings: [forged] }))
        await stream.close()
      })
      const join = [liar.getMultiaddrs()[0]!.toString()]
      const says =
        /no listing of forged passed its check: \w+ sent one that is wrong: .*signature.*; join through another/
      await fails({ code: 7, type: 'bad-listing', says }, pull, ['forged'], { join })
      await liar.stop()
    },
    LIMIT_MS,
  )
})

/** Any files as a directory that bitswap serves, whatever is in them. */
async function serveAnything(files: ReadonlyMap<string, Uint8Array>): Promise<string> {
  const source = [...files].map(([path, content]) => ({ path, content }))
  const options = { wrapWithDirectory: true, cidVersion: 1, rawLeaves: true } as const
  let root = ''
  for await (const { cid, path } of unixfs(stranger.helia).addAll(source, options)) {
    if (path === '') root = cid.toString()
  }
  return root
}

let tables = 0

async function table(...lines: string[]): Promise<string> {
  const path = join(dir, `table-${tables++}.csv`)
  await writeFile(path, `${lines.join('\n')}\n`)
  return path
}

describe('data that does not fit', () => {
  let images: string
  beforeAll(async () => {
    const modelJson = denseJson([784, 2])
    const manifest = {
      ...tableDraft,
      task: 'image-classification' as const,
      input: {
        kind: 'image' as const,
        shape: [28, 28, 1] as [number, number, 1],
        dtype: 'float32' as const,
      },
      preprocess: [{ op: 'scale' as const, multiply: 1 / 255 }],
      data: { accept: ['imagefolder' as const, 'csv' as const] },
    }
    const params = new Uint8Array(paramsOf(topologyOf(modelJson)).buffer)
    const draft = {
      manifest,
      modelJson: new TextEncoder().encode(modelJson),
      params,
      extra: new Map(),
    }
    images = join(dir, 'images')
    await writeDirectory(
      images,
      await makeVersion(draft, owner, { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }),
    )
  })

  const folder = async (files: Record<string, string>) => {
    const path = join(dir, `folder-${tables++}`)
    await mkdir(path)
    for (const [name, base64] of Object.entries(files)) {
      await mkdir(join(path, name, '..'), { recursive: true })
      await writeFile(join(path, name), Buffer.from(base64, 'base64'))
    }
    return path
  }
  /** One white pixel. */
  const png =
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg=='
  const inFolder = 'images'

  const cases: [string, string, () => Promise<string>, string, RegExp][] = [
    [
      'a folder of images of another size',
      inFolder,
      () => folder({ 'no/a.png': png }),
      'wrong-image',
      /no\/a\.png: .*1.?[x×].?1.*28.?[x×].?28/,
    ],
    [
      'a folder that is no label',
      inFolder,
      () => folder({ 'maybe/a.png': png }),
      'unknown-label',
      /has the label "maybe", expected one of "no", "yes"/,
    ],
    [
      'an empty folder',
      inFolder,
      () => folder({}),
      'no-examples',
      /holds no images, expected PNG or JPEG files in one folder per label/,
    ],
    [
      'a folder of files that cannot be read',
      inFolder,
      () => folder({ 'no/a.png': 'AAAA' }),
      'no-examples',
      /none can be read \(no\/a\.png is neither a PNG nor a JPEG file\)/,
    ],
    [
      'a CSV of images of another size',
      inFolder,
      () => table('a,b,label', '1,2,no'),
      'wrong-columns',
      /has 2 pixel columns beside the label, expected 784/,
    ],
    [
      'a missing column',
      'sound',
      () => table('x,y,label', '1,2,no'),
      'missing-column',
      /has no column "z"; its header has "x", "y", "label"/,
    ],
    [
      'an unknown label',
      'sound',
      () => table('x,y,z,label', '1,2,3,maybe'),
      'unknown-label',
      /row 1 has the label "maybe", expected one of "no", "yes"/,
    ],
    [
      'a cell that is no number',
      'sound',
      () => table('x,y,z,label', '1,two,3,no'),
      'wrong-cell',
      /row 1 column "y" is "two", expected a number/,
    ],
    [
      'a header and nothing else',
      'sound',
      () => table('x,y,z,label'),
      'no-examples',
      /holds a header and no rows, expected a header and at least one row/,
    ],
    [
      'a folder, where the model takes a table',
      'sound',
      () => folder({ 'no/a.png': png }),
      'wrong-format',
      /is a folder of images .*, and the model takes a CSV file/,
    ],
    [
      'a path where nothing is',
      'sound',
      async () => join(dir, 'nowhere.csv'),
      'no-such-data',
      /nowhere\.csv does not exist, expected a folder with one folder per label, or a CSV file/,
    ],
    [
      'a path that cannot be read',
      'sound',
      circle,
      'unreadable',
      /circle\.csv cannot be read: ELOOP/,
    ],
  ]
  test.each(cases)('%s', async (_, model, make, type, says) => {
    await fails({ code: 5, type, says }, evaluate, [join(dir, model)], { data: await make() })
  })

  test(
    'train says the same as eval',
    async () => {
      const says = /has no column "z"/
      await fails({ code: 5, type: 'missing-column', says }, train, [sound], {
        data: await table('x,y,label', '1,2,no'),
      })
      const circled = { code: 5, type: 'unreadable', says: /circle\.csv cannot be read: ELOOP/ }
      await fails(circled, train, [sound], { data: join(dir, 'circle.csv') })
      const missing = { code: 5, type: 'no-such-data', says: /nowhere\.csv does not exist/ }
      await fails(missing, train, [sound], { data: join(dir, 'nowhere.csv') })
    },
    LIMIT_MS,
  )

  async function circle(): Promise<string> {
    const path = join(dir, 'circle.csv')
    await symlink(path, path)
    return path
  }
})

describe('the network', () => {
  test('nobody answers before the timeout', async () => {
    const says = /\/ip4\/\S+ did not answer in \d+ s; give --join/
    const options = { home: join(dir, 'lonely'), join: [dead], timeout: 300 }
    await fails({ code: 4, type: 'no-network', says }, pull, ['digits'], options)
  })

  test('a model that nobody lists', async () => {
    const says = /no model nothing is listed by the one registry that answered; mlstore ls/
    await fails({ code: 3, type: 'model-not-found', says }, pull, ['nothing'])
  })

  const addresses: [string, RegExp][] = [
    [
      '/ip4/127.0.0.1/tcp',
      /got the address ".*", which is no multiaddr: a part is unknown or lacks its value; copy one/,
    ],
    ['/ip4/127.0.0.1/tcp/4001/p2p/nobody', /which is no multiaddr/],
    ['/ip4/127.0.0.1', /names no way to connect: expected a host, then/],
  ]
  test.each(addresses)('the address %s', async (typed, says) => {
    await fails({ code: 2, type: 'wrong-address', says }, ls, [], { join: [typed] })
  })

  test('a port in use', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo
    const listen = [`/ip4/127.0.0.1/tcp/${port}`]
    const says =
      /cannot listen on .*: another program has that port.*; stop the other program or choose another port/
    await fails({ code: 8, type: 'port-in-use', says }, pull, [sound], { listen })
    server.close()
  })
})

describe('the disk', () => {
  test('two processes on one home', async () => {
    const held = await openHome(home)
    const says =
      /home locked: another process uses .*, expected one at a time; stop that process, or give this one a --home/
    await fails({ code: 8, type: 'home-locked', says }, pull, [sound])
    await held.close()
  })

  test('a directory that is not empty is not written over', async () => {
    const out = join(dir, 'sound')
    const before = await contentsOf(out)
    const { code, stderr } = await user(pull, [sound], { out })
    expect(stderr).toHaveLength(1)
    expect(stderr[0]).toMatch(
      /is there already with \d+ entries, expected a new or empty directory/,
    )
    expect(code).toBe(2)
    expect(await contentsOf(out)).toEqual(before)
  })

  test('a draft that fails its check publishes nothing', async () => {
    const draft = join(dir, 'draft')
    const files = await tableVersion()
    files.set('model.json', new TextEncoder().encode('{}'))
    await writeDirectory(draft, files)
    await fails({ code: 7, type: 'wrong-model', says: /model\.json/ }, publish, [draft])
  })
})

test(
  'training that diverges is exit code 6, and no params of it are kept',
  async () => {
    const optimizer = { name: 'sgd' as const, learningRate: 100 }
    const recipe = { ...tableDraft.train, optimizer, strict: true }
    const cid = await stranger.store.addVersion(await tableVersion({ name: 'wild', train: recipe }))
    const rows = Array.from({ length: 40 }, (_, i) => `${i}e30,2,3,${i % 2 ? 'yes' : 'no'}`)
    const data = await table('x,y,z,label', ...rows)
    const says =
      /training diverged: .* expected a finite number.*; lower the recipe's learning rate/
    const options = { data, rounds: 3, swap: false, home: join(dir, 'wild') }
    await fails({ code: 6, type: 'diverged', says }, train, [cid], options)
    expect(await readdir(join(dir, 'wild', 'checkpoints'))).toEqual([])
  },
  LIMIT_MS,
)

const disk = await smallDisk()
// What checks a change may mount one: there it would be a hole, not a skip.
if (disk === undefined && process.env.CI)
  throw new Error('expected to mount a small disk for the tests of a full one')
if (disk === undefined) console.log('skipped: a full disk (this user may not mount one)')

describe.runIf(disk !== undefined)('a disk that is full', () => {
  const room = disk!
  /** 480 kB of params: more than fits, where it is said so. */
  let large: string
  beforeAll(async () => {
    large = await stranger.store.addVersion(
      await tableVersion({ name: 'large' }, { hidden: 20_000 }),
    )
  })
  afterAll(() => room.end())
  const says = /^mlstore: disk full: no space left for .*; free some space, or choose another/

  test(
    'takes nothing half a directory of -o',
    async () => {
      expect((await user(pull, [large], { out: join(dir, 'large') })).code).toBe(0)
      room.resize('256k')
      const out = join(room.path, 'out')
      await fails({ code: 8, type: 'disk-full', says }, pull, [large], { out })
      expect(await readdir(room.path)).toEqual([])
    },
    LIMIT_MS,
  )

  test(
    'keeps no version that is not whole, and goes on once there is room',
    async () => {
      room.resize('256k')
      const options = { home: join(room.path, 'home'), out: join(dir, 'whole') }
      await fails({ code: 8, type: 'disk-full', says }, pull, [large], options)
      const kept = await openHome(options.home)
      const host = await startHost({ home: kept, join: [], listen: [anyPort] })
      expect(await host.store.versions()).toEqual([])
      await host.close()
      room.resize('8m')
      expect((await user(pull, [large], options)).code).toBe(0)
    },
    LIMIT_MS,
  )

  test(
    'where a checkpoint does not fit, the one before stays',
    async () => {
      room.resize('8m')
      const options = {
        home: join(room.path, 'trained'),
        swap: false,
        data: await table(
          'x,y,z,label',
          ...Array.from({ length: 40 }, (_, i) => `${i % 7},2,3,no`),
        ),
      }
      const first = await user(train, [large], { ...options, rounds: 1 })
      expect(first.stderr).toEqual([])
      const checkpoints = await contentsOf(join(options.home, 'checkpoints'))
      expect(Object.keys(checkpoints)).toHaveLength(1)
      await room.leave(64 * 1024)
      await fails({ code: 8, type: 'disk-full', says }, train, [large], { ...options, rounds: 2 })
      expect(await contentsOf(join(options.home, 'checkpoints'))).toEqual(checkpoints)
    },
    LIMIT_MS,
  )

  test(
    'lets no home open, and no bootstrap start',
    async () => {
      room.resize('8m')
      await room.leave(0)
      const options = { home: join(room.path, 'new') }
      await fails({ code: 8, type: 'disk-full', says }, pull, [large], options)
      const bootstrap = await processes.run([...anyPorts, '--home', join(room.path, 'boot')])
      expect(bootstrap.stderr).toMatch(
        /^mlstore-bootstrap: .*(No space left|ENOSPC).*; choose a --home on a disk that has room.*\n$/,
      )
      expect(bootstrap).toMatchObject({ code: 8, stdout: '' })
    },
    LIMIT_MS,
  )
})

/** A file system in memory whose size we choose; undefined where mounting is not allowed. */
async function smallDisk() {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined
  const path = await mkdtemp(join(tmpdir(), 'mlstore-disk-'))
  const run = (file: string, ...args: string[]) => execFileSync(file, args, { stdio: 'pipe' })
  try {
    run('mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', path)
  } catch {
    await rm(path, { recursive: true })
    return undefined
  }
  return {
    path,
    /** Room for so much from now on. */
    resize: (size: string) => run('mount', '-o', `remount,size=${size}`, path),
    /** Leaves room for so many bytes. */
    async leave(bytes: number) {
      await rm(join(path, 'ballast'), { force: true })
      const { bavail, bsize } = await statfs(path)
      await writeFile(join(path, 'ballast'), new Uint8Array(bavail * bsize - bytes))
    },
    async end() {
      run('umount', path)
      await rm(path, { recursive: true })
    },
  }
}
