/** A binary heap of what is to happen, by time and then by order of arrival: the same seed gives the same run. */
export interface Scheduled<T> {
  at: number
  sequence: number
  item: T
}

export class Schedule<T> {
  private readonly heap: Scheduled<T>[] = []
  private sequence = 0

  get size(): number {
    return this.heap.length
  }

  push(at: number, item: T): void {
    const entry = { at, sequence: this.sequence++, item }
    let child = this.heap.length
    this.heap.push(entry)
    while (child > 0) {
      const parent = (child - 1) >> 1
      if (!isBefore(entry, this.heap[parent]!)) break
      this.heap[child] = this.heap[parent]!
      child = parent
    }
    this.heap[child] = entry
  }

  pop(): Scheduled<T> | undefined {
    const first = this.heap[0]
    const last = this.heap.pop()
    if (this.heap.length > 0 && last) this.sink(last)
    return first
  }

  private sink(entry: Scheduled<T>): void {
    const { heap } = this
    let parent = 0
    for (;;) {
      let child = 2 * parent + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1
      if (!isBefore(heap[child]!, entry)) break
      heap[parent] = heap[child]!
      parent = child
    }
    heap[parent] = entry
  }
}

function isBefore<T>(a: Scheduled<T>, b: Scheduled<T>): boolean {
  return a.at < b.at || (a.at === b.at && a.sequence < b.sequence)
}
