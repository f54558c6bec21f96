import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import {
  checkpointIn,
  forgetCheckpoint,
  keptParams,
  listCheckpoints,
} from '../../browser/checkpoint.ts'
import { encodeCheckpoint } from '../../protocol/ports/trainer/checkpoint.ts'
import { forgetDatabases, keptIn } from '../support/idb.ts'

vi.mock('idb-keyval', () => import('../support/idb.ts'))
beforeEach(() => {
  forgetDatabases()
  vi.stubGlobal('indexedDB', {})
})
afterEach(() => void vi.unstubAllGlobals())

interface Generations {
  newest: { file: Blob; at: number }
  older?: { file: Blob; at: number }
}

async function write(genesis: string, rounds: number): Promise<void> {
  const file = checkpointIn(genesis, 'Digits', () => {})
  await file.write(
    await encodeCheckpoint({
      facts: {
        ...{ genesis, version: 'bafyversion', seed: 1, steps: 10, rounds, swaps: 0, outcomes: [] },
        ...{ epoch: 0, position: 0, optimizer: { name: 'sgd', steps: 10 }, momentum: null },
      },
      arrays: { params: Float32Array.of(rounds) },
    }),
  )
}

function damage(genesis: string, ...which: ('newest' | 'older')[]): void {
  const record = keptIn('mlstore-checkpoints').get(genesis) as Required<Generations>
  for (const name of which) record[name].file = new Blob(['MLSTORE'])
}

test('of a checkpoint whose newest generation is damaged the older is told, as a run goes on from it', async () => {
  await write('bafygenesis', 3)
  await write('bafygenesis', 4)
  expect(await listCheckpoints()).toMatchObject([{ rounds: 4, version: 'bafyversion' }])
  damage('bafygenesis', 'newest')
  const [found] = await listCheckpoints()
  expect(found).toMatchObject({ title: 'Digits', rounds: 3 })
  expect(found).not.toHaveProperty('damage')
  expect(await keptParams('bafygenesis', 1)).toEqual(new Uint8Array(Float32Array.of(3).buffer))
})

test('one of which nothing can be read is told with its damage beside the others, until it is forgotten', async () => {
  await write('bafydamaged', 3)
  await write('bafydamaged', 4)
  await write('bafywhole', 5)
  damage('bafydamaged', 'newest', 'older')
  const found = await listCheckpoints()
  expect(found).toHaveLength(2)
  expect(found.find(({ genesis }) => genesis === 'bafydamaged')).toMatchObject({
    ...{ title: 'Digits', version: 'bafydamaged', rounds: 0, damage: 'no header' },
  })
  await forgetCheckpoint('bafydamaged')
  expect((await listCheckpoints()).map(({ genesis }) => genesis)).toEqual(['bafywhole'])
})

test('a record of another shape, and a file that cannot be read, are no reason to list nothing', async () => {
  await write('bafywhole', 5)
  keptIn('mlstore-checkpoints').set('bafyodd', { title: 7 })
  const found = await listCheckpoints()
  expect(found.map(({ genesis, damage }) => [genesis, typeof damage])).toEqual([
    ['bafywhole', 'undefined'],
    ['bafyodd', 'string'],
  ])
})
