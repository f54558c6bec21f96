import { denseJson } from '../support/models.ts'

/** A model that bench `train` times: one row here, for both sides. */
export interface TrainModel {
  name: string
  json: string
  optimizer: 'sgd' | 'adam'
  /** Multiply-adds of one example's forward pass, and of one whole step's: three times that, but for the first layer two. */
  multiplyAdds: { forward: number; firstLayer: number }
  /** The same model in PyTorch: see yardstick.py. */
  torch: { model: string; input: number[]; vocabulary?: number }
  /** Share of PyTorch's speed to reach, plain and relaxed. */
  reach: { plain: number; relaxed: number }
}

const dense = {
  json: denseJson([784, 128, 10]),
  multiplyAdds: { forward: 784 * 128 + 128 * 10, firstLayer: 784 * 128 },
  torch: {
    model: 'nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))',
    input: [784],
  },
}

export const trainModels: readonly TrainModel[] = [
  { name: 'dense SGD', ...dense, optimizer: 'sgd', reach: { plain: 0.8, relaxed: 1.2 } },
  { name: 'dense Adam', ...dense, optimizer: 'adam', reach: { plain: 1, relaxed: 1.3 } },
]
