import { expect, test } from 'vitest'
import { gpus } from '../../browser/gpu.ts'
import type { LayerSpec } from '../support/graph.ts'
import { branchingJson, topologyOf } from '../support/models.ts'

test('a GPU is looked for by what learns of a model, not by its frozen start', () => {
  const namesFor = (held: { frozen?: true }) => {
    const layers: LayerSpec[] = [
      { layer: 'Conv2D', config: { filters: 64, kernel_size: 3, padding: 'same' }, ...held },
      { layer: 'GlobalAveragePooling2D' },
      { layer: 'Dense', config: { units: 3, activation: 'softmax' } },
    ]
    const topology = topologyOf(branchingJson([64, 64, 16], layers))
    return gpus(neverStarts, { topology, backend: 'auto' }).map(({ backend }) => backend)
  }
  expect(namesFor({})).toEqual(['webgpu', 'webgl'])
  expect(namesFor({ frozen: true })).toEqual([])
})

function neverStarts(): never {
  throw new Error('a candidate is started by who chooses')
}
