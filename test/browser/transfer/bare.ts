/** The yardstick of a swap: one data channel between two tabs, the shipped window, and nothing else. */
export interface Bare {
  /** Descriptions with their candidates, carried from tab to tab by who asks. */
  offer(): Promise<string>
  answer(offer: string): Promise<string>
  accept(answer: string): Promise<void>
  /** Sends that many bytes and takes as many; gives when it began and when all was here, milliseconds since 1970. */
  exchange(bytes: number): Promise<{ from: number; to: number }>
}

const PIECE_BYTES = 16 * 1024

/** `windowBytes` is unacknowledged at most; each quarter of it is acknowledged. */
export function openBare(windowBytes: number): Bare {
  const connection = new RTCPeerConnection()
  const channel = connection.createDataChannel('', { negotiated: true, id: 0 })
  channel.binaryType = 'arraybuffer'
  const opened = new Promise((resolve) => channel.addEventListener('open', resolve))
  const counts = { sent: 0, acknowledged: 0, taken: 0, told: 0, wanted: 0 }
  const piece = crypto.getRandomValues(new Uint8Array(PIECE_BYTES))
  let wake = () => {}
  let whole = () => {}
  channel.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
    if (typeof data === 'string') {
      counts.acknowledged = Number(data)
      return wake()
    }
    counts.taken += data.byteLength
    if (counts.taken - counts.told >= windowBytes / 4) {
      counts.told = counts.taken
      channel.send(String(counts.told))
    }
    if (counts.taken >= counts.wanted) whole()
  }
  const described = async (description: RTCSessionDescriptionInit) => {
    await connection.setLocalDescription(description)
    if (connection.iceGatheringState !== 'complete')
      await new Promise<void>((resolve) => {
        connection.onicecandidate = ({ candidate }) => {
          if (!candidate) resolve()
        }
      })
    return connection.localDescription!.sdp
  }
  return {
    offer: async () => described(await connection.createOffer()),
    async answer(sdp) {
      await connection.setRemoteDescription({ type: 'offer', sdp })
      return described(await connection.createAnswer())
    },
    accept: (sdp) => connection.setRemoteDescription({ type: 'answer', sdp }),
    async exchange(bytes) {
      await opened
      const from = performance.timeOrigin + performance.now()
      const end = counts.sent + bytes
      counts.wanted += bytes
      const taken = new Promise<void>((resolve) => {
        whole = resolve
        if (counts.taken >= counts.wanted) resolve()
      })
      while (counts.sent < end) {
        while (counts.sent - counts.acknowledged >= windowBytes)
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        const next = piece.subarray(0, Math.min(PIECE_BYTES, end - counts.sent))
        channel.send(next)
        counts.sent += next.length
      }
      await taken
      return { from, to: performance.timeOrigin + performance.now() }
    },
  }
}
