import { randomBytes } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import type { Card } from '../../protocol/message.ts'
import { systemClock } from '../../protocol/ports/clock.ts'
import type { Node } from '../../protocol/ports/libp2p.ts'
import { randomFrom } from '../../protocol/random.ts'
import { joinSwarm, type Swarm } from '../../protocol/swarm.ts'
import { driftManifest, startDrifter } from '../faults/drift.ts'
import { memoryCheckpoints } from '../support/learners.ts'
import { newKey, nodes, once } from '../support/libp2p.ts'

const genesis = 'bafyroom'
const running = nodes()
let swarm: Swarm
afterEach(async () => {
  await swarm.leave('done')
  await running.stop()
})

test('a peer without room for a connection dials nobody, and dials who it heard of once there is room', async () => {
  const key = await newKey()
  const node = await running.start({ gossip: true, privateKey: key })
  const stranger = await running.start({ gossip: true })
  const card = cardOf(stranger)
  const settings = { genesis, start: 0, drift: 1, stepMs: 1, resume: false }
  const { learner, ready } = await startDrifter({ ...settings, checkpoints: memoryCheckpoints() })
  const asked = Promise.withResolvers<void>()
  let room = false
  let timesAsked = 0
  swarm = await joinSwarm({
    manifest: driftManifest,
    genesis,
    version: genesis,
    libp2p: node,
    introductions: {
      cards: async () => ({ cards: [{ card }], answered: ['a registry'] }),
      putCard: async () => {},
      reachable: () => 1,
    },
    learner,
    ready,
    clock: systemClock,
    random: randomFrom(1),
    freshNonce: () => randomBytes(16).toString('hex'),
    key,
    hasRoom() {
      timesAsked++
      if (timesAsked === 2) asked.resolve()
      return room
    },
  })
  await asked.promise
  expect(node.getConnections()).toEqual([])
  const linked = once(node, 'connection:open')
  room = true
  await linked
  expect(node.getConnections(stranger.peerId)).toHaveLength(1)
})

function cardOf(node: Node): Card {
  return {
    peer: node.peerId.toString(),
    genesis,
    version: genesis,
    phase: 'training',
    round: 1,
    steps: 10,
    codecs: ['float32'],
    addresses: node.getMultiaddrs().map(String),
    load: 0,
    sequence: 1,
    expiresAt: Date.now() + 60_000,
  }
}
