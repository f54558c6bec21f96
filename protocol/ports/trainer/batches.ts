import { randomFrom, shuffle } from '../../random.ts'
import type { Examples } from '../examples.ts'
import { type Affine, fillInto } from '../preprocess.ts'
import type { Batch } from './trainer.ts'

/**
 * Batches of one peer's training rows, shuffled anew each epoch by (seed, epoch) alone, so that a place in the walk is two
 * numbers and a resumed run takes the batches it would have taken.
 *
 * Every batch is full: what is left at an epoch's end waits for another shuffle. Fewer rows than a batch make one batch.
 */
export interface Batches {
  /** The batch at `place`, in arrays that the next call writes again, and the place after it. */
  take(place: Place, seed: number): { batch: Batch; next: Place }
}

export interface Place {
  epoch: number
  /** Rows taken of this epoch. */
  position: number
}

export function createBatches(
  examples: Examples,
  rows: Uint32Array,
  affine: Affine,
  options: { batchSize: number; seed: number },
): Batches {
  const size = Math.min(options.batchSize, rows.length)
  const batch = {
    inputs: new Float32Array(size * examples.width),
    labels: new Int32Array(size),
    size,
    seed: 0,
  }
  let order: Uint32Array | undefined
  let shuffledEpoch = -1
  const orderOf = (epoch: number) => {
    if (!order || epoch !== shuffledEpoch)
      order = shuffle(randomFrom(seedOf(options.seed, epoch)), rows.slice())
    shuffledEpoch = epoch
    return order
  }
  return {
    take(place, seed) {
      const { epoch, position } = place.position + size <= rows.length ? place : nextEpoch(place)
      fillInto(batch, examples, orderOf(epoch), position, position + size, affine)
      return { batch: { ...batch, seed }, next: { epoch, position: position + size } }
    },
  }
}

function nextEpoch({ epoch }: Place): Place {
  return { epoch: epoch + 1, position: 0 }
}

/** One number for a generator from two: seeds have 32 bits, epochs the 21 above. */
function seedOf(seed: number, epoch: number): number {
  return seed + (epoch % 2 ** 21) * 2 ** 32
}
