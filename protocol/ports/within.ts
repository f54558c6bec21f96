/**
 * Gives `work` a signal that aborts with `outer`, and `limitMs` after the start at the latest; rejects as `work` does. Nothing of it
 * is left when the work is done. For what a peer does over and over for days: in Node a signal of AbortSignal.any() that was made of
 * another such signal stays in memory for good.
 * Source: nodejs/node, issue 54614.
 */
export async function within<T>(
  limitMs: number,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  outer?.throwIfAborted()
  const limit = new AbortController()
  const follow = () => limit.abort(outer?.reason)
  const timer = setTimeout(
    () => limit.abort(new DOMException(`not done within ${limitMs} ms`, 'TimeoutError')),
    limitMs,
  )
  outer?.addEventListener('abort', follow)
  try {
    return await work(limit.signal)
  } finally {
    clearTimeout(timer)
    outer?.removeEventListener('abort', follow)
  }
}
