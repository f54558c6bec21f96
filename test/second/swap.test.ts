import { createHash } from 'node:crypto'
import { noise } from '@chainsafe/libp2p-noise'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import type { Libp2p, PrivateKey } from '@libp2p/interface'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { afterEach, expect, test } from 'vitest'
import { swap } from '../../protocol/aggregate/swap.ts'
import { encodeState } from '../../protocol/codec/state.ts'
import { codecs } from '../../protocol/codec/table.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import type { TensorSpec } from '../../protocol/params.ts'
import { systemClock } from '../../protocol/ports/clock.ts'
import { topicOf } from '../../protocol/ports/network.ts'
import type { Command, WorkerEvent } from '../../protocol/ports/trainer/commands.ts'
import { randomFrom } from '../../protocol/random.ts'
import type { Report } from '../../protocol/report.ts'
import { joinSwarm, type Learner, type Swarm } from '../../protocol/swarm.ts'
import { anyPort, newKey, nodes, once } from '../support/libp2p.ts'
import { block, bytesOf, paramsOf } from '../support/specification.ts'
import { type SecondPeer, secondPeer } from './peer.ts'

/** The shipped peer and one written from protocol/README.md alone meet over real libp2p nodes on 127.0.0.1. */

const genesis = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi'
const otherGenesis = 'bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354'
const toy = JSON.parse(block('json', 'tensor-list')).map(
  ([name, shape, role]: [string, number[], TensorSpec['role']]) => ({ name, shape, role }),
)
/** Large enough to fill the window of a connection twice. */
const wide: TensorSpec[] = [{ name: 'wide', shape: [1_200_000], role: 'trainable' }]

const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

test('a shipped offerer and a second accepter end with the params that the specification says', async () => {
  const { shipped, second } = await meet('offerer-params', 'accepter-params')
  const settled = second.next('settled')
  shipped.trained()
  await Promise.all([settled, shipped.heard('swap')])
  expect(bytesFrom(shipped.params)).toEqual(bytesOf('offerer-after'))
  expect(bytesFrom(second.params)).toEqual(bytesOf('accepter-after'))
  expectSameSum(shipped.params, second.params)
})

test('a second offerer and a shipped accepter end with the params that the specification says', async () => {
  const { shipped, second, offer } = await meet('accepter-params', 'offerer-params')
  await spendOffer(shipped, second)
  const heard = shipped.heard('swap')
  expect(await offer()).toBe('settled')
  await heard
  expect(bytesFrom(shipped.params)).toEqual(bytesOf('accepter-after'))
  expect(bytesFrom(second.params)).toEqual(bytesOf('offerer-after'))
  expectSameSum(shipped.params, second.params)
})

test('a second accepter that loses COMMIT asks, is told, and settles late', async () => {
  const { shipped, second } = await meet('offerer-params', 'accepter-params')
  second.losesCommits = true
  const settled = second.next('settled')
  shipped.trained()
  await settled
  expect(bytesFrom(shipped.params)).toEqual(bytesOf('offerer-after'))
  expect(bytesFrom(second.params)).toEqual(bytesOf('accepter-after'))
})

test('a shipped accepter that loses COMMIT asks, is told, and settles late', async () => {
  const { shipped, second, offer } = await meet('accepter-params', 'offerer-params')
  await spendOffer(shipped, second)
  second.losesCommits = true
  const told = second.next('told')
  const heard = shipped.heard('swap')
  expect(await offer()).toBe('settled')
  await Promise.all([told, heard])
  expect(shipped.swarm.view).toMatchObject({ swaps: 1, failedSwaps: 1, inDoubt: 0 })
  expect(bytesFrom(shipped.params)).toEqual(bytesOf('accepter-after'))
  expectSameSum(shipped.params, second.params)
})

test('a swap in another codec than the recipe names settles by that codec', async () => {
  const { shipped, second, offer } = await meet('accepter-params', 'offerer-params', {
    codec: 'float32',
  })
  await spendOffer(shipped, second)
  const heard = shipped.heard('swap')
  expect(await offer()).toBe('settled')
  await heard
  const middle = paramsOf('offerer-params').map(
    (x, i) => x + 0.5 * (paramsOf('accepter-params')[i]! - x),
  )
  expect([...shipped.params]).toEqual([...middle])
  expect([...second.params]).toEqual([...middle])
})

test.for(['shipped', 'second'] as const)(
  'of two crossing offers that of the lower peer id stands: %s',
  async (lower) => {
    const { shipped, second, offer } = await meet('offerer-params', 'accepter-params', { lower })
    second.mood = 'hold'
    const held = second.next('held')
    const heard = shipped.heard('swap')
    const settled = lower === 'shipped' ? second.next('settled') : undefined
    shipped.trained()
    await held
    expect(await offer()).toBe(lower === 'shipped' ? 'crossed' : 'settled')
    await Promise.all([heard, settled])
    expect(bytesFrom(shipped.params)).toEqual(bytesOf('offerer-after'))
    expect(bytesFrom(second.params)).toEqual(bytesOf('accepter-after'))
  },
)

test('copies larger than the window arrive whole on both sides', async () => {
  const params = () => Float32Array.from({ length: 1_200_000 }, (_, i) => (i % 251) / 256)
  const { shipped, second } = await meet(params(), params().reverse(), {
    recipe: 'float32',
    tensors: wide,
  })
  const settled = second.next('settled')
  shipped.trained()
  await Promise.all([settled, shipped.heard('swap')])
  expect(Buffer.compare(bytesFrom(shipped.params), bytesFrom(second.params))).toBe(0)
})

test('a hundred refused offers leave no stream behind', async () => {
  const { shipped, offer } = await meet('offerer-params', 'accepter-params')
  shipped.swarm.pause()
  for (let i = 0; i < 100; i++) expect(await offer()).toBe('paused')
})

test('state is pulled either way, and a card signed by the second peer is believed', async () => {
  const first = await meet('offerer-params', 'accepter-params')
  first.shipped.trained()
  expect(await first.pull()).toBe('adopted')
  expect(first.second.steps).toBe(5)
  expect(bytesFrom(first.second.params)).toEqual(bytesFrom(paramsOf('offerer-params')))

  const newcomer = await meet('accepter-params', 'offerer-params', { newcomer: true })
  newcomer.second.steps = 7
  newcomer.second.direction.fill(0.25)
  await newcomer.say(await newcomer.second.card(1))
  await newcomer.shipped.adopted
  expect(bytesFrom(newcomer.shipped.params)).toEqual(bytesFrom(paramsOf('offerer-params')))
  expect(newcomer.shipped.swarm.view.steps).toBe(7)
})

test('cards of the swarm are passed on, those of another swarm are not', async () => {
  const { libp2p, second, say } = await meet('offerer-params', 'accepter-params')
  const far = await secondNode(await newKey())
  open.push(async () => far.stop())
  const { pubsub } = far.services
  pubsub.subscribe(topicOf(genesis))
  const isOurs = ({ peerId }: { peerId: string }) => peerId === libp2p.peerId.toString()
  const grafted = once(pubsub, 'gossipsub:graft', isOurs)
  await far.dial(libp2p.getMultiaddrs())
  await grafted
  const foreign = await second.card(1, otherGenesis)
  const own = await second.card(2)
  const heard: Uint8Array[] = []
  const arrived = once<{ data: Uint8Array }>(pubsub, 'message', ({ data }) => {
    heard.push(data)
    return Buffer.compare(data, own) === 0
  })
  await say(foreign)
  await say(own)
  await arrived
  expect(heard.some((data) => Buffer.compare(data, foreign) === 0)).toBe(false)
})

// The two ------------------------------------------------------------------------------------------------------------

interface MeetOptions {
  /** What the second peer offers, and what the recipe names: int8 unless said otherwise. */
  codec?: 'int8' | 'float32'
  recipe?: 'int8' | 'float32'
  tensors?: TensorSpec[]
  newcomer?: boolean
  /** Whose peer id is the lower. */
  lower?: 'shipped' | 'second'
}

/** Both peers, connected and in one swarm. Neither has trained yet. */
async function meet(
  ours: string | Float32Array,
  theirs: string | Float32Array,
  options: MeetOptions = {},
) {
  const { codec = 'int8', tensors = toy } = options
  const paramsFrom = (given: string | Float32Array) =>
    typeof given === 'string' ? paramsOf(given) : given
  const group = nodes()
  const keys = [await newKey(), await newKey()].sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1))
  const [key, secondKey] = (options.lower === 'second' ? keys.reverse() : keys) as [
    PrivateKey,
    PrivateKey,
  ]
  const libp2p = await group.start({ gossip: true, privateKey: key })
  open.push(() => group.stop())
  const node = await secondNode(secondKey)
  open.push(async () => node.stop())
  const second = await secondPeer({
    libp2p: node,
    key: secondKey,
    genesis,
    tensors,
    params: paramsFrom(theirs),
    codec,
  })

  const learner = newLearner(paramsFrom(ours), tensors)
  const manifest = {
    tensors,
    owner: '',
    gossip: { rule: 'swap', codec: options.recipe ?? 'int8', swapsPerRound: 1 },
    train: { stepsPerRound: 5, strict: false },
  } as unknown as Manifest
  const swarm = await joinSwarm({
    ...{
      manifest,
      genesis,
      version: genesis,
      libp2p,
      learner,
      key,
      clock: systemClock,
      random: randomFrom(1),
    },
    introductions: {
      cards: async () => ({ cards: [], answered: [] }),
      putCard: async () => {},
      reachable: () => 1,
    },
    ready: ready(!options.newcomer),
    freshNonce: () => Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex'),
  })
  const reports = follow(swarm)
  const linked = reports.heard('peers', ({ direct }) => direct > 0)
  // The second peer has its gossip from libp2p; to subscribe is all it takes to be known.
  node.services.pubsub.subscribe(topicOf(genesis))
  const subscribed = once(node.services.pubsub, 'subscription-change')
  await node.dial(libp2p.getMultiaddrs())
  await Promise.all([linked, subscribed])

  const shipped = { ...learner, swarm, heard: reports.heard }
  return {
    libp2p,
    shipped,
    second,
    offer: () => second.offer(libp2p.peerId),
    pull: () => second.pull(libp2p.peerId),
    say: (bytes: Uint8Array) => node.services.pubsub.publish(topicOf(genesis), bytes),
  }
}

/** Trains a round, lets the one offer of its budget go to a peer that is busy, and keeps the budget. */
async function spendOffer({ trained }: { trained: () => void }, second: SecondPeer): Promise<void> {
  second.mood = 'paused'
  const refused = second.next('refused')
  trained()
  await refused
  second.mood = 'willing'
}

function idOf({ publicKey }: PrivateKey): string {
  return publicKey.toString()
}

function secondNode(privateKey: PrivateKey) {
  return createLibp2p({
    privateKey,
    addresses: { listen: [anyPort] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    services: {
      identify: identify(),
      ping: ping(),
      pubsub: gossipsub({ fallbackToFloodsub: false }),
    },
  }) as Promise<Libp2p<{ pubsub: ReturnType<ReturnType<typeof gossipsub>> }>>
}

/** The shipped arithmetic without a trainer: a round is over when the test says so, and moves nothing. */
function newLearner(params: Float32Array, tensors: readonly TensorSpec[]) {
  const state = swap.init(params, { tensors, momentum: 0 })
  const adopted = Promise.withResolvers<void>()
  let listener: (event: WorkerEvent) => void = () => {}
  let totalSteps = 0
  const answer = (event: WorkerEvent) => queueMicrotask(() => listener(event))
  const learner: Learner = {
    listen: (given) => {
      listener = given
    },
    send(command: Command) {
      if (command.type === 'give') {
        const bytes = codecs[command.codec].encode(swap.give(state), tensors)
        answer({ type: 'gave', nonce: command.nonce, bytes, digest: sha256(bytes) })
      } else if (command.type === 'settle') {
        const copyOf = (bytes: Uint8Array) => ({ codec: codecs[command.codec], bytes })
        const distance = swap.settle(state, copyOf(command.sent!), command.received.map(copyOf))
        answer({ type: 'settled', nonce: command.nonce, distance })
      } else if (command.type === 'give-state') {
        const bytes = encodeState(params, undefined, tensors)
        answer({
          type: 'gave-state',
          nonce: command.nonce,
          bytes,
          digest: sha256(bytes),
          steps: totalSteps,
        })
      } else if (command.type === 'adopt') {
        codecs.float32.decodeBlockInto(params, command.bytes, 0, params.length, 0)
        answer({ type: 'adopted', nonce: command.nonce, steps: command.steps })
        adopted.resolve()
      } else if (command.type === 'evaluate') {
        const metrics = { accuracy: 0, loss: 0 }
        answer({ type: 'evaluated', at: command.at, metrics, examples: 0, ms: 0 })
      } else if (command.type === 'stop') answer({ type: 'stopped' })
    },
  }
  const trained = () => {
    totalSteps += 5
    listener({ type: 'trained', steps: 5, totalSteps, loss: 1, samples: 5, ms: 1 })
  }
  return { ...learner, params, trained, adopted: adopted.promise }
}

function ready(resumed: boolean): Extract<WorkerEvent, { type: 'ready' }> {
  const data = { read: 0, skipped: 0, labels: {}, train: 0, validation: 0 } as never
  return {
    type: 'ready',
    backend: 'none',
    threads: 1,
    steps: 0,
    rounds: 0,
    swaps: 0,
    outcomes: [],
    resumed,
    data,
    msPerStep: 1,
    remarks: [],
  }
}

/** Reads a swarm's reports to their end; `heard` resolves with the next that passes. */
function follow(swarm: Swarm) {
  const waiting: { passes: (report: Report) => boolean; resolve: () => void }[] = []
  const reading = (async () => {
    for await (const report of swarm.reports) {
      for (const wait of waiting.filter(({ passes }) => passes(report))) {
        waiting.splice(waiting.indexOf(wait), 1)
        wait.resolve()
      }
    }
  })()
  open.push(async () => {
    await swarm.leave('over')
    await reading
  })
  return {
    heard: <E extends Report['ev']>(
      ev: E,
      passes: (report: Extract<Report, { ev: E }>) => boolean = () => true,
    ) =>
      new Promise<void>((resolve) => {
        waiting.push({
          passes: (report) => report.ev === ev && passes(report as Extract<Report, { ev: E }>),
          resolve,
        })
      }),
  }
}

function bytesFrom(params: Float32Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    codecs.float32.encode(params, [{ name: 'all', shape: [params.length], role: 'trainable' }]),
  )
}

function sha256(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(bytes).digest())
}

/** What one gained the other lost, up to the last bit of a float32. */
function expectSameSum(a: Float32Array, b: Float32Array): void {
  const [before, other] = [paramsOf('offerer-params'), paramsOf('accepter-params')]
  a.forEach((x, i) => {
    const sum = before[i]! + other[i]!
    expect(Math.abs(x + b[i]! - sum)).toBeLessThanOrEqual(2 ** -23 * Math.max(1, Math.abs(sum)))
  })
}
