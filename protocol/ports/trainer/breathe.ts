/**
 * Lets waiting messages and timers run: one macrotask, without the 4 ms that nested timers cost. A promise alone would not do:
 * microtasks run before any message is delivered.
 */
export const breathe: () => Promise<void> =
  typeof setImmediate === 'function'
    ? () => new Promise((resolve) => setImmediate(resolve))
    : byChannel()

function byChannel(): () => Promise<void> {
  const { port1, port2 } = new MessageChannel()
  const waiting: (() => void)[] = []
  port1.onmessage = () => waiting.shift()?.()
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve)
      port2.postMessage(undefined)
    })
}
