import { activationLayer } from './activation.ts'
import { batchNormalization } from './batch-normalization.ts'
import { dense } from './dense.ts'
import { dropout } from './dropout.ts'
import { flatten } from './flatten.ts'
import { inputLayer } from './input.ts'
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
}
