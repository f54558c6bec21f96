/** Does `work` with every item, at most `width` of them at once; rejects as the first that fails does. */
export async function inParallel<T>(
  width: number,
  list: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = list.values()
  const one = async () => {
    for (const item of rest) await work(item)
  }
  await Promise.all(Array.from({ length: Math.min(width, list.length) }, one))
}
