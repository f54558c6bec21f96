import type { Command } from './commands.ts'

/** What a host gives away with a command, and how: a buffer that is transferred is empty for whoever else reads it. */

/** The buffers a command gives away. Parts of a larger buffer are copied: transferring it would empty its other owners. */
export function buffersOf(command: Command): ArrayBuffer[] {
  if (command.type === 'adopt') return [(command.bytes = ownBuffer(command.bytes)).buffer]
  if (command.type !== 'settle') return []
  command.received = command.received.map(ownBuffer)
  if (command.sent) command.sent = ownBuffer(command.sent)
  return [...command.received, ...(command.sent ? [command.sent] : [])].map(
    (bytes) => bytes.buffer as ArrayBuffer,
  )
}

/** The same bytes in a buffer of their own. */
export function ownBuffer(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = bytes.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength
  return whole && bytes.constructor === Uint8Array
    ? (bytes as Uint8Array<ArrayBuffer>)
    : Uint8Array.from(bytes)
}
