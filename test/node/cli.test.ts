import { readFile, stat, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readDuration, systemFault } from '../../node/command.ts'
import { commandLine } from '../support/cli.ts'

let mlstore: Awaited<ReturnType<typeof commandLine>>
beforeAll(async () => {
  mlstore = await commandLine()
})
afterAll(() => mlstore.end())

const names = [
  'publish',
  'ls',
  'show',
  'check',
  'pull',
  'train',
  'release',
  'seed',
  'eval',
  'predict',
  'doctor',
  'key',
  'export',
]

test('help names every command, teaches homes and names, and loads no network', async () => {
  const { code, stdout } = await mlstore.run('--help')
  expect(code).toBe(0)
  for (const name of names) expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
  expect(stdout).toMatch(/--home/)
  expect(stdout).toMatch(/@latest/)
})

test.each(names)('%s --help has examples', async (name) => {
  const { code, stdout } = await mlstore.run(name, '--help')
  expect(code).toBe(0)
  expect(stdout).toMatch(new RegExp(`Examples:\\n  mlstore.* ${name}`))
})

test.each(['train', 'eval'])('%s --help teaches --threads', async (name) => {
  const { stdout } = await mlstore.run(name, '--help')
  expect(stdout).toMatch(/--threads <n> +cores to compute on/)
})

describe('a wrong use ends with exit code 2 and one line that helps:', () => {
  const cases: [name: string, args: string[], says: RegExp][] = [
    ['an unknown command', ['tarin'], /unknown command 'tarin'/],
    ['an unknown option', ['ls', '--colour'], /unknown option '--colour'/],
    ['a missing argument', ['show'], /missing required argument 'model'/],
    ['nothing to check', ['check'], /missing required argument 'dir'.*--layers/],
    ['a missing option', ['pull', 'digits'], /'-o, --out <dir>' not specified/],
    [
      'a wrong multiaddr',
      ['ls', '--join', 'localhost:4001'],
      /--join got "localhost:4001", expected a multiaddr/,
    ],
    [
      'a multiaddr with a wrong part',
      ['ls', '--join', '/ip4/127.0.0.1/tpc/1'],
      /got the address "\/ip4\/127\.0\.0\.1\/tpc\/1"/,
    ],
    [
      'a wrong time',
      ['ls', '--timeout', 'soon'],
      /--timeout got "soon", expected a time such as 90s/,
    ],
    ['a wrong number', ['ls', '--limit', '-1'], /--limit/],
    [
      'no thread at all',
      ['train', 'digits', '--data', 'x', '--threads', '0'],
      /--threads got "0", expected a whole number from 1 to 64/,
    ],
    [
      'an intensity above 100 %',
      ['train', 'digits', '--data', 'x', '--intensity', '101'],
      /--intensity got "101", expected a whole number from 1 to 100/,
    ],
    ['too many threads', ['eval', 'digits', '--threads', '65'], /--threads got "65"/],
    [
      'a wrong format',
      ['export', 'digits', '-o', 'x', '--format', 'onnx'],
      /--format got "onnx", expected one of tfjs, safetensors/,
    ],
    ['a wrong model name', ['show', 'My Model'], /got "My Model", expected a name such as digits/],
  ]
  test.each(cases)('%s', async (_, args, says) => {
    const { code, stdout, stderr } = await mlstore.run(...args)
    expect(stderr).toMatch(says)
    expect(stderr.trim().split('\n')).toHaveLength(1)
    expect(stdout).toBe('')
    expect(code).toBe(2)
  })
})

test('with --json the last line on stdout says how it failed', async () => {
  const { code, stdout } = await mlstore.run('check', mlstore.path('nowhere'), '--json')
  expect(code).toBe(3)
  const last = JSON.parse(stdout.trim().split('\n').at(-1)!)
  expect(last).toMatchObject({ ev: 'failed', code: 3, type: 'directory-not-found' })
  expect(new Date(last.t).getTime()).toBeGreaterThan(0)
})

describe('the owner key', () => {
  const env = { MLSTORE_PASSPHRASE: 'correct horse battery' }
  const run = (...args: string[]) => mlstore.startWith({ env }, 'key', ...args).ended
  const at = (home: string) => ['--home', mlstore.path(home), '-q']

  test('goes from one home to another, which keeps its own until told otherwise', async () => {
    const file = mlstore.path('owner.json')
    const first = await run('export', file, ...at('one'))
    expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^12D3Koo/) })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await run('import', file, ...at('two'))).toMatchObject({ stdout: first.stdout })
    expect(await run('import', file, ...at('two'))).toMatchObject({ code: 0 })

    const other = mlstore.path('other.json')
    const second = await run('export', other, ...at('three'))
    expect(second.stdout).not.toBe(first.stdout)
    const refused = await run('import', file, ...at('three'))
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringMatching(/--replace/) })
    const replaced = await run('import', file, '--replace', ...at('three'))
    expect(replaced).toMatchObject({ code: 0, stdout: first.stdout })
  })

  test('is not written over a file, nor without a passphrase, nor read with another', async () => {
    const file = mlstore.path('mine.json')
    await writeFile(file, 'something else')
    expect(await run('export', file, ...at('one'))).toMatchObject({ code: 2 })
    expect(await readFile(file, 'utf8')).toBe('something else')
    expect(await run('import', file, ...at('one'))).toMatchObject({
      ...{ code: 7, stderr: expect.stringMatching(/no owner key as mlstore writes it/) },
    })
    expect(await run('import', mlstore.path('none.json'), ...at('one'))).toMatchObject({ code: 3 })
    expect(await mlstore.run('key', 'export', file)).toMatchObject({
      ...{ code: 2, stderr: expect.stringMatching(/MLSTORE_PASSPHRASE/) },
    })
    expect(await run('burn', file)).toMatchObject({
      ...{ code: 2, stderr: expect.stringMatching(/expected one of export, import/) },
    })
  })
})

test('no network before the timeout is exit code 4', async () => {
  const { code, stderr } = await mlstore.run(
    'ls',
    '--join',
    '/ip4/127.0.0.1/tcp/9',
    '--timeout',
    '300ms',
  )
  expect(stderr).toMatch('/ip4/127.0.0.1/tcp/9 did not answer in 0 s')
  expect(code).toBe(4)
})

test('a port in use is exit code 8', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const { code, stderr } = await mlstore.run('ls', '--listen', `/ip4/127.0.0.1/tcp/${port}`)
  server.close()
  expect(stderr).toMatch(new RegExp(`cannot listen on /ip4/127.0.0.1/tcp/${port}`))
  expect(code).toBe(8)
})

test('check tells a sound draft from one that names a layer nobody knows', async () => {
  const draft = await mlstore.draft('sound')
  expect(await mlstore.run('check', draft, '-q')).toMatchObject({
    code: 0,
    stdout: 'ok\n',
    stderr: '',
  })
  const model = {
    modelTopology: {
      class_name: 'Sequential',
      config: { layers: [{ class_name: 'Lambda', config: { batch_input_shape: [null, 3] } }] },
    },
  }
  await writeFile(`${draft}/model.json`, JSON.stringify(model))
  const { code, stderr } = await mlstore.run('check', draft)
  expect(stderr).toMatch(/layer 0 is a "Lambda", expected one of/)
  expect(code).toBe(7)
})

test('check prints what each layer takes and what trains it', async () => {
  const draft = await mlstore.draft('layers')
  const { code, stdout } = await mlstore.run('check', draft)
  expect(code).toBe(0)
  const [ok, step, blank, head, ...rows] = stdout.trimEnd().split('\n')
  expect(ok).toMatch(/^ok: draft tiny@1.0.0, 26 params, .* trains in about .* kB$/)
  expect(step).toBe(
    'a step on 8 examples takes 552 multiply-adds; all layers are planned: the engine trains it',
  )
  expect([blank, head?.split(/ {2,}/)]).toEqual([
    '',
    ['LAYER', 'CLASS', 'OUTPUT', 'PARAMS', 'MULTIPLY-ADDS', 'MEMORY', 'TRAINED BY'],
  ])
  expect(rows.map((row) => row.split(/ {2,}/).toSpliced(5, 1))).toEqual([
    ['input', 'InputLayer', '3', '0', '72', 'planned'],
    ['layer0', 'Dense', '4', '16', '288', 'planned'],
    ['layer1', 'Dense', '2', '10', '192', 'planned'],
  ])
  const object = JSON.parse((await mlstore.run('check', draft, '--json')).stdout)
  expect(object).toMatchObject({ ok: true, params: 26, multiplyAdds: 552 })
  expect(object.layers[1]).toMatchObject({ class: 'Dense', output: [4], trainedBy: 'planned' })
})

test('check --layers prints every layer that the engine README lists', async () => {
  const { code, stdout } = await mlstore.run('check', '--layers')
  expect(code).toBe(0)
  const readme = await readFile(new URL('../../protocol/engine/README.md', import.meta.url), 'utf8')
  const listed = [...readme.matchAll(/^\| (\w+) \| (planned|TensorFlow\.js) \|$/gm)]
  const rows = stdout.trimEnd().split('\n').slice(1)
  expect(rows.map((row) => row.split(/ {2,}/))).toEqual(listed.map(([, ...cells]) => cells))
  expect(rows.length).toBeGreaterThan(20)
})

test('what the system says becomes a Fault that says what to do', () => {
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
    code: 'ENOSPC',
  })
  expect(systemFault(new Error('wrapped', { cause: full })).detail).toMatchObject({
    kind: 'resource',
    type: 'disk-full',
  })
  expect(systemFault(new Error('Error: ENOSPC: no space left on device')).detail.type).toBe(
    'disk-full',
  )
  const busy = Object.assign(new Error('listen EADDRINUSE'), {
    code: 'EADDRINUSE',
    address: '::',
    port: 80,
  })
  expect(systemFault(new AggregateError([busy])).detail).toMatchObject({
    type: 'port-in-use',
    message: 'port in use: :::80',
  })
  expect(systemFault(new TypeError('a\n b')).detail).toMatchObject({
    kind: 'unexpected',
    message: 'a b',
  })
})

test('durations are read in every unit', () => {
  expect(
    ['1500ms', '90', '90s', '10m', '2h', '1.5s'].map((text) => readDuration(text, '--for')),
  ).toEqual([1_500, 90_000, 90_000, 600_000, 7_200_000, 1_500])
})
