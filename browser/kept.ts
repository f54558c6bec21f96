/** Versions that this browser keeps and serves: what they are, and how one is freed. */
import { Fault } from '../protocol/errors.ts'
import { MANIFEST_FILE, readManifest } from '../protocol/manifest.ts'
import type { Store } from '../protocol/ports/store.ts'
import type { Host } from './host.ts'
import { isTaken } from './lock.ts'
import type { VersionHere } from './services.ts'
import { text } from './text.ts'

/** What of a host keeps versions. */
export interface Keeping extends Pick<Host, 'book' | 'announce' | 'yieldCard'> {
  store: Pick<Store, 'versions' | 'readFile' | 'remove'>
}

/** All of them, the last kept first. One whose manifest cannot be read is there too, and says so. */
export async function versionsHere({ store, book }: Keeping): Promise<VersionHere[]> {
  const now = Date.now()
  const all = await Promise.all(
    (await store.versions()).map(
      async ({ cid, genesis, name, version, bytes, keptAt }): Promise<VersionHere> => {
        const listed = book.search({ genesis }, now).entries.length > 0
        const here = { cid, genesis, number: version, bytes, at: keptAt, listed }
        try {
          const { title } = readManifest(await store.readFile(cid, MANIFEST_FILE))
          return { ...here, title, isDamaged: false }
        } catch {
          return { ...here, title: name, isDamaged: true }
        }
      },
    ),
  )
  return all.sort((a, b) => (b.at ?? 0) - (a.at ?? 0))
}

/**
 * Frees one, and says no more that it is here. `training`: the model that this page trains now, whose card is its run's.
 * Throws Fault `trained-elsewhere` while another tab trains, which may need it.
 */
export async function freeVersion(
  { store, announce, yieldCard }: Keeping,
  cid: string,
  training: string | undefined,
): Promise<void> {
  if (training === undefined && (await isTaken('mlstore-training')))
    throw new Fault(text.versionsHere.trainedElsewhere)
  const genesis = (await store.versions()).find((version) => version.cid === cid)?.genesis
  await store.remove(cid)
  if (genesis === undefined || genesis === training) return
  yieldCard(genesis)
  await announceKept({ store, announce }, genesis)
}

/** Lets the card of a model name a version that is here: `first` if it is, else the last kept; no card where none is. */
export async function announceKept(
  { store, announce }: Pick<Keeping, 'announce'> & { store: Pick<Store, 'versions'> },
  genesis: string,
  first?: string,
): Promise<void> {
  const kept = (await store.versions()).filter((version) => version.genesis === genesis)
  const last = kept.sort((a, b) => (b.keptAt ?? 0) - (a.keptAt ?? 0))[0]
  const named = kept.find(({ cid }) => cid === first) ?? last
  if (named) void announce({ cid: named.cid, genesis }).catch(() => undefined)
}
