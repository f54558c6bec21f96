import { MemoryBlockstore } from 'blockstore-core'
import { IDBBlockstore } from 'blockstore-idb'
import type { CID } from 'multiformats/cid'

type Rest<F extends (...args: never[]) => unknown> =
  Parameters<F> extends [unknown, ...infer R] ? R : never

/** Blocks in IndexedDB; what it has no room for is in memory for this visit, so that a full browser still opens a model. */
export class RoomyBlockstore extends IDBBlockstore {
  readonly #memory = new MemoryBlockstore()

  override async put(key: CID, ...rest: Rest<IDBBlockstore['put']>): Promise<CID> {
    try {
      return await super.put(key, ...rest)
    } catch (error) {
      const [block, options] = rest
      options?.signal?.throwIfAborted()
      if (!(block instanceof Uint8Array)) throw error
      return this.#memory.put(key, block)
    }
  }

  override async has(key: CID, ...rest: Rest<IDBBlockstore['has']>): Promise<boolean> {
    return (await this.#memory.has(key)) || super.has(key, ...rest)
  }

  override async *get(key: CID, ...rest: Rest<IDBBlockstore['get']>): AsyncGenerator<Uint8Array> {
    yield* (await this.#memory.has(key)) ? this.#memory.get(key) : super.get(key, ...rest)
  }

  override async delete(key: CID, ...rest: Rest<IDBBlockstore['delete']>): Promise<void> {
    await this.#memory.delete(key)
    await super.delete(key, ...rest)
  }
}
