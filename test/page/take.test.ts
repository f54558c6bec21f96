import '@tensorflow/tfjs-backend-cpu'
import * as tfl from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import type { OpenVersion } from '../../browser/services.ts'
import { zipOf } from '../../browser/take.ts'
import { checkVersion, filesOf, floatsOf, makeVersion } from '../../protocol/ports/version.ts'
import { modelJson } from '../support/models.ts'
import { noLimits, owner, tableDraft } from '../support/versions.ts'
import { unzip } from '../support/zip.ts'

/** Three columns, a frozen layer of two units and a head of two that learns: 8 frozen weights 0 to 7, 6 others 8 to 13. */
async function transferred(): Promise<OpenVersion> {
  const json = modelJson(
    [3],
    [
      { class_name: 'Dense', config: { units: 2, trainable: false } },
      { class_name: 'Dense', config: { units: 2, activation: 'softmax' } },
    ],
    [
      ['layer0/kernel', [3, 2]],
      ['layer0/bias', [2]],
      ['layer1/kernel', [2, 2]],
      ['layer1/bias', [2]],
    ],
  )
  const values = Float32Array.from({ length: 14 }, (_, i) => i)
  const files = await makeVersion(
    {
      ...{ manifest: tableDraft, modelJson: new TextEncoder().encode(json), extra: new Map() },
      params: new Uint8Array(values.buffer),
    },
    owner,
    noLimits,
  )
  const {
    manifest,
    modelJson: written,
    params,
    frozen,
    topology: { demand },
  } = await checkVersion(filesOf(files), noLimits)
  const readme = '# Tiny'
  return {
    cid: 'bafyversion',
    genesis: 'bafyversion',
    manifest,
    readme,
    modelJson: written,
    params,
    frozen,
    demand,
  }
}

async function unzipped(version: OpenVersion, params: Uint8Array) {
  const files = unzip(new Uint8Array(await (await zipOf(version, params)).arrayBuffer()))
  const read = (name: string) => files.get(name)!
  const text = (name: string) => new TextDecoder().decode(read(name))
  return { names: [...files.keys()], read, text }
}

test('a zip holds the model, its params, safetensors, labels and card', async () => {
  const version = await transferred()
  const { names, text } = await unzipped(version, version.params)
  expect(names).toEqual([
    'model.json',
    'group1-shard1of1.bin',
    'model.safetensors',
    'labels.txt',
    'README.md',
  ])
  expect(text('labels.txt')).toBe('no\nyes\n')
  expect(text('README.md')).toBe('# Tiny')
})

test('TensorFlow.js opens what was zipped: params as they were trained, frozen layers as they came', async () => {
  const version = await transferred()
  const trained = Float32Array.of(20, 21, 22, 23, 24, 25)
  const { read, text } = await unzipped(version, new Uint8Array(trained.buffer))
  const { modelTopology, weightsManifest } = JSON.parse(text('model.json'))
  const [{ paths, weights }] = weightsManifest
  expect(weightsManifest).toHaveLength(1)
  const model = await tfl.loadLayersModel({
    load: async () => ({
      ...{ modelTopology, weightSpecs: weights },
      weightData: read(paths[0]).slice().buffer,
    }),
  })
  const held = (name: string) => [
    ...model
      .getLayer(name)
      .getWeights()
      .flatMap((w) => [...w.dataSync()]),
  ]
  expect(held('layer0')).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  expect(held('layer1')).toEqual([...trained])
})

test('the safetensors in a zip name every tensor, frozen ones too, and where its values lie', async () => {
  const version = await transferred()
  const { read } = await unzipped(version, version.params)
  const file = read('model.safetensors')
  const length = Number(new DataView(file.buffer).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)))
  const valuesOf = (name: string) => {
    const [from, to] = header[name].data_offsets
    return [...floatsOf(file.slice(8 + length + from, 8 + length + to))]
  }
  expect(header['layer0/kernel'].shape).toEqual([3, 2])
  expect(valuesOf('layer0/kernel')).toEqual([0, 1, 2, 3, 4, 5])
  expect(valuesOf('layer1/kernel')).toEqual([8, 9, 10, 11])
  expect(file.length).toBe(8 + length + 4 * 14)
})
