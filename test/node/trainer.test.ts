import { expect, test } from 'vitest'
import { createTrainer } from '../../node/trainer.ts'
import type { BackendName } from '../../protocol/ports/trainer/commands.ts'
import { denseJson } from '../support/models.ts'

test.each<[BackendName, string]>([
  ['auto', 'engine'],
  ['engine', 'engine'],
  ['engine-plain', 'engine-plain'],
  ['wasm', 'wasm'],
])('--backend %s is %s, and the trainer says so', async (backend, got) => {
  const trainer = await createTrainer(denseJson([4, 3, 2]), { backend, batchSize: 2 })
  expect(trainer.backend).toBe(got)
  trainer.close()
})
