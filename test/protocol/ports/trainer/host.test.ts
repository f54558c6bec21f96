import { expect, test } from 'vitest'
import { engineBinary, tfjsWasmFolder } from '../../../../node/wasm.ts'
import type { BackendName } from '../../../../protocol/ports/trainer/commands.ts'
import { bestSimd, type Simd } from '../../../../protocol/ports/trainer/engine.ts'
import { createTrainerOn } from '../../../../protocol/ports/trainer/host.ts'
import { denseJson } from '../../../support/models.ts'

test.each<[BackendName, Simd]>([
  ['auto', bestSimd()],
  ['engine-plain', 'plain'],
  ['wasm', 'plain'],
])('of the two builds of the kernels %s fetches one', async (backend, wanted) => {
  const fetched: Simd[] = []
  const host = {
    binary(simd: Simd) {
      fetched.push(simd)
      return engineBinary(simd)
    },
    ...{ startHelper: undefined, cores: 1, memoryBytes: () => 2 ** 30 },
    wasmPlaces: tfjsWasmFolder,
  }
  const trainer = await createTrainerOn(host, denseJson([4, 3, 2]), { backend, batchSize: 2 })
  expect(fetched).toEqual([wanted])
  trainer.close()
})
