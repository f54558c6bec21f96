/**
 * What a stranger installs: the packed tarball in an empty folder, run by its own bins, away from this clone.
 */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  type Digits,
  dealDigits,
  readDigits,
  splitDigits,
  take,
  writeDigitsCsv,
  writeDigitsDraft,
} from '../node/samples/digits.ts'
import { type Program, start } from './support/program.ts'
import { root } from './support/sources.ts'

/** Everything installed: ours, the two native packages and what those need. */
const INSTALLED_LIMIT_BYTES = 60e6
/** npm packs, then downloads about 20 MB. */
const INSTALL_LIMIT_MS = 120_000
const TRAIN_LIMIT_MS = 90_000
const DIGITS_PER_PEER = 300

let folder: string
let packed: string[]
const running: Program[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ml-store-pack-'))
  const pack = start('npm', ['pack', '--json', '--pack-destination', folder], root)
  const [{ filename, files }] = JSON.parse(await pack.ended())
  packed = files.map(({ path }: { path: string }) => path)
  await writeFile(join(folder, 'package.json'), '{"private":true}')
  await start('npm', ['install', '--prefer-offline', '--no-audit', `./${filename}`], folder).ended()
}, INSTALL_LIMIT_MS)

afterAll(async () => {
  for (const program of running) program.signal('SIGKILL')
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
})

test('the tarball holds bundles, bins and WebAssembly, and no source of ours', () => {
  expect(packed.filter((path) => path.endsWith('.ts'))).toEqual([])
  expect(packed).toEqual(
    expect.arrayContaining([
      'LICENSE',
      'README.md',
      'bootstrap/mlstore-bootstrap.js',
      'dist/LICENSES.txt',
      'dist/bootstrap.js',
      'dist/cli.js',
      'dist/helper.js',
      'dist/mozjpeg_dec.wasm',
      'dist/plain.wasm',
      'dist/relaxed.wasm',
      'dist/squoosh_png_bg.wasm',
      'dist/tfjs-backend-wasm-simd.wasm',
      'dist/worker.js',
      'node/mlstore.js',
      'protocol/manifest.schema.json',
    ]),
  )
})

test('installed it takes at most 60 MB: two native packages, no Node and no react-native', async () => {
  const { packages } = JSON.parse(await readFile(join(folder, 'package-lock.json'), 'utf8'))
  const asked = Object.keys(packages['node_modules/ml-store'].dependencies)
  expect(asked.sort()).toEqual(['classic-level', 'node-datachannel'])
  const unwanted = /react-native|\/node-(linux|darwin|win)|libp2p|helia|tensorflow/
  expect(Object.keys(packages).filter((path) => unwanted.test(path))).toEqual([])
  expect(await sizeOf(join(folder, 'node_modules'))).toBeLessThanOrEqual(INSTALLED_LIMIT_BYTES)
})

test(
  'the installed bins publish, train two rounds on two threads with a second peer, and export',
  async () => {
    const { train, test: held } = splitDigits(await readDigits())
    const [mine, theirs] = dealDigits(train, 2)
    await writeDigitsDraft(join(folder, 'digits'), held)
    await writeDigitsCsv(join(folder, 'mine.csv'), some(mine!))
    await writeDigitsCsv(join(folder, 'theirs.csv'), some(theirs!))

    const anyPort = ['ws', 'tcp', 'udp', 'http'].flatMap((name) => [`--${name}`, '0'])
    const bootstrap = run(
      'mlstore-bootstrap',
      '--host',
      '127.0.0.1',
      ...anyPort,
      '--home',
      'bootstrap',
    )
    const { addresses } = await bootstrap.says(({ addresses }) => addresses !== undefined)
    const mlstore = (command: string, home: string, ...more: string[]) =>
      run('mlstore', command, '--join', addresses![0]!, '--home', home, ...more)

    const { cid } = await mlstore('publish', 'owner', 'digits', '--serve').says(
      ({ cid }) => cid !== undefined,
    )
    const second = mlstore('train', 'second', cid!, '--data', 'theirs.csv', '--rounds', '100000')
    await second.says(({ ev }) => ev === 'round')

    const two = ['--rounds', '2', '--threads', '2']
    const first = mlstore('train', 'first', cid!, '--data', 'mine.csv', ...two)
    await first.says(({ ev, round }) => ev === 'round' && round === 2)
    await first.says(({ ev }) => ev === 'swap')
    second.signal('SIGINT') // a peer that is done stays as long as others train
    await second.ended(130)
    await first.ended()
    await first.says(({ ev, rounds }) => ev === 'stopped' && rounds === 2)

    await mlstore('export', 'first', cid!, '-o', 'exported', '--format', 'safetensors').ended()
    const tensors = await readTensors(join(folder, 'exported/model.safetensors'))
    expect(tensors['hidden/kernel']).toMatchObject({ dtype: 'F32', shape: [784, 64] })
  },
  TRAIN_LIMIT_MS,
)

/** An installed bin, in the folder it was installed in. */
function run(bin: string, ...args: string[]): Program {
  const program = start(join(folder, 'node_modules/.bin', bin), [...args, '--json'], folder)
  running.push(program)
  return program
}

function some(digits: Digits): Digits {
  const rows = Array.from({ length: digits.size }, (_, row) => row)
  return take(digits, rows.slice(0, DIGITS_PER_PEER))
}

async function sizeOf(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const sizes = files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

/** The header of a safetensors file: 8 bytes of length, then JSON. */
async function readTensors(path: string): Promise<Record<string, unknown>> {
  const bytes = await readFile(path)
  return JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString())
}
