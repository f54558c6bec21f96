import { activationLayer } from './activation.ts'
import { batchNormalization } from './batch-normalization.ts'
import { bidirectional } from './bidirectional.ts'
import { conv2d } from './conv2d.ts'
import { dense } from './dense.ts'
import { depthwiseConv2d } from './depthwise-conv2d.ts'
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
import { separableConv2d } from './separable-conv2d.ts'

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
  DepthwiseConv2D: depthwiseConv2d,
  SeparableConv2D: separableConv2d,
  MaxPooling2D: pooling2d('max'),
  AveragePooling2D: pooling2d('mean'),
  GlobalAveragePooling1D: globalAveragePooling(1),
  GlobalAveragePooling2D: globalAveragePooling(2),
}
