import * as dagPb from '@ipld/dag-pb'
import type { PrivateKey } from '@libp2p/interface'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { describe, expect, test } from 'vitest'
import { Fault } from '../../../protocol/errors.ts'
import { readListing, signListing } from '../../../protocol/listing.ts'
import { type Manifest, readManifest } from '../../../protocol/manifest.ts'
import { readCard } from '../../../protocol/message.ts'
import { Merge } from '../../../protocol/ports/registry/merge.ts'
import { createListingBook, type ListingBook } from '../../../protocol/ports/registry.ts'
import { type Finder, fetchResolved, resolveModel } from '../../../protocol/ports/resolve.ts'
import { newKey } from '../../support/libp2p.ts'
import { tableVersion } from '../../support/versions.ts'

/** Whose a model is, where its genesis may be gone. The registries are real books; who is asked is this test. */

const [genesis, child] = (await Promise.all(
  ['genesis', 'child'].map(async (text) => {
    const hash = await sha256.digest(new TextEncoder().encode(text))
    return CID.createV1(dagPb.code, hash).toString()
  }),
)) as [string, string]
const now = Date.now()

describe('where nobody has the genesis any more,', () => {
  test('the one owner that all registries name is believed', async () => {
    const world = await worldOf()
    await world.list(world.owner, 'tiny', [0, 2])
    expect((await world.open('tiny')).cid).toBe(child)
  })

  test('a second owner whom one registry names, under whatever name, is told and nobody is believed', async () => {
    const world = await worldOf()
    await world.list(world.owner, 'tiny', [0, 1])
    await world.list(world.thief, 'other', [2])
    const fault = await faultOf(world.open('tiny'))
    expect(fault.detail).toMatchObject({ kind: 'verification', type: 'contested-genesis' })
    expect(fault.exitCode).toBe(7)
    expect(fault.message).toBe(
      `2 owners (…${nameOf(world.owner)}, …${nameOf(world.thief)}) list genesis ${genesis}, and nobody who could be asked has it, expected one owner`,
    )
  })

  test('two who list it under one name are no choice between two models', async () => {
    const world = await worldOf()
    await world.list(world.owner, 'tiny', [0])
    await world.list(world.thief, 'tiny', [1])
    for (const text of ['tiny', `${genesis}@latest`])
      expect((await faultOf(world.open(text))).detail.type).toBe('contested-genesis')
  })
})

describe('where somebody has the genesis,', () => {
  test('it says whose the model is, whatever all registries say', async () => {
    const world = await worldOf({ isHeld: true })
    await world.list(world.thief, 'tiny', [0, 1, 2])
    expect((await faultOf(world.open('tiny'))).detail.type).toBe('wrong-owner')
    await world.list(world.owner, 'tiny', [2])
    expect((await world.open('tiny')).manifest.owner).toBe(world.owner.publicKey.toString())
  })
})

/** Three registries, an owner whose child version is fetched whatever is asked for, and a thief. */
async function worldOf({ isHeld = false } = {}) {
  const [owner, thief] = [await newKey(), await newKey()]
  const files = await tableVersion()
  const first = { ...readManifest(files.get('mlstore.json')!), owner: owner.publicKey.toString() }
  const manifest: Manifest = { ...first, genesis, parents: [genesis], version: '1.1.0' }
  const books = [0, 1, 2].map(() => createListingBook({ readCard }))
  const finder = {
    join: () => {},
    online: async () => {},
    store: {
      has: async () => false,
      versions: async () => [],
      fetchVersion: async () => ({ cid: child, manifest, genesis: isHeld ? first : undefined }),
      async fetchManifest() {
        if (isHeld) return first
        const detail = { type: 'artifact-not-found', message: 'nobody has it', hint: 'wait' }
        throw new Fault({ kind: 'not-found', ...detail })
      },
    },
    registry: { list: mergeOf(books), cards: async () => [] },
  } as unknown as Finder
  return {
    owner,
    thief,
    async list(key: PrivateKey, name: string, at: number[]) {
      const signed = await signListing(
        {
          ...{ name, title: name, task: manifest.task, tags: [], labels: [], genesis },
          ...{ version: child, manifestVersion: '1.1.0', bytes: 1, sequence: 1 },
        },
        key,
        now,
      )
      for (const i of at) await books[i]!.put(signed, now)
    },
    open: async (text: string) =>
      fetchResolved(finder, await resolveModel(text, finder, { timeoutMs: 1_000 })),
  }
}

/** What the client does with the answers of every registry. */
function mergeOf(books: ListingBook[]): Finder['registry']['list'] {
  return async (query, { ownerOf } = {}) => {
    const merge = new Merge(query)
    for (const [i, book] of books.entries()) {
      const { total, entries } = book.search(query, now)
      merge.answered(`${i}`, total)
      for (const { bytes } of entries) merge.add(`${i}`, bytes, await readListing(bytes, now))
    }
    if (ownerOf) await merge.settle(ownerOf)
    return merge.result(0, 50)
  }
}

function nameOf(key: PrivateKey): string {
  return key.publicKey.toString().slice(-8)
}

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof Fault) return error
  throw new Error(`expected a Fault, got ${error}`, { cause: error })
}
