import { activationLayer } from './activation.ts'
import { batchNormalization } from './batch-normalization.ts'
import { bidirectional } from './bidirectional.ts'
import { conv2d } from './conv2d.ts'
import { dense } from './dense.ts'
import { dropout } from './dropout.ts'
import { embedding, positionEmbedding } from './embedding.ts'
import { flatten } from './flatten.ts'
import { globalAveragePooling } from './global-average-pooling.ts'
import { inputLayer } from './input.ts'
import { layerNormalization } from './layer-normalization.ts'
import { add, average, concatenate, multiply } from './merge.ts'
import { multiHeadAttention } from './multi-head-attention.ts'
import { permute } from './permute.ts'
import { pooling2d } from './pooling2d.ts'
import { gru, lstm, recurrentLayer } from './recurrent.ts'
import { reshape } from './reshape.ts'
import type { LayerRule } from './rule.ts'

/** Every layer a model may have, by its class name in model.json. */
export const layers: Readonly<Record<string, LayerRule>> = {
  InputLayer: inputLayer,
  Dense: dense,
  Flatten: flatten,
  Reshape: reshape,
  Dropout: dropout,
  Activation: activationLayer,
  BatchNormalization: batchNormalization,
  LayerNormalization: layerNormalization,
  Embedding: embedding,
  PositionEmbedding: positionEmbedding,
  LSTM: recurrentLayer(lstm),
  GRU: recurrentLayer(gru),
  Bidirectional: bidirectional,
  MultiHeadAttention: multiHeadAttention,
  Add: add,
  Average: average,
  Multiply: multiply,
  Concatenate: concatenate,
  Permute: permute,
  Conv2D: conv2d,
  MaxPooling2D: pooling2d('max'),
  AveragePooling2D: pooling2d('mean'),
  GlobalAveragePooling1D: globalAveragePooling(1),
  GlobalAveragePooling2D: globalAveragePooling(2),
}

/** What trains a layer: the engine's plan, or the fallback, which then trains its whole model. */
export function trainedBy(className: string): 'planned' | 'TensorFlow.js' {
  return layers[className]?.plan ? 'planned' : 'TensorFlow.js'
}
