import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import type { Connection, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { cleanup } from 'node-datachannel'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import {
  decodeFrameHeader,
  encodeFrameHeader,
  encodeMessage,
  FRAME_HEADER_BYTES,
  type FrameKind,
  isRejection,
  type Message,
} from '../../../protocol/message.ts'
import type { Node } from '../../../protocol/ports/libp2p.ts'
import { type Channel, openChannel, windowBytes } from '../../../protocol/ports/transfer.ts'
import { randomFrom } from '../../../protocol/random.ts'
import { nodes } from '../../support/libp2p.ts'

const KIB = 1024
const MIB = 1024 * KIB
/** One data frame's body. */
const PIECE = 64 * KIB - FRAME_HEADER_BYTES
const PROTOCOL = '/mlstore/test/1'
const STREAMS = { maxInboundStreams: 64, maxOutboundStreams: 64 }
/** A sender that nothing woke looks again after this; it takes a lost wake-up to get there. */
const FALLBACK_MS = 3000
/** Transfers on loopback take a second or two, on a machine that does other things. */
const LIMIT_MS = 60_000

const transports = {
  tcp: { listen: '/ip4/127.0.0.1/tcp/0', window: windowBytes.other },
  ws: { listen: '/ip4/127.0.0.1/tcp/0/ws', window: windowBytes.other },
  'webrtc-direct': { listen: '/ip4/127.0.0.1/udp/0/webrtc-direct', window: windowBytes.webrtc },
} as const
type TransportName = keyof typeof transports

const running = nodes()
afterEach(() => running.stop())
afterAll(() => cleanup())

interface Pair {
  connection: Connection
  /** A fresh stream, as both sides see it, with the connection of each. One at a time: arrivals are told by their order. */
  stream(): Promise<[near: [Stream, Connection], far: [Stream, Connection]]>
  near: Node
  far: Node
}

/** Two nodes with one connection of that transport between them. */
async function pair(name: TransportName): Promise<Pair> {
  const all = [
    tcp(),
    webSockets(),
    webRTCDirect({ rtcConfiguration: { iceServers: [] } }),
    circuitRelayTransport(),
  ]
  const far = await running.start({ transports: all, listen: [transports[name].listen] })
  const near = await running.start({ transports: all, listen: [] })
  const arrivals: ((arrived: [Stream, Connection]) => void)[] = []
  await far.handle(
    PROTOCOL,
    (stream, connection) => arrivals.shift()!([stream, connection]),
    STREAMS,
  )
  const connection = await near.dial(far.getMultiaddrs()[0]!)
  return {
    connection,
    near,
    far,
    async stream() {
      const arrival = new Promise<[Stream, Connection]>((resolve) => arrivals.push(resolve))
      const stream = await connection.newStream(PROTOCOL, STREAMS)
      return [[stream, connection], await arrival]
    },
  }
}

async function streams(link: Pair, count: number) {
  const opened: Awaited<ReturnType<Pair['stream']>>[] = []
  for (let i = 0; i < count; i++) opened.push(await link.stream())
  return opened
}

/** A channel whose events can be awaited. */
function listening(side: [Stream, Connection]) {
  const ended = Promise.withResolvers<string | undefined>()
  const whole = Promise.withResolvers<Uint8Array>()
  const messages: Message[] = []
  const wrongs: string[] = []
  let onMessage = () => {}
  const channel = openChannel(...side, {
    message(message) {
      messages.push(message)
      onMessage()
    },
    data: whole.resolve,
    wronged: (reason) => wrongs.push(reason),
    end: ended.resolve,
  })
  return {
    channel,
    messages,
    wrongs,
    ended: ended.promise,
    whole: whole.promise,
    untilMessages: (count: number) =>
      new Promise<void>((resolve) => {
        onMessage = () => messages.length >= count && resolve()
        onMessage()
      }),
  }
}

/** The other side without our code: it counts what comes and acknowledges only when told to. */
function listeningRaw([stream]: [Stream, Connection]) {
  const seen = { data: 0, messages: 0 }
  let header: number[] = []
  let left = 0
  let kind: FrameKind = 'data'
  let wake = () => {}
  stream.addEventListener('message', ({ data }) => {
    const bytes = data.subarray()
    let at = 0
    while (at < bytes.length)
      at += left === 0 ? takeHeader(bytes[at]!) : takeBody(bytes.length - at)
    wake()
  })
  function takeHeader(byte: number): number {
    header.push(byte)
    if (header.length < FRAME_HEADER_BYTES) return 1
    const frame = decodeFrameHeader(Uint8Array.from(header))
    if (isRejection(frame)) throw new Error(frame.message)
    header = []
    ;({ kind, length: left } = frame)
    if (kind === 'message') seen.messages += 1
    return 1
  }
  function takeBody(available: number): number {
    const take = Math.min(left, available)
    left -= take
    if (kind === 'data') seen.data += take
    return take
  }
  const send = (kind: FrameKind, body: Uint8Array) => {
    stream.send(encodeFrameHeader(kind, body.length))
    stream.send(body)
  }
  return {
    seen,
    send,
    stream,
    credit(bytes: number) {
      const body = new Uint8Array(4)
      new DataView(body.buffer).setUint32(0, bytes)
      send('credit', body)
    },
    onProgress(callback: () => void) {
      wake = callback
    },
  }
}

type Raw = ReturnType<typeof listeningRaw>

/** Resolves when the raw sides together have seen so many bytes of data. */
function seenTogether(raws: Raw[], bytes: number): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (raws.reduce((sum, { seen }) => sum + seen.data, 0) >= bytes) resolve()
    }
    for (const raw of raws) raw.onProgress(look)
    look()
  })
}

/** Whatever was on its way has come: a message each way on every stream, behind what was written before. */
async function flushed(pairOf: Pair): Promise<void> {
  for (let trip = 0; trip < 3; trip++)
    await pairOf.near.services.ping.ping(pairOf.connection.remotePeer)
}

function bytesFrom(seed: number, length: number): Uint8Array {
  const random = randomFrom(seed)
  const words = Uint32Array.from({ length: Math.ceil(length / 4) }, () => random() * 2 ** 32)
  return new Uint8Array(words.buffer, 0, length)
}

const hello: Message = { type: 'accept', nonce: '00'.repeat(16), steps: 1 }

describe.each(Object.entries(transports))('over %s', (name, { window }) => {
  test(
    'four streams of a connection share one window, and its receiver sets the pace',
    async () => {
      const link = await pair(name as TransportName)
      const sides = await streams(link, 4)
      const raws = sides.map(([, far]) => listeningRaw(far))
      const channels = sides.map(([near]) => listening(near).channel)
      const sending = channels.map((channel) =>
        channel.sendData(new Uint8Array(MIB)).catch(() => 'ended'),
      )
      const total = () => raws.reduce((sum, { seen }) => sum + seen.data, 0)
      await seenTogether(raws, window - PIECE)
      await flushed(link)
      expect(total()).toBeLessThanOrEqual(window)
      const before = total()
      raws[0]!.credit(2 * PIECE)
      await seenTogether(raws, before + 2 * PIECE)
      await flushed(link)
      expect(total()).toBeLessThanOrEqual(window + 2 * PIECE)
      for (const channel of channels) channel.abort('enough')
      expect(await Promise.all(sending)).toContain('ended')
    },
    LIMIT_MS,
  )

  test(
    'sixteen streams that each owe less than a quarter of the window all end',
    async () => {
      const link = await pair(name as TransportName)
      const sides = await streams(link, 16)
      await Promise.all(
        sides.map(async ([near, far], seed) => {
          const length = Math.floor(window / 6)
          const [ours, theirs] = [listening(near), listening(far)]
          ours.channel.expectData(new Uint8Array(length))
          theirs.channel.expectData(new Uint8Array(length))
          const bytes = bytesFrom(seed, length)
          await Promise.all([ours.channel.sendData(bytes), theirs.channel.sendData(bytes)])
          expect(Buffer.compare(await theirs.whole, bytes)).toBe(0)
          expect(Buffer.compare(await ours.whole, bytes)).toBe(0)
        }),
      )
    },
    LIMIT_MS,
  )

  test(
    '20 MB both ways at once arrive as they were sent',
    async () => {
      const link = await pair(name as TransportName)
      const [near, far] = await link.stream()
      const [ours, theirs] = [listening(near), listening(far)]
      const [up, down] = [bytesFrom(1, 20_000_000), bytesFrom(2, 20_000_000)]
      ours.channel.expectData(new Uint8Array(down.length))
      theirs.channel.expectData(new Uint8Array(up.length))
      await Promise.all([ours.channel.sendData(up), theirs.channel.sendData(down)])
      const [gotDown, gotUp] = await Promise.all([ours.whole, theirs.whole])
      expect(Buffer.compare(gotUp, up)).toBe(0)
      expect(Buffer.compare(gotDown, down)).toBe(0)
    },
    LIMIT_MS,
  )
})

describe('while nobody acknowledges', () => {
  test('a sender holds no more than the window, whatever it was asked to send', async () => {
    const link = await pair('tcp')
    const [near, far] = await link.stream()
    const raw = listeningRaw(far)
    const { channel, ended } = listening(near)
    const sending = channel.sendData(new Uint8Array(40 * MIB))
    let most = 0
    raw.onProgress(() => {
      most = Math.max(most, near[0].writeBufferLength)
    })
    await new Promise<void>((resolve) => {
      raw.onProgress(() => {
        most = Math.max(most, near[0].writeBufferLength)
        if (raw.seen.data >= windowBytes.other - PIECE) resolve()
      })
    })
    await flushed(link)
    expect(raw.seen.data + near[0].writeBufferLength).toBeLessThanOrEqual(windowBytes.other)
    expect(most).toBeLessThanOrEqual(256 * KIB + 2 * PIECE)
    channel.abort('enough')
    await expect(sending).rejects.toThrow('the stream ended during a transfer')
    expect(await ended).toBe('enough')
  })

  test('messages still pass', async () => {
    const link = await pair('tcp')
    const [near, far] = await link.stream()
    const raw = listeningRaw(far)
    const { channel } = listening(near)
    const sending = channel.sendData(new Uint8Array(4 * MIB)).catch(() => {})
    await seenTogether([raw], windowBytes.other - PIECE)
    channel.send(hello)
    await new Promise<void>((resolve) => raw.onProgress(() => raw.seen.messages === 1 && resolve()))
    channel.abort('enough')
    await sending
  })
})

describe('a stream ends, with its reason, and gives its credit back', () => {
  /** A channel with the whole window in flight, and the raw side that may now misbehave. */
  async function full() {
    const link = await pair('tcp')
    const [near, far] = await link.stream()
    const raw = listeningRaw(far)
    const ours = listening(near)
    ours.channel.expectData(new Uint8Array(1000))
    const sending = ours.channel.sendData(new Uint8Array(8 * MIB))
    sending.catch(() => {})
    await seenTogether([raw], windowBytes.other - PIECE)
    return { link, raw, sending, ...ours }
  }

  /** More than a window passes on another stream of the same connection. */
  async function expectFree(link: Pair): Promise<void> {
    const [near, far] = await link.stream()
    const [ours, theirs] = [listening(near), listening(far)]
    const bytes = bytesFrom(3, 3 * MIB)
    theirs.channel.expectData(new Uint8Array(bytes.length))
    await ours.channel.sendData(bytes)
    expect(Buffer.compare(await theirs.whole, bytes)).toBe(0)
  }

  const data = (length: number) => [...encodeFrameHeader('data', length), ...new Uint8Array(length)]
  const credit = (bytes: number[]) => [...encodeFrameHeader('credit', bytes.length), ...bytes]

  test.each([
    ['garbage', [0xff, 0x00, 0x00, 0x01], 'got a frame of kind 255, expected 1, 2 or 3'],
    ['zeros', [0, 0, 0, 0], 'got a frame of kind 0, expected 1, 2 or 3'],
    [
      'an oversized data frame',
      [2, 0x01, 0x00, 0x01],
      'got a data frame of 65537 bytes, expected at most 65536',
    ],
    [
      'an oversized message',
      [1, 0x00, 0x10, 0x01],
      'got a message frame of 4097 bytes, expected at most 4096',
    ],
    ['an oversized credit', [3, 0, 0, 5], 'got a credit frame of 5 bytes, expected at most 4'],
    ['a short credit', credit([0, 0, 1]), 'got credit of 3 bytes, expected 4'],
    ['an empty credit', credit([]), 'got credit of 0 bytes, expected 4'],
    [
      'more credit than was sent',
      credit([0xff, 0xff, 0xff, 0xff]),
      /got credit for 4294967295 bytes, expected at most \d+/,
    ],
    [
      'a message that is none',
      [1, 0, 0, 1, 0xff],
      'got 1 bytes that are no message of this protocol',
    ],
    ['more data than expected', data(1001), 'got more data than expected: 1001 of 1000 bytes'],
    [
      'data after the end of it',
      [...data(1000), ...data(1)],
      'got more data than expected: 1001 of 0 bytes',
    ],
  ] as const)('on %s', async (_, bytes, reason) => {
    const { link, raw, sending, ended, wrongs } = await full()
    raw.stream.send(Uint8Array.from(bytes))
    expect(await ended).toMatch(reason)
    expect(wrongs).toHaveLength(1)
    await expect(sending).rejects.toThrow('the stream ended during a transfer')
    await expectFree(link)
  })

  test.each([
    ['between frames', [], 'the stream ended after 0 bytes, inside a transfer'],
    ['inside a header', [2, 0], 'the stream ended after 0 bytes, inside a transfer'],
    [
      'inside a data frame',
      data(1000).slice(0, 500),
      'the stream ended after 496 bytes, inside a transfer',
    ],
  ])('when the other side closes %s', async (_, bytes, reason) => {
    const { link, raw, sending, ended, wrongs } = await full()
    if (bytes.length > 0) raw.stream.send(Uint8Array.from(bytes))
    await raw.stream.close()
    expect(await ended).toBe(reason)
    expect(wrongs).toEqual([])
    await expect(sending).rejects.toThrow('the stream ended during a transfer')
    await expectFree(link)
  })

  test('when the other side resets it', async () => {
    const { link, raw, sending, ended } = await full()
    raw.stream.abort(new Error('gone'))
    expect(await ended).toMatch(/reset/)
    await expect(sending).rejects.toThrow('the stream ended during a transfer')
    await expectFree(link)
  })

  test('and a transfer right behind it never waits for the timer that stands behind lost wake-ups', async () => {
    for (let time = 0; time < 8; time++) {
      const { link, raw, ended } = await full()
      raw.stream.send(Uint8Array.of(0xff, 0, 0, 1))
      await ended
      const started = performance.now()
      await expectFree(link)
      expect(performance.now() - started).toBeLessThan(FALLBACK_MS)
      await running.stop()
    }
  })

  test('when the connection is lost', async () => {
    const { link, sending, ended } = await full()
    link.connection.abort(new Error('unplugged'))
    expect(await ended).toBeDefined()
    await expect(sending).rejects.toThrow('the stream ended during a transfer')
  })
})

test('a stream that both sides close in order ends without a reason, after its last message', async () => {
  const link = await pair('tcp')
  const [near, far] = await link.stream()
  const [ours, theirs] = [listening(near), listening(far)]
  ours.channel.send(hello)
  await ours.channel.close()
  expect(await theirs.ended).toBeUndefined()
  expect(theirs.messages).toEqual([hello])
  expect(await ours.ended).toBeUndefined()
})

test('messages come whole and in order however the bytes are cut', async () => {
  const link = await pair('tcp')
  const [near, far] = await link.stream()
  const theirs = listening(far)
  const messages = Array.from(
    { length: 20 },
    (_, steps): Message => ({ ...hello, steps }) as Message,
  )
  const bytes = messages.flatMap((message) => {
    const body = encodeMessage(message)
    return [...encodeFrameHeader('message', body.length), ...body]
  })
  for (let at = 0; at < bytes.length; at += 7)
    near[0].send(Uint8Array.from(bytes.slice(at, at + 7)))
  await theirs.untilMessages(20)
  expect(theirs.messages).toEqual(messages)
})

/** A stream that only hears: what the transport hands over is dispatched here as it came. */
function heardStream() {
  const stream = Object.assign(new EventTarget(), { writeStatus: 'writable', send: () => true })
  const hand = (data: unknown) =>
    stream.dispatchEvent(Object.assign(new Event('message'), { data }))
  return { stream: stream as unknown as Stream, hand }
}

test('bytes that come in parts are read part by part, and never joined into another copy', async () => {
  const connection = {
    remotePeer: 'near',
    remoteAddr: { getComponents: () => [{ name: 'tcp' }] },
  } as unknown as Connection
  const { stream, hand } = heardStream()
  const { channel, whole } = listening([stream, connection])
  const bytes = bytesFrom(1, 5000)
  channel.expectData(new Uint8Array(bytes.length))
  const parts = [encodeFrameHeader('data', bytes.length), bytes.subarray(0, 1), bytes.subarray(1)]
  hand({
    *[Symbol.iterator]() {
      yield* parts
    },
    subarray() {
      throw new Error('joined')
    },
  })
  expect(await whole).toEqual(bytes)
})

test('an ended channel sends nothing and says so', async () => {
  const link = await pair('tcp')
  const [near] = await link.stream()
  const { channel, ended } = listening(near)
  channel.abort('enough')
  expect(await ended).toBe('enough')
  channel.send(hello)
  await channel.close()
  await expect(channel.sendData(new Uint8Array(10))).rejects.toThrow('the stream ended')
  const again: Channel = channel
  again.abort('twice')
})
