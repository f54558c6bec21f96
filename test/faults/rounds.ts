import type { Checkpoint } from '../../protocol/ports/trainer/checkpoint.ts'

/** A small checkpoint whose params say its round. */
export function checkpointOf(rounds: number): Checkpoint {
  return {
    facts: {
      ...{ genesis: 'g', version: 'v', seed: 1, steps: rounds, rounds, swaps: 0, outcomes: [] },
      ...{ epoch: 0, position: 0, optimizer: { name: 'sgd', steps: 0 }, momentum: null },
    },
    arrays: { params: new Float32Array(1000).fill(rounds), direction: new Float32Array(1000) },
  }
}
