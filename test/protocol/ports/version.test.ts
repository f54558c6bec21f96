import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { Fault } from '../../../protocol/errors.ts'
import { type Manifest, readManifest, writeManifest } from '../../../protocol/manifest.ts'
import { checkGenesis } from '../../../protocol/ports/genesis.ts'
import {
  checkVersion,
  filesOf,
  floatsOf,
  makeChild,
  makeVersion,
  readDraft,
  sha256,
  shardsOf,
  writeSafetensors,
} from '../../../protocol/ports/version.ts'
import { modelJson } from '../../support/models.ts'
import { noLimits, owner, tableDraft, tableModel, tableVersion } from '../../support/versions.ts'

type Files = Map<string, Uint8Array>
const bytesOfText = (text: string) => new TextEncoder().encode(text)
const textOf = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes)

test('a version has model, shards, manifest, labels and card, and passes its own check', async () => {
  const files = await tableVersion()
  expect([...files.keys()]).toEqual([
    'README.md',
    'group1-shard1of1.bin',
    'labels.txt',
    'mlstore.json',
    'model.json',
  ])
  const { manifest, params } = await checkVersion(filesOf(files), noLimits)
  expect(manifest.owner).toBe(owner)
  expect(params).toEqual(tableModel().params)
  expect(textOf(files.get('labels.txt'))).toBe('no\nyes\n')
})

test('the same draft gives the same bytes', async () => {
  expect(await tableVersion()).toEqual(await tableVersion())
})

test('the card in front is what Hugging Face reads', async () => {
  const files = await tableVersion({ metrics: { accuracy: 0.9 }, tags: ['a: b'] })
  const [, yaml] = textOf(files.get('README.md')).split('---\n')
  expect(parseYaml(yaml!)).toMatchObject({
    license: 'apache-2.0',
    pipeline_tag: 'tabular-classification',
    tags: ['tfjs', 'mlstore', 'a: b'],
    metrics: ['accuracy'],
    'model-index': [{ results: [{ metrics: [{ value: 0.9 }] }] }],
  })
})

test('params are cut into shards of 4 MiB and come back as they were', async () => {
  const hidden = 400_000
  const { params } = tableModel(hidden)
  const files = await tableVersion({}, { hidden })
  const shards = [...files.keys()].filter((path) => path.startsWith('group1'))
  expect(shards).toEqual(['group1-shard1of3.bin', 'group1-shard2of3.bin', 'group1-shard3of3.bin'])
  expect(files.get(shards[0]!)).toHaveLength(4 * 1024 * 1024)
  const checked = await checkVersion(filesOf(files), noLimits)
  expect(Buffer.compare(checked.params, params)).toBe(0)
  expect([...shardsOf(params)].map(([path]) => path)).toEqual(shards)
})

test('tf.loadLayersModel(url) loads a published model.json as it is', async () => {
  const files = await tableVersion()
  const server = createServer((request, response) => {
    const body = files.get(request.url!.slice(1))
    response.writeHead(body === undefined ? 404 : 200, {
      'content-type': request.url!.endsWith('.json')
        ? 'application/json'
        : 'application/octet-stream',
    })
    response.end(body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    await import('@tensorflow/tfjs-backend-cpu')
    const tf = await import('@tensorflow/tfjs-core')
    const { loadLayersModel } = await import('@tensorflow/tfjs-layers')
    const { port } = server.address() as AddressInfo
    const model = await loadLayersModel(`http://127.0.0.1:${port}/model.json`)
    expect(model.inputs[0]!.shape).toEqual([null, 3])
    expect(model.countParams()).toBe(3 * 4 + 4 + 4 * 2 + 2)
    model.dispose()
    expect(tf.memory().numTensors).toBe(0)
  } finally {
    server.close()
  }
})

test('a child keeps the swarm, names its parent, and gets a card with its own figures', async () => {
  const files = await tableVersion()
  const checked = await checkVersion(filesOf(files), noLimits)
  const parent = { cid: `bafy${'b'.repeat(55)}`, files: filesOf(files), checked }
  const change = {
    version: '1.1.0',
    params: tableModel(4, 2).params,
    metrics: { accuracy: 0.75, examples: 8 },
  }
  const child = await checkVersion(
    filesOf(await makeChild(parent, change, owner, noLimits)),
    noLimits,
  )
  expect(child.manifest).toMatchObject({
    version: '1.1.0',
    genesis: parent.cid,
    parents: [parent.cid],
    metrics: change.metrics,
  })
  expect(child.manifest.tensors).toEqual(checked.manifest.tensors)
  expect(child.params).toEqual(change.params)
})

describe('a version with frozen layers', () => {
  /** Three columns, a frozen layer, and a head that learns; their weights in turn. */
  const json = modelJson(
    [3],
    [
      { class_name: 'Dense', config: { units: 4, trainable: false } },
      { class_name: 'Dense', config: { units: 2, activation: 'softmax' } },
    ],
    [
      ['layer1/bias', [2]],
      ['layer0/kernel', [3, 4]],
      ['layer1/kernel', [4, 2]],
      ['layer0/bias', [4]],
    ],
  )
  const values = Float32Array.from({ length: 26 }, (_, i) => i)
  const draft = {
    ...{ manifest: tableDraft, modelJson: bytesOfText(json), extra: new Map() },
    params: new Uint8Array(values.buffer),
  }
  const own = [0, 1, 14, 15, 16, 17, 18, 19, 20, 21]
  const held = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 22, 23, 24, 25]

  test('keeps them in shards of their own, and says which tensors are swapped', async () => {
    const files = await makeVersion(draft, owner, noLimits)
    expect([...files.keys()].filter((path) => path.startsWith('group'))).toEqual([
      'group1-shard1of1.bin',
      'group2-shard1of1.bin',
    ])
    const { manifest, params, frozen } = await checkVersion(filesOf(files), noLimits)
    expect([...floatsOf(params)]).toEqual(own)
    expect([...floatsOf(frozen)]).toEqual(held)
    expect(manifest.tensors.map(({ name }) => name)).toEqual(['layer1/bias', 'layer1/kernel'])
    expect(manifest.frozen!.map(({ name }) => name)).toEqual(['layer0/kernel', 'layer0/bias'])
    const list = 'layer1/bias [2] trainable\nlayer1/kernel [4,2] trainable\n'
    expect(manifest.tensorsSha256).toBe(await sha256(bytesOfText(list)))
  })

  test('has children with the same frozen shards, to the byte', async () => {
    const files = await makeVersion(draft, owner, noLimits)
    const checked = await checkVersion(filesOf(files), noLimits)
    const parent = { cid: `bafy${'b'.repeat(55)}`, files: filesOf(files), checked }
    const params = new Uint8Array(Float32Array.from(own, (value) => -value).buffer)
    const change = { version: '1.1.0', params }
    const again = await makeChild(parent, change, owner, noLimits)
    const child = await checkVersion(filesOf(again), noLimits)
    expect(child.params).toEqual(params)
    expect(child.frozen).toEqual(checked.frozen)
    expect(again.get('group2-shard1of1.bin')).toEqual(files.get('group2-shard1of1.bin'))
    const { tensors, frozen, tensorsSha256 } = checked.manifest
    expect(child.manifest).toMatchObject({ tensors, frozen, tensorsSha256 })
  })

  test('has no child with other frozen weights, nor one that freezes less', async () => {
    const genesis = `bafy${'b'.repeat(55)}`
    const made = async (changes: Partial<typeof draft>) => {
      const manifest = { ...tableDraft, genesis, parents: [genesis] }
      const files = await makeVersion({ ...draft, manifest, ...changes }, owner, noLimits)
      return (await checkVersion(filesOf(files), noLimits)).manifest
    }
    const { genesis: _, ...first } = await made({})
    checkGenesis(await made({}), genesis, first)
    const moved = values.with(held[0]!, -1)
    const other = await made({ params: new Uint8Array(moved.buffer) })
    expect(() => checkGenesis(other, genesis, first)).toThrow(
      /group2-shard1of1.bin is [0-9a-f]{64}, expected [0-9a-f]{64} as in its genesis bafyb/,
    )
    const thawed = await made({ modelJson: bytesOfText(json.replace(',"trainable":false', '')) })
    expect(() => checkGenesis(thawed, genesis, first)).toThrow(/expected .* as in its genesis/)
  })

  test.each<[name: string, change: (manifest: Manifest) => Partial<Manifest>, says: RegExp]>([
    ['without the hash', () => ({ tensorsSha256: undefined }), /tensorsSha256 is missing/],
    ['with another hash', () => ({ tensorsSha256: 'a'.repeat(64) }), /tensorsSha256 is a{64}/],
    [
      'with a frozen tensor less',
      ({ frozen }) => ({ frozen: frozen!.slice(1) }),
      /frozen tensor 0 is layer0\/kernel \[3,4\] trainable in model.json, expected layer0\/bias/,
    ],
    [
      'that swaps what is frozen',
      ({ tensors, frozen }) => ({ tensors: [...tensors, ...frozen!], frozen: undefined }),
      /tensor 2 is missing in model.json, expected layer0\/kernel/,
    ],
  ])('is refused %s', async (_, change, says) => {
    const files = new Map(await makeVersion(draft, owner, noLimits))
    const manifest = readManifest(files.get('mlstore.json')!)
    files.set('mlstore.json', writeManifest({ ...manifest, ...change(manifest) } as Manifest))
    const fault = await faultOf(checkVersion(filesOf(files), noLimits))
    expect(fault.detail).toMatchObject({ kind: 'verification', type: 'wrong-tensors' })
    expect(fault.message).toMatch(says)
  })

  test('is refused with params too short for its tensors', async () => {
    const short = { ...draft, params: draft.params.slice(4) }
    const fault = await faultOf(makeVersion(short, owner, noLimits))
    expect(fault.message).toMatch(/hold 100 bytes, expected 104/)
  })
})

test("an owner's own card, samples and evaluation data are kept by a child", async () => {
  const extra = new Map([
    ['README.md', bytesOfText('# Mine\n')],
    ['eval/a.csv', bytesOfText('x,y,z,label\n')],
  ])
  const files = await tableVersion({ data: { accept: ['csv'], eval: 'eval/a.csv' } }, { extra })
  const checked = await checkVersion(filesOf(files), noLimits)
  const parent = { cid: `bafy${'b'.repeat(55)}`, files: filesOf(files), checked }
  const child = await makeChild(
    parent,
    { version: '1.1.0', params: checked.params },
    owner,
    noLimits,
  )
  expect(textOf(child.get('README.md'))).toBe('# Mine\n')
  expect(child.has('eval/a.csv')).toBe(true)
})

test('a draft is read from its files, whatever its shards are called', async () => {
  const { modelJson, params } = tableModel()
  const draft = await readDraft(
    filesOf(
      new Map([
        ['mlstore.json', bytesOfText(JSON.stringify(tableDraft))],
        [
          'model.json',
          bytesOfText(textOf(modelJson).replace('group1-shard1of1.bin', 'weights.bin')),
        ],
        ['weights.bin', params],
        ['sample/a.csv', bytesOfText('x,y,z,label\n')],
      ]),
    ),
  )
  const files = await makeVersion(draft, owner, noLimits)
  expect([...files.keys()]).not.toContain('weights.bin')
  expect((await checkVersion(filesOf(files), noLimits)).params).toEqual(params)
})

describe('a version is refused with what came and what was expected:', () => {
  const cases: [
    name: string,
    change: (files: Files) => Promise<void> | void,
    type: string,
    says: RegExp,
  ][] = [
    [
      'a wrong hash',
      (files) => flip(files, 'group1-shard1of1.bin'),
      'wrong-hash',
      /group1-shard1of1\.bin has sha256 \w{64}, expected \w{64}/,
    ],
    [
      'a missing shard',
      (files) => void files.delete('group1-shard1of1.bin'),
      'missing-file',
      /group1-shard1of1\.bin is missing/,
    ],
    [
      'a wrong size',
      (files) => void files.set('labels.txt', bytesOfText('no\n')),
      'wrong-size',
      /labels\.txt has 3 bytes, expected 7/,
    ],
    [
      'an extra file',
      (files) => void files.set('evil.js', bytesOfText('1')),
      'extra-file',
      /evil\.js is not among the files/,
    ],
    [
      'no manifest',
      (files) => void files.delete('mlstore.json'),
      'missing-file',
      /mlstore\.json is missing/,
    ],
    [
      'a later manifest',
      (files) => void files.set('mlstore.json', bytesOfText('{"manifest":7}')),
      'unknown-manifest',
      /major 7, expected 1/,
    ],
    [
      'params that are not finite',
      (files) =>
        rewrite(files, 'group1-shard1of1.bin', (bytes) => new Uint8Array(bytes).fill(0xff)),
      'not-finite',
      /NaN or infinity/,
    ],
    [
      'a shard that is too long',
      (files) =>
        rewrite(files, 'group1-shard1of1.bin', (bytes) =>
          Buffer.concat([bytes, new Uint8Array(4)]),
        ),
      'wrong-size',
      /the shards hold 108 bytes, expected 104/,
    ],
    [
      'an unknown layer',
      (files) =>
        rewrite(files, 'model.json', (bytes) =>
          bytesOfText(textOf(bytes).replace('"Dense"', '"Lambda"')),
        ),
      'unknown-layer',
      /"Lambda"/,
    ],
    [
      'labels in another order',
      (files) => rewrite(files, 'labels.txt', () => bytesOfText('yes\nno\n')),
      'wrong-labels',
      /labels\.txt/,
    ],
    [
      'logits where probabilities are expected',
      (files) =>
        rewrite(files, 'model.json', (bytes) =>
          bytesOfText(textOf(bytes).replace('softmax', 'linear')),
        ),
      'wrong-model',
      /ends in relu|ends in linear/,
    ],
    [
      'tensors that are not the model’s',
      (files) =>
        remanifest(files, ({ tensors }) => ({ tensors: [...tensors.slice(1), tensors[0]!] })),
      'wrong-tensors',
      /tensor 0 is layer0\/kernel/,
    ],
    [
      'more columns than inputs',
      (files) =>
        remanifest(files, () => ({
          input: { kind: 'table', columns: ['a'], dtype: 'float32' },
          preprocess: [],
        })),
      'wrong-model',
      /takes \[3\], expected \[1\]/,
    ],
    [
      'more labels than outputs',
      (files) =>
        remanifest(files, () => ({ output: { kind: 'classes', labels: ['a', 'b', 'c'] } })),
      'wrong-model',
      /gives 2 values, expected 3/,
    ],
  ]
  test.each(cases)('%s', async (_, change, type, says) => {
    const files = new Map(await tableVersion())
    await change(files)
    const fault = await faultOf(checkVersion(filesOf(files), noLimits))
    expect(fault.detail).toMatchObject({ kind: 'verification', type })
    expect(fault.exitCode).toBe(7)
    expect(fault.message).toMatch(says)
  })

  test('a model beyond the memory there is', async () => {
    const files = await tableVersion({}, { hidden: 1_000 })
    const fault = await faultOf(
      checkVersion(filesOf(files), { memoryBytes: 100_000, batchSize: 1 }),
    )
    expect(fault.detail).toMatchObject({
      kind: 'verification',
      type: 'too-much-memory',
      limitBytes: 100_000,
    })
  })
})

test('safetensors hold every tensor by name, eight-aligned, with the same values', async () => {
  const { topology, params } = await checkVersion(filesOf(await tableVersion()), noLimits)
  const file = writeSafetensors(topology.tensors, params, { name: 'tiny' })
  const headerBytes = Number(new DataView(file.buffer).getBigUint64(0, true))
  expect(headerBytes % 8).toBe(0)
  const header = JSON.parse(textOf(file.subarray(8, 8 + headerBytes)))
  expect(Object.keys(header)).toEqual([
    '__metadata__',
    'layer0/kernel',
    'layer0/bias',
    'layer1/kernel',
    'layer1/bias',
  ])
  expect(header['layer0/kernel']).toEqual({ dtype: 'F32', shape: [3, 4], data_offsets: [0, 48] })
  expect(floatsOf(file.slice(8 + headerBytes))).toEqual(floatsOf(params))
})

function flip(files: Files, path: string): void {
  const bytes = files.get(path)!.slice()
  bytes[0] = bytes[0]! ^ 1
  files.set(path, bytes)
}

/** Changes a file and the manifest with it, as somebody would who means harm. */
async function rewrite(
  files: Files,
  path: string,
  change: (bytes: Uint8Array) => Uint8Array,
): Promise<void> {
  const bytes = change(files.get(path)!)
  files.set(path, bytes)
  const digest = await sha256(bytes)
  remanifest(files, (manifest) => ({
    files: manifest.files.map((file) =>
      file.path === path ? { path, bytes: bytes.length, sha256: digest } : file,
    ),
  }))
}

function remanifest(
  files: Files,
  change: (manifest: ReturnType<typeof readManifest>) => object,
): void {
  const manifest = readManifest(files.get('mlstore.json')!)
  files.set('mlstore.json', writeManifest({ ...manifest, ...change(manifest) }))
}

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof Fault) return error
  throw new Error(`expected a Fault, got ${error}`)
}
