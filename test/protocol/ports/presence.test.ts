import { afterEach, expect, test } from 'vitest'
import { type Card, readCard } from '../../../protocol/message.ts'
import { parseAddress } from '../../../protocol/ports/libp2p.ts'
import { keepPresence } from '../../../protocol/ports/presence.ts'
import { createListingBook } from '../../../protocol/ports/registry.ts'
import { newKey, nodes } from '../../support/libp2p.ts'

const all = nodes()
afterEach(all.stop)

test('an address to join by whose first dials are refused is dialled again well before 15 s', async () => {
  const privateKey = await newKey()
  const first = await all.start({ privateKey })
  const address = first.getMultiaddrs()[0]!.toString()
  await first.stop()
  const key = await newKey()
  const peer = await all.start({ privateKey: key })
  const presence = await keepPresence({
    ...{ libp2p: peer, key, remembered: [] },
    book: createListingBook<Card>({ readCard }),
    join: new Map([[address, parseAddress(address)]]),
  })
  try {
    const listen = [address.replace(/\/p2p\/.*/, '')]
    await all.start({ privateKey, listen })
    await expect.poll(() => peer.getConnections().length, { timeout: 10_000 }).toBe(1)
  } finally {
    await presence.close()
  }
})
