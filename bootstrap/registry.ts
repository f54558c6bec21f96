import { type Card, readCard } from '../protocol/message.ts'
import { createListingBook, type ListingBook } from '../protocol/ports/registry.ts'
import type { Home } from './home.ts'

/** The bootstrap's book of listings, kept in its home. */
export interface KeptBook {
  book: ListingBook<Card>
  /** Writes what is not yet written. Idempotent. */
  close(): Promise<void>
}

const FILE = 'listings.cbor'
/** Listings often come many at once: they are written together, this long after the first. */
const SAVE_AFTER_MS = 250

/** The book as it was left, minus what has expired. A file that cannot be read is put aside, and `tell` says so. */
export async function openBook(home: Home, tell: (line: string) => void): Promise<KeptBook> {
  let timer: ReturnType<typeof setTimeout> | undefined
  let written: Promise<void> = Promise.resolve()
  const save = () => {
    clearTimeout(timer)
    timer = undefined
    written = written
      .then(() => home.write(FILE, book.snapshot()))
      .catch((thrown: Error) =>
        tell(`cannot save the listings: ${thrown.message}; trying again with the next change`),
      )
    return written
  }
  let isOpen = false
  const changed = () => {
    if (isOpen) timer ??= setTimeout(save, SAVE_AFTER_MS)
  }
  const book = createListingBook<Card>({ readCard, changed })
  await restore(book, home, tell)
  isOpen = true
  return {
    book,
    async close() {
      if (timer !== undefined) save()
      isOpen = false
      await written
    },
  }
}

async function restore(
  book: ListingBook<Card>,
  home: Home,
  tell: (line: string) => void,
): Promise<void> {
  const snapshot = await home.read(FILE)
  if (!snapshot) return
  try {
    const { restored, dropped } = await book.restore(snapshot, Date.now())
    tell(`${restored} listings kept, ${dropped} expired`)
  } catch {
    await home.putAside(FILE)
    tell(`${FILE} could not be read and is now ${FILE}.broken; peers will put their listings again`)
  }
}
