import { toJsonSchema } from '@valibot/to-json-schema'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Fault } from '../../protocol/errors.ts'
import {
  compareVersions,
  MAX_MANIFEST_BYTES,
  type Manifest,
  manifestSchema,
  readManifest,
  writeManifest,
} from '../../protocol/manifest.ts'
import { tableVersion } from '../support/versions.ts'

const whole = async (): Promise<Manifest> =>
  readManifest((await tableVersion()).get('mlstore.json')!)

test('manifest.schema.json says what the validator says', async () => {
  const schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'mlstore.json, major 1',
    ...toJsonSchema(manifestSchema, { errorMode: 'ignore', typeMode: 'input' }),
  }
  // When stale: npx vitest run --config test/vitest.config.ts test/protocol/manifest.test.ts -u
  await expect(`${JSON.stringify(schema, null, 2)}\n`).toMatchFileSnapshot(
    '../../protocol/manifest.schema.json',
  )
})

test('a manifest survives writing and reading, with fields that only a later writer knows', async () => {
  const manifest = {
    ...(await whole()),
    colour: 'blue',
    train: { ...(await whole()).train, later: { deep: 1 } },
  }
  expect(readManifest(writeManifest(manifest as Manifest))).toEqual(manifest)
})

test('a manifest too long to be pretty is written in one line', async () => {
  const manifest = await whole()
  const tensors = Array.from({ length: 500 }, (_, i) => ({
    name: `layer${i}/kernel`,
    shape: [1, 2, 3],
    role: 'trainable' as const,
  }))
  expect(writeManifest({ ...manifest, tensors }).length).toBeLessThan(MAX_MANIFEST_BYTES)
})

describe('a manifest is refused by name of its field, with what came and what was expected:', () => {
  const cases: [
    name: string,
    change: (manifest: Manifest) => object,
    type: string,
    says: RegExp,
  ][] = [
    ['a later major', () => ({ manifest: 2 }), 'unknown-manifest', /major 2, expected 1/],
    ['no name', () => ({ name: undefined }), 'wrong-manifest', /name is missing, expected/],
    [
      'a name with spaces',
      () => ({ name: 'My model' }),
      'wrong-manifest',
      /name is "My model", expected/,
    ],
    ['a version that is no semver', () => ({ version: '1' }), 'wrong-manifest', /version is "1"/],
    ['an RSA owner', () => ({ owner: 'QmRelay' }), 'wrong-manifest', /owner is "QmRelay"/],
    [
      'a title that turns the writing round',
      () => ({ title: 'a\u202eb' }),
      'wrong-manifest',
      /title is .*expected printable text/,
    ],
    [
      'batches of none',
      ({ train }) => ({ train: { ...train, batchSize: 0 } }),
      'wrong-manifest',
      /train\.batchSize is 0, expected >=1/,
    ],
    [
      'momentum with adam',
      ({ train }) => ({ train: { ...train, optimizer: { name: 'adam', learningRate: 0.1 } } }),
      'wrong-manifest',
      /momentum 0 with adam/,
    ],
    [
      'the same label twice',
      () => ({ output: { kind: 'classes', labels: ['a', 'a'] } }),
      'wrong-manifest',
      /output\.labels is .*expected distinct labels/,
    ],
    [
      'images of a table',
      () => ({ task: 'image-classification' }),
      'wrong-manifest',
      /input\.kind is table, expected image/,
    ],
    [
      'steps for images on a table',
      () => ({ preprocess: [{ op: 'invert' }] }),
      'wrong-manifest',
      /preprocess\.0\.op is invert/,
    ],
    [
      'too few means',
      () => ({ preprocess: [{ op: 'standardize', mean: [0, 0], std: [1, 1] }] }),
      'wrong-manifest',
      /preprocess\.0\.mean is 2 values, expected 1 or 3/,
    ],
    [
      'an unknown step',
      () => ({ preprocess: [{ op: 'eval' }] }),
      'wrong-manifest',
      /preprocess\.0\.op is "eval"/,
    ],
    [
      'a file that climbs',
      ({ files }) => ({ files: [...files, { ...files[0]!, path: '../x' }] }),
      'wrong-manifest',
      /files\.\d+\.path is "\.\.\/x"/,
    ],
    [
      'a file twice',
      ({ files }) => ({ files: [...files, files[0]] }),
      'wrong-manifest',
      /files is .* twice, expected distinct names/,
    ],
    [
      'itself among its files',
      ({ files }) => ({ files: [...files, { ...files[0]!, path: 'mlstore.json' }] }),
      'wrong-manifest',
      /every file but itself/,
    ],
    [
      '2 GiB of files',
      ({ files }) => ({ files: files.map((file) => ({ ...file, bytes: 2 ** 31 })) }),
      'wrong-manifest',
      /files/,
    ],
    [
      'tensors of terabytes',
      () => ({ tensors: [{ name: 'a', shape: [2 ** 30, 2 ** 10], role: 'trainable' }] }),
      'wrong-manifest',
      /tensors is \d+ bytes, expected at most/,
    ],
    [
      'eval data that is not there',
      ({ data }) => ({ data: { ...data, eval: 'eval/none.csv' } }),
      'wrong-manifest',
      /data\.eval is eval\/none\.csv/,
    ],
    [
      'a child without parents',
      () => ({ genesis: `bafy${'a'.repeat(55)}` }),
      'wrong-manifest',
      /parents is \[\]/,
    ],
  ]
  test.each(cases)('%s', async (_, change, type, says) => {
    const manifest = await whole()
    const fault = faultOf(() => readManifest(JSON.stringify({ ...manifest, ...change(manifest) })))
    expect(fault.detail).toMatchObject({ kind: 'verification', type })
    expect(fault.message).toMatch(says)
    expect(fault.message).not.toContain('\n')
  })
})

test('more than 64 KiB is refused before it is parsed', () => {
  expect(faultOf(() => readManifest(' '.repeat(65_537))).message).toMatch(
    /65537 bytes, expected at most 65536/,
  )
})

test('any bytes are a manifest or a Fault of kind verification', () => {
  const near = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((text) => new TextEncoder().encode(text)),
  )
  fc.assert(
    fc.property(near, (bytes) => {
      expect(faultOf(() => readManifest(bytes)).detail.kind).toBe('verification')
    }),
  )
})

function faultOf(work: () => unknown): Fault {
  try {
    work()
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
  throw new Error('expected a Fault, got none')
}

test('versions are ordered by their numbers, and pre-releases come before their release', () => {
  const ordered = ['0.9.9', '1.2.0', '1.10.0', '2.0.0-rc.2', '2.0.0-rc.10', '2.0.0']
  const shuffled = [2, 5, 0, 4, 1, 3].map((i) => ordered[i]!)
  expect(shuffled.toSorted(compareVersions)).toEqual(ordered)
  expect(compareVersions('1.2.0', '1.2.0')).toBe(0)
})
