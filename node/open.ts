/** What commands do alike: open the home and its node, find a model, fetch it with progress, and close. */

import type { Resolved } from '../protocol/ports/resolve.ts'
import type { FetchProgress, StoredVersion } from '../protocol/ports/store.ts'
import type { Context } from './command.ts'
import type { Host } from './host.ts'
import { raisable } from './memory.ts'

/** Runs `work` with a node in the home of `--home`, joined to `--join`, and closes both whatever happens. */
export async function withHost<T>(context: Context, work: (host: Host) => Promise<T>): Promise<T> {
  await import('./lean.ts')
  const [{ homeDir, openHome }, { startHost }] = await Promise.all([
    import('./home.ts'),
    import('./host.ts'),
  ])
  const { options, signal, print } = context
  const home = await openHome(homeDir(options.home))
  const host = await print.waiting(
    'the network to start',
    startHost({
      home,
      join: (options.join as string[] | undefined) ?? [],
      listen: options.listen as string[] | undefined,
      signal,
    }),
  )
  try {
    return await work(host)
  } finally {
    await host.close()
  }
}

/** Finds a model and fetches it, saying how far it is; refused where it is to train within `memoryBytes` and takes more. */
export async function fetchModel(
  context: Context,
  host: Host,
  text: string,
  {
    memoryBytes = Number.POSITIVE_INFINITY,
    onProgress,
  }: { memoryBytes?: number; onProgress?: (progress: FetchProgress) => void } = {},
): Promise<Resolved & { version: StoredVersion }> {
  const { fetchResolved } = await import('../protocol/ports/resolve.ts')
  const { print, signal } = context
  const resolved = await findModel(context, host, text)
  const version = await print.waiting(
    () => `${resolved.cid} from ${host.libp2p.getPeers().length} peers`,
    raisable(
      memoryBytes,
      fetchResolved(host, resolved, {
        signal: limited(context),
        memoryBytes,
        onProgress(progress) {
          print.progress('fetching', progress.bytes, progress.total)
          onProgress?.(progress)
        },
      }),
    ).catch((error: unknown) => {
      signal.throwIfAborted()
      throw error
    }),
  )
  return { ...resolved, version }
}

/** Finds a model without fetching it. */
export async function findModel(
  { options, print, signal }: Context,
  host: Host,
  text: string,
): Promise<Resolved> {
  const { NETWORK_LIMIT_MS, resolveModel } = await import('../protocol/ports/resolve.ts')
  const timeoutMs = (options.timeout as number | undefined) ?? NETWORK_LIMIT_MS
  return print.waiting(
    'a bootstrap or a peer to answer',
    resolveModel(text, host, { timeoutMs, signal }),
  )
}

/** The user's signal, and --timeout where it was given. */
function limited({ options, signal }: Context): AbortSignal {
  const timeoutMs = options.timeout as number | undefined
  return timeoutMs === undefined
    ? signal
    : AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
}

/** Resolves when the user asks to stop. */
export function untilStopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
