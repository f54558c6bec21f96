/** A module Worker that computes a part of each batch: its first message is what it starts from (threads.ts sends it). */
import { runHelper } from '../protocol/ports/trainer/threads.ts'

addEventListener(
  'message',
  ({ data }) => void runHelper(data, (said) => postMessage(said)).then(() => close()),
  { once: true },
)
