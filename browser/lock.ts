/** What only one tab of a profile may have at a time; the browser gives it back when the tab is gone, however that ended. */

/** Gives a function that gives it back, or undefined when another tab has it. Where a browser has no locks, nobody waits. */
export function takeLock(name: string): Promise<(() => void) | undefined> {
  const { locks } = navigator
  if (!locks) return Promise.resolve(() => {})
  return new Promise((resolve) => {
    void locks.request(name, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(undefined)
      return new Promise<void>((release) => resolve(release))
    })
  })
}

/** Whether any tab has it now; where a browser has no locks, none is known to. */
export async function isTaken(name: string): Promise<boolean> {
  const { held } = (await navigator.locks?.query()) ?? {}
  return held?.some((lock) => lock.name === name) ?? false
}

/** One tab of a profile after the other. */
export async function whenFree<T>(name: string, work: () => Promise<T>): Promise<T> {
  return navigator.locks ? await navigator.locks.request(name, work) : work()
}
