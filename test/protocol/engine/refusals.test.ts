import { expect, test } from 'vitest'
import type { Config, Shape } from '../../../protocol/engine/layers/rule.ts'
import { layers } from '../../../protocol/engine/layers/table.ts'

const steps: Shape = [4, 3]
const lstm = (config: Config) => ({
  class_name: 'LSTM',
  config: { name: 'inner', units: 2, ...config },
})

/** What the sequence layers and normalisations refuse: settings that change the result and that no kernel here knows. */
const refused: [layer: string, config: Config, inputs: Shape[], field: string][] = [
  ['LSTM', { units: 0 }, [steps], 'units'],
  ['LSTM', { units: 2 }, [[4]], 'input'],
  ['LSTM', { units: 2, stateful: true }, [steps], 'stateful'],
  ['LSTM', { units: 2, return_state: true }, [steps], 'return_state'],
  ['LSTM', { units: 2, dropout: 1 }, [steps], 'dropout'],
  ['LSTM', { units: 2, recurrent_dropout: 0.1 }, [steps], 'recurrent_dropout'],
  ['LSTM', { units: 2, activation: 'softmax' }, [steps], 'activation'],
  ['LSTM', { units: 2, kernel_regularizer: {} }, [steps], 'kernel_regularizer'],
  ['LSTM', { units: 2, reset_after: true }, [steps], 'reset_after'],
  ['GRU', { units: 2, reset_after: 'yes' }, [steps], 'reset_after'],
  ['Bidirectional', { layer: lstm({}), merge_mode: null }, [steps], 'merge_mode'],
  ['Bidirectional', { layer: { class_name: 'Dense', config: {} } }, [steps], 'layer'],
  ['Bidirectional', { layer: lstm({ go_backwards: true }) }, [steps], 'layer go_backwards'],
  ['Bidirectional', { layer: lstm({ name: '../x' }) }, [steps], 'layer name'],
  ['Bidirectional', { layer: lstm({ cell: {} }) }, [steps], 'layer cell'],
  ['Embedding', { input_dim: 5, output_dim: 2, mask_zero: true }, [[4]], 'mask_zero'],
  ['Embedding', { input_dim: 0, output_dim: 2 }, [[4]], 'input_dim'],
  ['PositionEmbedding', { sequence_length: 3 }, [steps], 'sequence_length'],
  ['BatchNormalization', { axis: 1 }, [steps], 'axis'],
  ['BatchNormalization', { axis: [2, 1] }, [steps], 'axis'],
  ['BatchNormalization', { axis: [] }, [steps], 'axis'],
  ['LayerNormalization', { axis: 1 }, [steps], 'axis'],
  ['LayerNormalization', { axis: [1, 2] }, [steps], 'axis'],
  ['MultiHeadAttention', { num_heads: 2, key_dim: 2 }, [steps, steps, [5, 3]], 'key'],
  ['MultiHeadAttention', { num_heads: 2, key_dim: 2, dropout: 0.1 }, [steps, steps], 'dropout'],
  ['Permute', { dims: [1, 1] }, [steps], 'dims'],
  ['Permute', { dims: [0, 1] }, [steps], 'dims'],
  ['Add', {}, [steps, [4, 2]], 'input'],
  ['Concatenate', { axis: 0 }, [steps, steps], 'axis'],
  ['Concatenate', { axis: -1 }, [steps, [5, 3]], 'input'],
]

test.each(refused)('%s %j of %j is refused, naming %s', (layer, config, inputs, field) => {
  const read = () => layers[layer]!.read(config, inputs, (key) => key)
  expect(read).toThrow(
    expect.objectContaining({ detail: expect.objectContaining({ type: 'wrong-model', field }) }),
  )
})
