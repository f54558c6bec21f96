import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { RecordEnvelope } from '@libp2p/peer-record'
import { expect, test } from 'vitest'
import { open, seal } from '../../protocol/envelope.ts'

const key = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(7))
const payload = Uint8Array.of(0xa1, 0x61, 0x61, 0x01)

test('what was sealed opens, and says who sealed it', async () => {
  const opened = await open('mlstore/test/1', await seal('mlstore/test/1', payload, key))
  expect(opened).toEqual({ signer: key.publicKey.toString(), payload })
})

test('a signature for one domain is worth nothing in another', async () => {
  const sealed = await seal('mlstore/card/1', payload, key)
  expect(await open('mlstore/listing/1', sealed)).toMatchObject({ type: 'bad-signature' })
})

test('every changed byte and every truncation is refused', async () => {
  const sealed = await seal('mlstore/test/1', payload, key)
  for (let i = 0; i < sealed.length; i++) {
    const changed = sealed.slice()
    changed[i] = changed[i]! ^ 1
    expect(await open('mlstore/test/1', changed), `byte ${i}`).not.toHaveProperty('signer')
    expect(await open('mlstore/test/1', sealed.subarray(0, i)), `cut at ${i}`).not.toHaveProperty(
      'signer',
    )
  }
})

test('the same envelope in another encoding is refused', async () => {
  const sealed = await seal('mlstore/test/1', payload, key)
  const withUnknownField = new Uint8Array([...sealed, 0x78, 0x01])
  expect(await open('mlstore/test/1', withUnknownField)).toMatchObject({ type: 'malformed' })
})

test('keys other than Ed25519 are refused before their signature is checked', async () => {
  const other = await generateKeyPair('secp256k1')
  const record = {
    domain: 'x',
    codec: Uint8Array.of(0x71),
    marshal: () => payload,
    equals: () => false,
  }
  const sealed = (await RecordEnvelope.seal(record, other)).marshal()
  expect(await open('x', sealed)).toMatchObject({ type: 'wrong-key' })
  await expect(seal('x', payload, other)).rejects.toThrow('invariant broken')
})

test('garbage is refused', async () => {
  for (const bytes of [
    new Uint8Array(0),
    new Uint8Array(200),
    new Uint8Array(200).fill(255),
    payload,
  ]) {
    expect(await open('x', bytes)).toMatchObject({ type: 'malformed' })
  }
})
