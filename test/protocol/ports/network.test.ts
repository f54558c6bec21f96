import { createHash } from 'node:crypto'
import { peerIdFromString } from '@libp2p/peer-id'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { encodeState, stateBytes } from '../../../protocol/codec/state.ts'
import { codecs } from '../../../protocol/codec/table.ts'
import type { Message, MessageOf } from '../../../protocol/message.ts'
import type { Node } from '../../../protocol/ports/libp2p.ts'
import {
  digestOf,
  joinNetwork,
  type Network,
  type NetworkEvent,
  type NetworkOptions,
  PARAMS_PROTOCOL,
  SWAP_PROTOCOL,
  tensorList,
  topicOf,
} from '../../../protocol/ports/network.ts'
import { nodes, once } from '../../support/libp2p.ts'
import { d, paramsFrom, tensors } from '../../support/params.ts'
import { nonceOf } from '../../support/peer.ts'
import { type Stranger, strangerOn, strangerTo } from '../../support/stranger.ts'

const genesis = 'bafynetwork'
const tensorsDigest = await digestOf(new TextEncoder().encode(tensorList(tensors)))
const copy = codecs.int8.encode(paramsFrom(1), tensors)
const state = encodeState(paramsFrom(1), paramsFrom(2), tensors)

const running = nodes()
let node: Node
let other: Node
let network: Network
let events: Events

beforeEach(async () => {
  node = await running.start({ gossip: true })
  other = await running.start({ gossip: true })
  await Promise.all([once(node, 'connection:open'), other.dial(node.getMultiaddrs())])
  events = heard()
  network = await join(node, events)
})
afterEach(() => running.stop())

type Events = ReturnType<typeof heard>

/** What a network tells its swarm, in order, and a way to wait for the next of a type. */
function heard() {
  const all: NetworkEvent[] = []
  const waiting = new Set<() => void>()
  return {
    all,
    push(event: NetworkEvent) {
      all.push(event)
      for (const wake of waiting) wake()
    },
    async until<T extends NetworkEvent['type']>(
      type: T,
    ): Promise<Extract<NetworkEvent, { type: T }>> {
      for (;;) {
        const found = all.findIndex((event) => event.type === type)
        if (found >= 0) return all.splice(found, 1)[0] as Extract<NetworkEvent, { type: T }>
        await new Promise<void>((resolve) => waiting.add(resolve))
      }
    },
    count: (type: NetworkEvent['type']) => all.filter((event) => event.type === type).length,
  }
}

function join(
  libp2p: Node,
  to: Events,
  changes: Partial<Pick<NetworkOptions, 'genesis' | 'judge'>> = {},
): Promise<Network> {
  const judge = async () => 'accept' as const
  return joinNetwork({
    libp2p,
    genesis,
    tensors,
    codec: 'int8',
    onEvent: to.push,
    judge,
    ...changes,
  })
}

function offerOf(name: string, changes: Partial<MessageOf<'offer'>> = {}): MessageOf<'offer'> {
  const nonce = nonceOf(name)
  return {
    type: 'offer',
    nonce,
    genesis,
    tensors: tensorsDigest,
    codec: 'int8',
    steps: 7,
    ...changes,
  }
}

function pullOf(name: string, changes: Partial<MessageOf<'pull'>> = {}): MessageOf<'pull'> {
  const rest = { genesis, tensors: tensorsDigest, what: 'state', codec: 'float32' } as const
  return { type: 'pull', nonce: nonceOf(name), ...rest, ...changes }
}

function paramsOf(name: string, bytes: Uint8Array): MessageOf<'params'> {
  const digest = createHash('sha256').update(bytes).digest('hex')
  return { type: 'params', nonce: nonceOf(name), bytes: bytes.length, digest }
}

/** A stranger whose offer we have taken: its copy may come. */
async function taken(name: string): Promise<Stranger> {
  const stranger = await strangerTo(other, node, SWAP_PROTOCOL)
  stranger.say(offerOf(name))
  const { from, message } = await events.until('message')
  network.send(from, { type: 'accept', nonce: message.nonce, steps: 0 })
  expect(await stranger.told()).toMatchObject({ type: 'accept' })
  return stranger
}

describe('an offer', () => {
  test('reaches the swarm with its sender, which libp2p authenticated', async () => {
    const stranger = await strangerTo(other, node, SWAP_PROTOCOL)
    stranger.say(offerOf('one'))
    expect(await events.until('message')).toEqual({
      type: 'message',
      from: other.peerId.toString(),
      message: offerOf('one'),
    })
  })

  test.each([
    ['an unknown genesis', { genesis: 'bafyunknown' }, 'unknown-swarm'],
    ['a genesis that is a word of JavaScript', { genesis: 'constructor' }, 'unknown-swarm'],
    ['other tensors', { tensors: 'ab'.repeat(32) }, 'other-tensors'],
    ['an unknown codec', { codec: 'topk' }, 'unknown-codec'],
    ['a codec that is a word of JavaScript', { codec: 'toString' }, 'unknown-codec'],
  ] as const)('with %s is refused without troubling the swarm', async (_, change, reason) => {
    const stranger = await strangerTo(other, node, SWAP_PROTOCOL)
    stranger.say(offerOf('one', change))
    expect(await stranger.told()).toEqual({ type: 'busy', nonce: nonceOf('one'), reason })
    await stranger.ended
    expect(events.count('message')).toBe(0)
  })

  test('with a nonce in use is refused, and the swap that uses it goes on', async () => {
    const first = await taken('one')
    const second = await strangerTo(other, node, SWAP_PROTOCOL)
    second.say(offerOf('one'))
    expect(await second.told()).toMatchObject({ reason: 'busy' })
    first.say(paramsOf('one', copy))
    first.data(copy)
    expect(Buffer.compare((await events.until('copy')).bytes, copy)).toBe(0)
  })

  test('that was answered BUSY leaves no room for a copy', async () => {
    const stranger = await strangerTo(other, node, SWAP_PROTOCOL)
    stranger.say(offerOf('one'))
    await events.until('message')
    network.send(other.peerId.toString(), { type: 'busy', nonce: nonceOf('one'), reason: 'busy' })
    stranger.say(paramsOf('one', copy))
    stranger.data(copy)
    expect(await stranger.told()).toMatchObject({ type: 'busy' })
    await stranger.ended
    await stillAnswers()
    expect(events.count('copy')).toBe(0)
    expect(network.traffic.down).toBe(0)
  })
})

/** The node still takes an honest offer. */
async function stillAnswers(): Promise<void> {
  const honest = await strangerTo(other, node, SWAP_PROTOCOL)
  honest.say(offerOf('honest'))
  for (;;) {
    const { message } = await events.until('message')
    if (message.nonce === nonceOf('honest')) return
  }
}

describe.each([SWAP_PROTOCOL, PARAMS_PROTOCOL])('bytes on %s', (protocol) => {
  const offer = protocol === SWAP_PROTOCOL ? offerOf('one') : pullOf('one')

  test.each([
    ['garbage', [0x47, 0x45, 0x54, 0x20, 0x2f]],
    ['a frame of an unknown kind', [9, 0, 0, 0]],
    ['an oversized message', [1, 0xff, 0xff, 0xff]],
    ['a message that is no map', [1, 0, 0, 1, 0x01]],
    ['data before anything was said', [2, 0, 0, 1, 0]],
    ['credit before anything was sent', [3, 0, 0, 4, 0, 0, 0, 1]],
    ['an empty message', [1, 0, 0, 0]],
  ] as const)('%s ends the stream and nothing else', async (_, bytes) => {
    const stranger = await strangerTo(other, node, protocol)
    stranger.bytes(bytes)
    await stranger.ended
    expect(events.all.filter(({ type }) => type === 'message' || type === 'copy')).toEqual([])
    await stillAnswers()
  })

  test('a message cut short is nothing said', async () => {
    const stranger = await strangerTo(other, node, protocol)
    stranger.bytes([1, 0, 0, 100, 0xa3, 0x64])
    await stranger.stream.close()
    await stranger.ended
    await stillAnswers()
  })

  test.each(['accept', 'busy', 'ready', 'commit', 'told', 'grant', 'params'] as const)(
    'a first message %s is out of place',
    async (type) => {
      const all: Record<typeof type, Message> = {
        accept: { type: 'accept', nonce: nonceOf('one'), steps: 1 },
        busy: { type: 'busy', nonce: nonceOf('one'), reason: 'busy' },
        ready: { type: 'ready', nonce: nonceOf('one'), digest: tensorsDigest },
        commit: { type: 'commit', nonce: nonceOf('one'), digest: tensorsDigest },
        told: { type: 'told', nonce: nonceOf('one'), outcome: 'committed' },
        grant: { type: 'grant', nonce: nonceOf('one'), steps: 1 },
        params: paramsOf('one', copy),
      }
      const stranger = await strangerTo(other, node, protocol)
      stranger.say(all[type])
      await stranger.ended
      expect(events.count('message')).toBe(0)
    },
  )

  test('an opening message of the other protocol is out of place', async () => {
    const stranger = await strangerTo(other, node, protocol)
    stranger.say(protocol === SWAP_PROTOCOL ? pullOf('one') : offerOf('one'))
    await stranger.ended
    expect(events.count('message')).toBe(0)
  })

  test('a second opening message on one stream ends it', async () => {
    const stranger = await strangerTo(other, node, protocol)
    stranger.say(offer)
    await events.until('message')
    stranger.say({ ...pullOf('one'), codec: 'no-such-codec' })
    await stranger.ended
    expect(events.count('message')).toBe(0)
  })

  test('a message that names another nonce ends the stream', async () => {
    const stranger = await strangerTo(other, node, protocol)
    stranger.say(offer)
    await events.until('message')
    stranger.say({ type: 'ready', nonce: nonceOf('other'), digest: tensorsDigest })
    await stranger.ended
    expect(events.count('message')).toBe(0)
    expect((await events.until('broken')).nonce).toBe(nonceOf('one'))
  })
})

describe('the gate', () => {
  test('passes a copy of the announced hash, the right length and fair scales', async () => {
    const stranger = await taken('one')
    stranger.say(paramsOf('one', copy))
    stranger.data(copy)
    const { nonce, bytes, digest } = await events.until('copy')
    expect(Buffer.compare(bytes, copy)).toBe(0)
    expect({ nonce, digest }).toEqual({ nonce: nonceOf('one'), digest: await digestOf(copy) })
    expect(network.traffic.down).toBe(copy.length)
  })

  const spoilt = copy.slice()
  new DataView(spoilt.buffer).setFloat32(0, Number.NaN, true)
  const large = codecs.int8.encode(paramsFrom(1), tensors)
  new DataView(large.buffer).setFloat32(0, 1e30, true)

  test.each([
    ['of the wrong hash', paramsOf('one', copy), large],
    ['with a scale that is no number', paramsOf('one', spoilt), spoilt],
    ['with a scale out of bounds', paramsOf('one', large), large],
  ] as const)('refuses a copy %s', async (_, announced, bytes) => {
    const stranger = await taken('one')
    stranger.say(announced)
    stranger.data(bytes)
    const { nonce, reason } = await events.until('broken')
    expect(nonce).toBe(nonceOf('one'))
    expect(reason).toMatch(/hash|scale/)
    await stranger.ended
    expect(events.count('copy')).toBe(0)
    expect(network.traffic.down).toBe(0)
  })

  test.each([0, copy.length - 1, copy.length + 1, 4_000_000_000])(
    'refuses the announcement of %d bytes before any room is made',
    async (bytes) => {
      const stranger = await taken('one')
      stranger.say({ ...paramsOf('one', copy), bytes })
      const { reason } = await events.until('broken')
      expect(reason).toBe(`got a copy of ${bytes} bytes, expected ${copy.length}`)
    },
  )

  test('refuses a second copy, data without an announcement, and more data than announced', async () => {
    const second = await taken('one')
    second.say(paramsOf('one', copy))
    second.data(copy)
    await events.until('copy')
    second.say(paramsOf('one', copy))
    expect((await events.until('broken')).reason).toBe('params came where none were expected')
    const unannounced = await taken('two')
    unannounced.data(copy)
    expect((await events.until('broken')).reason).toContain('got more data than expected')
    expect(events.count('copy')).toBe(0)
  })

  test('takes half a copy for none', async () => {
    const stranger = await taken('one')
    stranger.say(paramsOf('one', copy))
    stranger.data(copy.subarray(0, 100))
    await stranger.stream.close()
    expect((await events.until('broken')).reason).toBe(
      'the stream ended after 100 bytes, inside a transfer',
    )
    expect(events.count('copy')).toBe(0)
  })

  /** The other node sends a copy that is none. */
  async function spoil(name: string): Promise<void> {
    const stranger = await taken(name)
    stranger.say(paramsOf(name, spoilt))
    stranger.data(spoilt)
    await events.until('broken')
  }

  /** The other node hangs up and dials again. */
  async function reconnect(): Promise<void> {
    const gone = once(node, 'peer:disconnect')
    await other.hangUp(node.peerId)
    await gone
    await other.dial(node.getMultiaddrs())
  }

  /** The link is gone, and no connection comes about, whoever dials. */
  async function refuses(): Promise<void> {
    const [us, them] = [node, other].map(({ peerId }) => peerId.toString())
    expect(await events.until('unlinked')).toEqual({ type: 'unlinked', peer: them })
    if (other.getConnections(node.peerId).length > 0)
      await once(other, 'peer:disconnect', (id) => String(id) === us)
    for (let time = 0; time < 2; time++) {
      const dialled = await other.dial(node.getMultiaddrs()).catch(() => undefined)
      if (dialled?.status === 'open') await once(other, 'peer:disconnect')
      expect(node.getConnections(other.peerId)).toEqual([])
    }
    await expect(node.dial(other.getMultiaddrs())).rejects.toThrow()
    expect(events.count('message') + events.count('linked')).toBe(0)
  }

  test('refuses a peer after three faults, however often it dials again', async () => {
    network.admit(other.peerId.toString())
    expect(await events.until('linked')).toMatchObject({ path: 'tcp' })
    for (const name of ['one', 'two', 'three']) await spoil(name)
    await refuses()
  })

  test('and counts them over its connections, and over the swarms of a node', async () => {
    network.admit(other.peerId.toString())
    await spoil('one')
    await reconnect()
    await spoil('two')
    await network.leave()
    network = await join(node, events)
    await reconnect()
    events.all.length = 0
    network.admit(other.peerId.toString())
    await events.until('linked')
    await spoil('three')
    await refuses()
  })

  test('counts what is said on the topic, and what no stream of ours begins with', async () => {
    const grafted = once(other.services.pubsub, 'gossipsub:graft')
    const judge = async () => 'reject' as const
    await network.leave()
    network = await join(node, events, { judge })
    other.services.pubsub.subscribe(topicOf(genesis))
    await grafted
    await events.until('linked')
    const stranger = await strangerTo(other, node, SWAP_PROTOCOL)
    stranger.bytes([9, 0, 0, 0])
    await stranger.ended
    for (const bytes of [Uint8Array.of(1), new Uint8Array(5000)])
      await other.services.pubsub.publish(topicOf(genesis), bytes)
    await refuses()
  })

  test('a good peer that was wrong once, and reconnects, swaps on', async () => {
    network.admit(other.peerId.toString())
    await spoil('one')
    await reconnect()
    const stranger = await taken('two')
    stranger.say(paramsOf('two', copy))
    stranger.data(copy)
    expect(Buffer.compare((await events.until('copy')).bytes, copy)).toBe(0)
  })
})

describe('a pull of ours', () => {
  /** The other node answers pulls by hand. */
  async function donor(answer: (stranger: Stranger) => void | Promise<void>) {
    await other.handle(PARAMS_PROTOCOL, (stream) => {
      const stranger = strangerOn(stream)
      void stranger.told().then(() => answer(stranger))
    })
    const { type, nonce, what } = pullOf('one')
    network.send(other.peerId.toString(), { type, nonce, what, codec: 'float32' })
  }

  test('brings the whole state, though the donor closes right behind it', async () => {
    await donor(async (stranger) => {
      stranger.say({ type: 'grant', nonce: nonceOf('one'), steps: 12 })
      stranger.say(paramsOf('one', state))
      stranger.data(state)
      await stranger.stream.close()
    })
    expect((await events.until('message')).message).toMatchObject({ type: 'grant', steps: 12 })
    await events.until('broken')
    // The copy was told before the end of its stream.
    expect(events.all.map(({ type }) => type)).toContain('copy')
    expect((await events.until('copy')).bytes.length).toBe(stateBytes(tensors))
  })

  test('refuses a state with a scale that is none', async () => {
    const poisoned = state.slice()
    new DataView(poisoned.buffer).setFloat32(4 * d, Number.POSITIVE_INFINITY, true)
    await donor((stranger) => {
      stranger.say({ type: 'grant', nonce: nonceOf('one'), steps: 12 })
      stranger.say(paramsOf('one', poisoned))
      stranger.data(poisoned)
    })
    expect((await events.until('broken')).reason).toContain('block 0 has scale Infinity')
    expect(events.count('copy')).toBe(0)
  })

  test('comes back as broken when the other side does not speak the protocol', async () => {
    network.send(other.peerId.toString(), {
      type: 'pull',
      nonce: nonceOf('one'),
      what: 'state',
      codec: 'float32',
    })
    expect((await events.until('broken')).nonce).toBe(nonceOf('one'))
  })
})

describe('between two of us', () => {
  test('a swap that takes long says how far it is, and that it is over however it ends', async () => {
    const stranger = await taken('slow')
    let now = performance.now()
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => (now += 600))
    onTestFinished(() => clock.mockRestore())
    stranger.say(paramsOf('slow', copy))
    stranger.data(copy.subarray(0, 8))
    stranger.data(copy.subarray(8))
    const [peer, done] = [other.peerId.toString(), copy.length]
    expect(await events.until('moved')).toEqual({ type: 'moved', peer, done, total: 2 * done })
    stranger.stream.abort(new Error('gone'))
    expect(await events.until('moved')).toEqual({ type: 'moved', peer, done, total: done })
  })

  test('a swap carries both copies and its last word', async () => {
    const theirs = heard()
    const far = await join(other, theirs)
    const [us, them] = [node.peerId.toString(), other.peerId.toString()]
    const nonce = nonceOf('swap')
    network.send(them, { type: 'offer', nonce, codec: 'int8', steps: 1 })
    expect((await theirs.until('message')).message).toMatchObject({
      type: 'offer',
      genesis,
      codec: 'int8',
    })
    far.send(us, { type: 'accept', nonce, steps: 2 })
    const params = paramsOf('swap', copy)
    far.send(us, params, copy)
    network.send(them, params, copy)
    const [up, down] = await Promise.all([theirs.until('copy'), events.until('copy')])
    expect([up.digest, down.digest]).toEqual([await digestOf(copy), await digestOf(copy)])
    network.send(them, { type: 'commit', nonce, digest: down.digest })
    network.close(nonce)
    expect((await theirs.until('message')).message).toMatchObject({ type: 'commit' })
    expect((await theirs.until('broken')).reason).toBe('closed by the other side')
    expect(network.traffic).toEqual({ up: copy.length, down: copy.length })
  })

  test('a swap is of the codec that was offered, whatever the swarm’s own is', async () => {
    const theirs = heard()
    const far = await join(other, theirs)
    const [us, them] = [node.peerId.toString(), other.peerId.toString()]
    const nonce = nonceOf('swap')
    const plain = codecs.float32.encode(paramsFrom(1), tensors)
    network.send(them, { type: 'offer', nonce, codec: 'float32', steps: 1 })
    expect((await theirs.until('message')).message).toMatchObject({ codec: 'float32' })
    far.send(us, { type: 'accept', nonce, steps: 2 })
    far.send(us, paramsOf('swap', plain), plain)
    network.send(them, paramsOf('swap', plain), plain)
    const [up, down] = await Promise.all([theirs.until('copy'), events.until('copy')])
    expect([up.bytes.length, down.bytes.length]).toEqual([4 * d, 4 * d])
  })

  test('a question has a stream of its own, and its answer ends it', async () => {
    const theirs = heard()
    const far = await join(other, theirs)
    const nonce = nonceOf('doubt')
    network.send(other.peerId.toString(), { type: 'ask', nonce })
    expect((await theirs.until('message')).message).toEqual({ type: 'ask', nonce, genesis })
    far.send(node.peerId.toString(), { type: 'told', nonce, outcome: 'aborted' })
    const told = await events.until('message')
    expect(told.message).toEqual({ type: 'told', nonce, outcome: 'aborted' })
    expect(events.count('broken') + theirs.count('broken')).toBe(0)
  })

  test('two swarms on one node get each their own', async () => {
    const second = heard()
    await join(node, second, { genesis: 'bafysecond' })
    const stranger = await strangerTo(other, node, SWAP_PROTOCOL)
    stranger.say(offerOf('one', { genesis: 'bafysecond' }))
    expect((await second.until('message')).message).toMatchObject({ genesis: 'bafysecond' })
    expect(events.count('message')).toBe(0)
  })

  test('who has left answers for no swarm any more', async () => {
    await network.leave()
    const stranger = await strangerTo(other, node, SWAP_PROTOCOL)
    stranger.say(offerOf('one'))
    expect(await stranger.told()).toMatchObject({ reason: 'unknown-swarm' })
    expect(node.services.pubsub.getTopics()).not.toContain(topicOf(genesis))
  })

  test('a swap called off while its stream opens is never offered', async () => {
    const theirs = heard()
    await join(other, theirs)
    const nonce = nonceOf('off')
    network.send(other.peerId.toString(), { type: 'offer', nonce, codec: 'int8', steps: 1 })
    network.close(nonce)
    expect((await events.until('broken')).reason).toBe('called off')
    network.send(other.peerId.toString(), {
      type: 'offer',
      nonce: nonceOf('on'),
      codec: 'int8',
      steps: 1,
    })
    expect((await theirs.until('message')).message.nonce).toBe(nonceOf('on'))
  })
})

describe('links', () => {
  test('a peer of the swarm is linked once, and unlinked when its connection closes', async () => {
    const peer = other.peerId.toString()
    network.admit(peer)
    network.admit(peer)
    expect(await events.until('linked')).toEqual({ type: 'linked', peer, path: 'tcp' })
    expect(events.count('linked')).toBe(0)
    network.hangUp(peer)
    expect(await events.until('unlinked')).toEqual({ type: 'unlinked', peer })
  })

  test('who subscribes to the topic is a peer of the swarm', async () => {
    await join(other, heard())
    expect(await events.until('linked')).toMatchObject({ peer: other.peerId.toString() })
  })

  test('a relayed connection is no link and carries no params', async () => {
    const relay = await running.start({ relay: true })
    const [address] = relay.getMultiaddrs()
    const hidden = await running.start({ gossip: true, listen: [`${address}/p2p-circuit`] })
    if (!hidden.getMultiaddrs().some((own) => own.toString().includes('p2p-circuit'))) {
      await once(hidden, 'self:peer:update', () =>
        hidden.getMultiaddrs().some((own) => own.toString().includes('p2p-circuit')),
      )
    }
    const peer = hidden.peerId.toString()
    const theirs = heard()
    await join(hidden, theirs)
    const circuit = hidden.getMultiaddrs().find((own) => own.toString().includes('p2p-circuit'))!
    const connection = await node.dial(circuit)
    expect(connection.limits).toBeDefined()
    network.admit(peer)
    network.send(peer, { type: 'offer', nonce: nonceOf('one'), codec: 'int8', steps: 1 })
    expect((await events.until('broken')).reason).toBe('no direct connection')
    // Nor where somebody insists.
    await expect(connection.newStream(SWAP_PROTOCOL)).rejects.toThrow()
    const insisting = connection
      .newStream(PARAMS_PROTOCOL, { runOnLimitedConnection: true })
      .then((stream) => {
        const stranger = strangerOn(stream)
        stranger.say(pullOf('one'))
        return stranger.told()
      })
    await expect(insisting).rejects.toThrow()
    expect(events.all.filter((event) => event.type === 'linked' && event.peer === peer)).toEqual([])
    expect(theirs.count('message')).toBe(0)
  })
})

test('announcements reach everybody on the topic', async () => {
  const grafted = once(other.services.pubsub, 'gossipsub:graft')
  const far = await join(other, heard())
  await grafted
  await far.publish(Uint8Array.of(1, 2, 3))
  const { bytes, from } = await events.until('announced')
  expect([...bytes]).toEqual([1, 2, 3])
  expect(peerIdFromString(from).equals(other.peerId)).toBe(true)
})
