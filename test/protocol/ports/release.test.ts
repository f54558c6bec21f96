import * as dagPb from '@ipld/dag-pb'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { expect, test } from 'vitest'
import { type Listing, readListing, signListing } from '../../../protocol/listing.ts'
import { type Manifest, readManifest } from '../../../protocol/manifest.ts'
import { type Card, readCard } from '../../../protocol/message.ts'
import { createListingBook } from '../../../protocol/ports/registry.ts'
import { keepRelease, newestKnown, type ReleaseKeeper } from '../../../protocol/ports/release.ts'
import { newKey } from '../../support/libp2p.ts'
import { tableVersion } from '../../support/versions.ts'

/** What a trainer keeps of its owner's releases. The book is a real one; who holds versions is this test. */

const address = '/ip4/10.0.0.1/tcp/1/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf'

test('a release is fetched from who holds it, and its listing is known from then on', async () => {
  const { host, asked, announced, manifest, genesis, release } = await worldOf({ isThere: true })
  expect(newestKnown(host, { manifest, cid: genesis })).toBeUndefined()
  const { listing, bytes } = announced
  const kept = await keepRelease(host, listing, bytes, AbortSignal.timeout(1_000))
  expect(kept.cid).toBe(release)
  expect(asked).toEqual([{ cid: release, providers: [address] }])
  expect(newestKnown(host, { manifest, cid: genesis })).toBe(7)
})

test('a release that nobody has is not kept; that it is there, others still hear', async () => {
  const { host, announced, manifest, genesis } = await worldOf({ isThere: false })
  const { listing, bytes } = announced
  const keeping = keepRelease(host, listing, bytes, AbortSignal.timeout(1_000))
  await expect(keeping).rejects.toThrow('nobody has it')
  expect(newestKnown(host, { manifest, cid: genesis })).toBe(7)
})

async function worldOf({ isThere }: { isThere: boolean }) {
  const [genesis, release] = await Promise.all(['genesis', 'release'].map(cidOf))
  const owner = await newKey()
  const draft = readManifest((await tableVersion()).get('mlstore.json')!)
  const manifest: Manifest = { ...draft, owner: owner.publicKey.toString() }
  const { name, title, task } = manifest
  const bytes = await signListing(
    {
      ...{ name, title, task, tags: [], labels: [], genesis: genesis!, version: release! },
      ...{ manifestVersion: '1.1.0', bytes: 1, sequence: 7 },
    },
    owner,
    Date.now(),
  )
  const asked: { cid: string; providers: readonly string[] }[] = []
  const card = {
    phase: 'seeding',
    version: release,
    addresses: [address],
    peer: address.slice(-52),
  }
  const host = {
    book: createListingBook<Card>({ readCard }),
    registry: { cards: async () => ({ cards: [{ card }] }) },
    store: {
      async fetchVersion(cid: string, { providers }: { providers: readonly string[] }) {
        asked.push({ cid, providers })
        if (!isThere) throw new Error('nobody has it')
        return { cid, manifest: { ...manifest, genesis, parents: [genesis] }, genesis: manifest }
      },
    },
  } as unknown as ReleaseKeeper
  const listing = (await readListing(bytes, Date.now())) as Listing
  return {
    ...{ host, asked, manifest, genesis: genesis!, release: release! },
    announced: { listing, bytes },
  }
}

async function cidOf(text: string): Promise<string> {
  const hash = await sha256.digest(new TextEncoder().encode(text))
  return CID.createV1(dagPb.code, hash).toString()
}
