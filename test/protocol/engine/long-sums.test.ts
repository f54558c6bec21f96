import { test } from 'vitest'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { expectAgreement, graphOf } from '../../support/engine.ts'

/**
 * Sums over 128 x 128 equal terms, as a global mean sends them back: nothing cancels, and all roundings go one way. A plain
 * running sum in float32 is off by 5e-5.
 */
const conv = { kernel_size: 3, padding: 'same', activation: 'relu' }
const cases: [shape: number[], layer: string, config: Config][] = [
  [[128, 128, 1], 'Conv2D', { ...conv, filters: 5 }],
  [[16_384, 1], 'Conv1D', { filters: 1, kernel_size: 1 }],
  [[128, 128, 1], 'DepthwiseConv2D', conv],
  [[128, 128, 2], 'Dense', { units: 2, activation: 'relu' }],
  [[128, 128, 5], 'LayerNormalization', {}],
  [[16_384], 'Embedding', { input_dim: 1, output_dim: 5 }],
]

test.each(cases)(
  'over %j %s with %j sums a gradient of one value',
  async (shape, layer, config) => {
    await expectAgreement(graphOf(shape, [{ layer, config }]), {
      batch: 1,
      weight: () => 1 / 3,
      input: (random) => (layer === 'Embedding' ? 0 : 1 + random()),
      param: (random) => 0.5 + random(),
    })
  },
)
