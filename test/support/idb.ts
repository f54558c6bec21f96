/** idb-keyval over Maps: copies go in and out, an update is one transaction, and what has one name is shared by all tabs. */
const databases = new Map<string, Map<string, unknown>>()

type Kept = Map<string, unknown>
type Use = <T>(mode: string, work: (store: ReturnType<typeof objectStore>) => T) => Promise<T>

export function forgetDatabases(): void {
  databases.clear()
}

/** What one database holds now. */
export function keptIn(name: string): Kept {
  const kept = databases.get(name) ?? new Map()
  databases.set(name, kept)
  return kept
}

export function createStore(name: string): Use {
  return async (_mode, work) => work(objectStore(keptIn(name)))
}

/** Requests are values here. */
export async function promisifyRequest<T>(request: T): Promise<T> {
  return request
}

export async function get(key: string, use: Use = createStore('keyval')): Promise<unknown> {
  return use('readonly', (store) => store.get(key))
}

export async function set(key: string, value: unknown, use: Use = createStore('keyval')) {
  await use('readwrite', (store) => store.put(value, key))
}

export async function update(
  key: string,
  change: (before: unknown) => unknown,
  use: Use = createStore('keyval'),
) {
  await use('readwrite', (store) => store.put(change(store.get(key)), key))
}

export async function del(key: string, use: Use = createStore('keyval')) {
  await use('readwrite', (store) => store.delete(key))
}

function objectStore(kept: Kept) {
  return {
    transaction: undefined,
    get: (key: string) => copyOf(kept.get(key)),
    put: (value: unknown, key: string) => void kept.set(key, copyOf(value)),
    delete: (key: string) => void kept.delete(key),
    getAllKeys: () => [...kept.keys()],
  }
}

function copyOf(value: unknown): unknown {
  return structuredClone(value)
}
