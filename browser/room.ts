/** How much room this browser gives the page, in its own words: what it does not tell is undefined. */
export interface Room {
  /** Bytes of all that is kept here: versions, checkpoints, data, and what the browser adds for itself. */
  used: number | undefined
  most: number | undefined
  /** Whether it promised to keep that when room runs short. */
  isPromised: boolean | undefined
}

export async function roomHere(): Promise<Room> {
  const { storage } = navigator as { storage?: StorageManager } // browsers hide it where a page is not secure
  const estimate = await storage?.estimate?.().catch(() => undefined)
  const isPromised = await storage?.persisted?.().catch(() => undefined)
  return { used: estimate?.usage, most: estimate?.quota, isPromised }
}

/** Asks it to promise that; some ask the person, others decide by themselves. Whether it did. */
export async function askForPromise(): Promise<boolean> {
  const { storage } = navigator as { storage?: StorageManager }
  return (await storage?.persist?.().catch(() => false)) ?? false
}
