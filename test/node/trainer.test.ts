import { expect, test, vi } from 'vitest'
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

test('half of what is free is the limit of a model, unless another is given', async () => {
  const model = denseJson([4, 300, 2])
  const options = { backend: 'engine', batchSize: 2 } as const
  const free = vi.spyOn(process, 'availableMemory').mockReturnValue(20_000)
  try {
    await expect(createTrainer(model, options)).rejects.toMatchObject({
      detail: { type: 'too-much-memory', limitBytes: 10_000 },
    })
    const trainer = await createTrainer(model, { ...options, memoryBytes: 2 ** 20 })
    trainer.close()
  } finally {
    free.mockRestore()
  }
})
