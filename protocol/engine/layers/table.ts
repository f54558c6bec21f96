import { activationLayer } from './activation.ts'
import { batchNormalization } from './batch-normalization.ts'
import { bidirectional } from './bidirectional.ts'
import { conv } from './conv.ts'
import { dense } from './dense.ts'
import { depthwiseConv2d } from './depthwise-conv2d.ts'
import { dropout } from './dropout.ts'
import { embedding, positionEmbedding } from './embedding.ts'
import { flatten } from './flatten.ts'
import { globalPooling } from './global-pooling.ts'
import { inputLayer } from './input.ts'
import { layerNormalization } from './layer-normalization.ts'
import { add, average, concatenate, multiply } from './merge.ts'
import { multiHeadAttention } from './multi-head-attention.ts'
import { permute } from './permute.ts'
import { pooling } from './pooling.ts'
import { gru, lstm, recurrentLayer } from './recurrent.ts'
import { relu } from './relu.ts'
import { reshape } from './reshape.ts'
import type { LayerRule } from './rule.ts'
import { separableConv } from './separable-conv.ts'
import { zeroPadding2d } from './zero-padding2d.ts'

/** Every layer a model may have, by its class name in model.json. */
export const layers: Readonly<Record<string, LayerRule>> = {
  InputLayer: inputLayer,
  Dense: dense,
  Flatten: flatten,
  Reshape: reshape,
  Dropout: dropout,
  Activation: activationLayer,
  ReLU: relu,
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
  Conv1D: conv(1),
  Conv2D: conv(2),
  DepthwiseConv2D: depthwiseConv2d,
  SeparableConv1D: separableConv(1),
  SeparableConv2D: separableConv(2),
  ZeroPadding2D: zeroPadding2d,
  MaxPooling1D: pooling('max', 1),
  MaxPooling2D: pooling('max', 2),
  AveragePooling1D: pooling('mean', 1),
  AveragePooling2D: pooling('mean', 2),
  GlobalMaxPooling1D: globalPooling('max', 1),
  GlobalMaxPooling2D: globalPooling('max', 2),
  GlobalAveragePooling1D: globalPooling('mean', 1),
  GlobalAveragePooling2D: globalPooling('mean', 2),
}

/** What trains a layer: the engine's plan, or the fallback, which then trains its whole model. */
export function trainedBy(className: string): 'planned' | 'TensorFlow.js' {
  return layers[className]?.plan ? 'planned' : 'TensorFlow.js'
}
