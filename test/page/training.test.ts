import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import type { Host } from '../../browser/host.ts'
import type { TrainOptions } from '../../browser/services.ts'
import { startRun } from '../../browser/training.ts'
import type { Ready } from '../../protocol/index.ts'
import type { Listing } from '../../protocol/listing.ts'
import type { HeldVersion } from '../../protocol/ports/presence.ts'
import type { StoredVersion } from '../../protocol/ports/store.ts'
import type { SwarmOptions } from '../../protocol/swarm.ts'
import { digits } from './manifests.ts'

/** What a run tells its swarm and its host; the swarm and the worker are played by hand. */
const played = vi.hoisted(() => ({
  ready: {} as Partial<Ready>,
  options: {} as Partial<SwarmOptions>,
  release: async (): Promise<unknown> => ({}),
}))
vi.mock('../../protocol/index.ts', () => ({
  systemClock: {},
  async joinSwarm(options: SwarmOptions) {
    played.options = options
    return { reports: [], traffic: { up: 0, down: 0 } }
  },
}))
vi.mock('../../browser/learner.ts', () => ({
  startLearner: () => ({
    ready: Promise.resolve(played.ready),
    ended: Promise.resolve(),
    close() {},
  }),
}))
vi.mock('../../protocol/ports/release.ts', () => ({
  newestKnown: () => 6,
  keepRelease: () => played.release(),
}))
beforeEach(() => {
  played.ready = { backend: 'engine', msPerStep: 1, remarks: [], rounds: 0 }
})

const checked = { manifest: digits, params: new Uint8Array(4) }
const version = { cid: 'bafyversion', manifest: digits, checked }
const released = { version: 'bafyrelease' } as Listing

async function run(options: Partial<TrainOptions> = {}) {
  const announced: HeldVersion[] = []
  const kept = (cid: string, keptAt: number) => ({ cid, genesis: 'bafyversion', keptAt })
  const host = {
    home: {},
    store: { versions: async () => [kept('bafyversion', 1), kept('bafyrelease', 2)] },
    yieldCard() {},
    announce: async (held: HeldVersion) => void announced.push(held),
  } as unknown as Host
  const started = await startRun(
    host,
    version as unknown as StoredVersion,
    { resume: false, ...options } as TrainOptions,
  )
  const end = async () => void (await Array.fromAsync(started.reports))
  onTestFinished(end) // one run at a time
  return { announced, ...started, end }
}

test.each([
  [0, 30],
  [29, 30],
  [30, 60],
  [61, 90],
])('a run of 30 rounds that goes on from round %i ends after round %i', async (done, last) => {
  played.ready = { ...played.ready, rounds: done }
  const { view } = await run({ rounds: 30 })
  const { rounds } = played.options
  expect(typeof rounds === 'function' && rounds(played.ready as Ready)).toBe(last)
  expect(view.rounds).toBe(last)
})

test('a run without a limit has none', async () => {
  const { view } = await run()
  const { rounds } = played.options
  expect(typeof rounds === 'function' && rounds(played.ready as Ready)).toBeUndefined()
  expect(view.rounds).toBe(0)
})

test('a release that is kept is what the page says that it serves, once its run is over', async () => {
  const { announced, end } = await run()
  expect(played.options.released).toBe(6)
  played.release = async () => ({})
  expect(await played.options.onRelease!(released, new Uint8Array())).toBe(true)
  expect(announced).toEqual([])
  await end()
  await expect.poll(() => announced).toEqual([{ cid: 'bafyrelease', genesis: 'bafyversion' }])
})

test('one whose fetch ends after the run is said then; one that fails, never', async () => {
  const { announced, end } = await run()
  const fetch = Promise.withResolvers<void>()
  played.release = () => Promise.reject(new Error('nobody has it'))
  expect(await played.options.onRelease!(released, new Uint8Array())).toBe(false)
  played.release = () => fetch.promise
  const keeping = played.options.onRelease!(released, new Uint8Array())
  await end()
  const named = () => announced.map(({ cid }) => cid)
  await expect.poll(named).toEqual(['bafyversion'])
  fetch.resolve()
  await keeping
  await expect.poll(named).toEqual(['bafyversion', 'bafyrelease'])
})
