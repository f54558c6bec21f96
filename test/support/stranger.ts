import type { Stream } from '@libp2p/interface'
import {
  decodeFrameHeader,
  decodeMessage,
  encodeFrameHeader,
  encodeMessage,
  FRAME_HEADER_BYTES,
  frameLimits,
  isRejection,
  type Message,
} from '../../protocol/message.ts'
import type { Node } from '../../protocol/ports/libp2p.ts'

/** A peer that says on a stream whatever a test wants it to say, in frames or not. */
export interface Stranger {
  stream: Stream
  bytes(bytes: readonly number[] | Uint8Array): void
  say(message: Message): void
  /** As data frames, all at once: what it sends fits into a window. */
  data(bytes: Uint8Array): void
  /** The next message it is told. Rejects when the stream ends first. */
  told(): Promise<Message>
  /** Resolves when the other side has closed or reset the stream. */
  readonly ended: Promise<void>
}

export async function strangerTo(node: Node, target: Node, protocol: string): Promise<Stranger> {
  const [connection] = node.getConnections(target.peerId)
  return strangerOn(await connection!.newStream(protocol))
}

export function strangerOn(stream: Stream): Stranger {
  const messages: Message[] = []
  const ended = Promise.withResolvers<void>()
  let wake = () => {}
  let buffer = new Uint8Array()
  let isOver = false
  const over = () => {
    isOver = true
    ended.resolve()
    wake()
  }
  stream.addEventListener('message', ({ data }) => {
    buffer = Uint8Array.of(...buffer, ...data.subarray())
    for (let frame = nextFrame(); frame; frame = nextFrame()) {
      const message = decodeMessage(frame)
      if (!isRejection(message)) messages.push(message)
    }
    wake()
  })
  stream.addEventListener('remoteCloseWrite', over)
  stream.addEventListener('close', over)

  /** The body of the next whole message; other frames are passed over. */
  function nextFrame(): Uint8Array | undefined {
    while (buffer.length >= FRAME_HEADER_BYTES) {
      const header = decodeFrameHeader(buffer)
      if (isRejection(header)) throw new Error(header.message)
      const end = FRAME_HEADER_BYTES + header.length
      if (buffer.length < end) return undefined
      const body = buffer.slice(FRAME_HEADER_BYTES, end)
      buffer = buffer.slice(end)
      if (header.kind === 'message') return body
    }
    return undefined
  }

  const frame = (kind: 'message' | 'data', body: Uint8Array) => {
    stream.send(encodeFrameHeader(kind, body.length))
    stream.send(body)
  }
  return {
    stream,
    bytes: (bytes) => void stream.send(Uint8Array.from(bytes)),
    say: (message) => frame('message', encodeMessage(message)),
    data(bytes) {
      for (let at = 0; at < bytes.length; at += frameLimits.data) {
        frame('data', bytes.subarray(at, at + frameLimits.data))
      }
    },
    async told() {
      while (messages.length === 0 && !isOver) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      const message = messages.shift()
      if (!message) throw new Error('the stream ended and nothing was said')
      return message
    },
    ended: ended.promise,
  }
}
