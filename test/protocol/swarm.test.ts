import type { Connection, PrivateKey } from '@libp2p/interface'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import { afterEach, expect, test } from 'vitest'
import { signListing } from '../../protocol/listing.ts'
import { type Card, readCard } from '../../protocol/message.ts'
import { systemClock } from '../../protocol/ports/clock.ts'
import type { Node } from '../../protocol/ports/libp2p.ts'
import { topicOf } from '../../protocol/ports/network.ts'
import { randomFrom } from '../../protocol/random.ts'
import type { Report } from '../../protocol/report.ts'
import { joinSwarm, type SwarmOptions } from '../../protocol/swarm.ts'
import { driftManifest, startDrifter } from '../faults/drift.ts'
import { memoryCheckpoints } from '../support/learners.ts'
import { newKey, nodes, once } from '../support/libp2p.ts'

/** One peer of a swarm, and somebody who says on its topic what the owner signed, now or once. */
const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

const old = { manifestVersion: '1.0.0', sequence: 5 }
const known = { manifestVersion: '1.1.0', sequence: 100 }
const news = { manifestVersion: '1.2.0', sequence: 101 }

const starts: [string, string, Partial<SwarmOptions>][] = [
  ['of the version it trains', '1.1.0', {}],
  ['that it knew when it began, of a version above its own', '1.0.0', { released: 100 }],
]
test.each(starts)(
  'an old listing said again is no release after a restart: one %s',
  async (_, version, options) => {
    const { say, releases } = await meet(version, options)
    for (const listing of [old, known, news, known, old]) await say(listing)
    const first = await releases.next()
    expect(first.value).toMatchObject({ ev: 'release', version: '1.2.0' })
    await say({ manifestVersion: '1.3.0', sequence: 102 })
    expect((await releases.next()).value).toMatchObject({ version: '1.3.0' })
  },
)

test('a release that the host keeps is what its card names from then on', async () => {
  const cards: Card[] = []
  const kept = Promise.withResolvers<boolean>()
  const named = Promise.withResolvers<void>()
  const { say, releases } = await meet('1.1.0', {
    onRelease: () => kept.promise,
    introductions: {
      cards: async () => ({ cards: [], answered: [] }),
      reachable: () => 1,
      async putCard(bytes) {
        const card = (await readCard(bytes, Date.now())) as Card
        cards.push(card)
        if (card.version !== genesis) named.resolve()
      },
    },
  })
  await say(news)
  const { cid } = (await releases.next()).value as Extract<Report, { ev: 'release' }>
  expect(cards.map(({ version }) => version)).not.toContain(cid)
  kept.resolve(true)
  await named.promise
  expect(cards.at(-1)).toMatchObject({ genesis, version: cid })
})

test('a peer without room for a connection dials nobody, and dials who it heard of once there is room', async () => {
  const group = nodes()
  open.push(() => group.stop())
  const stranger = await group.start({ gossip: true })
  const asked = Promise.withResolvers<void>()
  let hasRoom = false
  const { libp2p } = await meet('1.0.0', {
    introductions: {
      cards: async () => ({ cards: [{ card: cardOf(stranger) }], answered: ['a registry'] }),
      putCard: async () => {},
      reachable: () => 1,
    },
    hasRoom() {
      asked.resolve()
      return hasRoom
    },
  })
  await asked.promise
  expect(libp2p.getConnections(stranger.peerId)).toEqual([])
  expect(libp2p.getDialQueue()).toEqual([])
  const linked = once<Connection>(libp2p, 'connection:open', ({ remotePeer }) =>
    remotePeer.equals(stranger.peerId),
  )
  hasRoom = true
  await linked
})

function cardOf(node: Node): Card {
  return {
    peer: node.peerId.toString(),
    ...{ genesis, version: genesis, phase: 'training', round: 1, steps: 10 },
    codecs: ['float32'],
    addresses: node.getMultiaddrs().map(String),
    load: 0,
    sequence: 1,
    expiresAt: Date.now() + 60_000,
  }
}

const genesis = await cidOf('genesis')

async function meet(version: string, options: Partial<SwarmOptions>) {
  const group = nodes()
  open.push(() => group.stop())
  const [owner, key] = [await newKey(), await newKey()]
  const libp2p = await group.start({ gossip: true, privateKey: key })
  const settings = { genesis, start: 0, drift: 1, stepMs: 1, resume: false }
  const { learner, ready } = await startDrifter({ ...settings, checkpoints: memoryCheckpoints() })
  const swarm = await joinSwarm({
    ...{ manifest: { ...driftManifest, version, owner: owner.publicKey.toString() } },
    ...{ genesis, version: genesis, libp2p, learner, ready, key },
    introductions: {
      cards: async () => ({ cards: [], answered: [] }),
      putCard: async () => {},
      reachable: () => 1,
    },
    clock: systemClock,
    random: randomFrom(1),
    freshNonce: () => Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex'),
    ...options,
  })
  const reports = swarm.reports[Symbol.asyncIterator]()
  open.push(async () => {
    const left = swarm.leave('over')
    while (!(await reports.next()).done);
    await left
  })
  const speaker = await group.start({ gossip: true })
  const subscribed = once(speaker.services.pubsub, 'subscription-change')
  await speaker.dial(libp2p.getMultiaddrs())
  await subscribed
  return {
    libp2p,
    releases: onlyReleases(reports),
    say: async (words: typeof old) =>
      speaker.services.pubsub.publish(topicOf(genesis), await listingOf(words, owner)),
  }
}

/** Its reader, for the releases among what it says. */
function onlyReleases(reports: AsyncIterator<Report>) {
  return {
    async next() {
      let read = await reports.next()
      while (!read.done && read.value.ev !== 'release') read = await reports.next()
      return read
    },
  }
}

async function listingOf(words: typeof old, owner: PrivateKey): Promise<Uint8Array> {
  const line = { name: 'drift', title: 'Drift', task: 'tabular-classification', bytes: 1 }
  const draft = { ...line, tags: [], labels: [], genesis, ...words }
  const version = await cidOf(words.manifestVersion)
  return signListing({ ...draft, version }, owner, Date.now())
}

async function cidOf(text: string): Promise<string> {
  return CID.create(1, raw.code, await sha256.digest(new TextEncoder().encode(text))).toString()
}
