import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openHome } from '../../node/home.ts'
import { type Host, startHost } from '../../node/host.ts'
import { anyPort } from '../support/libp2p.ts'
import { type DriftingHost, startDrifting } from './drifting.ts'

/** Two peers that nobody can dial, and a Node peer of another model that both reach: no bootstrap anywhere. */
const LIMIT_MS = 60_000
let dir: string
let middle: Host
const outer: DriftingHost[] = []

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-relay-'))
  middle = await startHost({
    home: await openHome(join(dir, 'middle')),
    join: [],
    listen: [anyPort],
  })
})
afterAll(async () => {
  await Promise.all(outer.map(({ swarm }) => swarm.leave('done')))
  for (const { host } of outer) await host.close()
  await middle.close()
  await rm(dir, { recursive: true, force: true, maxRetries: 5 })
})

test(
  'a Node peer introduces them and carries their signalling: they swap over WebRTC, and swap on when it is gone',
  async () => {
    const address = middle.libp2p.getMultiaddrs()[0]!.toString()
    const listen = [`${address}/p2p-circuit`, '/webrtc']
    for (const [name, start] of [
      ['left', 1],
      ['right', -1],
    ] as const) {
      const options = { genesis: 'bafyrelayed', dir: join(dir, name), start, listen }
      outer.push(await startDrifting({ ...options, join: [address] }))
    }
    const [left, right] = outer as [DriftingHost, DriftingHost]
    expect(await left.nextSwap()).toMatchObject({ path: 'webrtc', with: idOf(right) })
    await middle.close()
    expect(await right.nextSwap()).toMatchObject({ path: 'webrtc', with: idOf(left) })
    expect(await left.nextSwap()).toMatchObject({ path: 'webrtc', with: idOf(right) })
  },
  LIMIT_MS,
)

function idOf({ host }: DriftingHost): string {
  return host.libp2p.peerId.toString()
}
