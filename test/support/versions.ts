import type { ManifestDraft } from '../../protocol/manifest.ts'
import { makeVersion } from '../../protocol/ports/version.ts'
import { denseJson, paramsOf, topologyOf } from './models.ts'

/** Small versions for tests of manifests, the store and the commands. */

export const owner = '12D3KooWJDwWc1wTDhBqvcbuJ8kkFmaaoDVW6bbGkSxVyUfEsARx'

export const noLimits = { memoryBytes: Number.POSITIVE_INFINITY, batchSize: 1 }

/** What an engineer writes for a table of three columns and two classes. */
export const tableDraft: ManifestDraft = {
  manifest: 1,
  name: 'tiny',
  version: '1.0.0',
  title: 'A tiny table',
  license: 'Apache-2.0',
  parents: [],
  task: 'tabular-classification',
  input: { kind: 'table', columns: ['x', 'y', 'z'], dtype: 'float32' },
  output: { kind: 'classes', labels: ['no', 'yes'] },
  preprocess: [{ op: 'standardize', mean: [0, 0, 0], std: [1, 1, 1] }],
  train: {
    loss: 'categoricalCrossentropy',
    optimizer: { name: 'sgd', learningRate: 0.1 },
    momentum: 0.9,
    batchSize: 8,
    stepsPerRound: 4,
    validation: 0.1,
    seed: 1,
    metrics: ['accuracy'],
  },
  gossip: { rule: 'swap', codec: 'int8', swapsPerRound: 2 },
  data: { accept: ['csv'] },
}

/** A draft's params: 3 inputs, `hidden` units, 2 classes. */
export function tableModel(hidden = 4, seed = 1): { modelJson: Uint8Array; params: Uint8Array } {
  const json = denseJson([3, hidden, 2])
  const params = paramsOf(topologyOf(json), seed)
  return { modelJson: new TextEncoder().encode(json), params: new Uint8Array(params.buffer) }
}

/** The files of a whole, correct version. */
export function tableVersion(
  draft: Partial<ManifestDraft> = {},
  { hidden = 4, seed = 1, extra = new Map<string, Uint8Array>() } = {},
): Promise<Map<string, Uint8Array>> {
  const manifest = { ...tableDraft, ...draft } as ManifestDraft
  return makeVersion({ manifest, ...tableModel(hidden, seed), extra }, owner, noLimits)
}
