import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { beforeAll, describe, expect, test } from 'vitest'
import { openOwnerKey, sealOwnerKey } from '../../../protocol/ports/owner-key.ts'

const PASSPHRASE = 'correct horse battery'
const key = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(7))
const owner = key.publicKey.toString()
let text = ''
beforeAll(async () => {
  text = await sealOwnerKey(key, PASSPHRASE)
})

/** The file with some of its fields changed. */
function changed(change: (file: Record<string, Record<string, unknown>>) => void): string {
  const file = JSON.parse(text)
  change(file)
  return JSON.stringify(file)
}

/** One bit of base64's bytes turned. */
function turned(base64: unknown): string {
  const bytes = Buffer.from(String(base64), 'base64')
  bytes[0]! ^= 1
  return bytes.toString('base64')
}

test('a key comes back from its file with its passphrase', async () => {
  expect((await openOwnerKey(text, PASSPHRASE)).equals(key)).toBe(true)
})

test('a passphrase is the same however its letters are composed', async () => {
  const sealed = await sealOwnerKey(key, 'Z\u00fcrichsee um \u216b')
  expect((await openOwnerKey(sealed, 'Zu\u0308richsee um XII')).equals(key)).toBe(true)
})

test('a file names how it was made, and holds nothing of the key in the clear', () => {
  expect(JSON.parse(text)).toEqual({
    type: 'mlstore-owner-key',
    version: 1,
    owner,
    derive: {
      name: 'PBKDF2',
      hash: 'SHA-256',
      iterations: 600_000,
      salt: expect.stringMatching(/^[\w+/]{22}==$/),
    },
    cipher: { name: 'AES-GCM', iv: expect.stringMatching(/^[\w+/]{16}$/) },
    key: expect.any(String),
  })
  const sealed = Buffer.from(JSON.parse(text).key, 'base64')
  expect(sealed.includes(Buffer.from(key.raw.subarray(0, 32)))).toBe(false)
})

test('no two files are alike', async () => {
  const again = JSON.parse(await sealOwnerKey(key, PASSPHRASE))
  const first = JSON.parse(text)
  expect(again.derive.salt).not.toBe(first.derive.salt)
  expect(again.cipher.iv).not.toBe(first.cipher.iv)
  expect(again.key).not.toBe(first.key)
})

test('a short passphrase is refused with what is expected', async () => {
  await expect(sealOwnerKey(key, 'ninechars')).rejects.toMatchObject({
    detail: { kind: 'usage', type: 'weak-passphrase', message: expect.stringMatching(/9 .* 10/) },
  })
})

describe('what does not open', () => {
  test.each([
    ['another passphrase', () => text, 'incorrect horse battery'],
    ['no passphrase', () => text, ''],
    ['a turned bit of the key', () => changed((file) => (file.key = turned(file.key) as never))],
    ['another salt', () => changed(({ derive }) => (derive!.salt = turned(derive!.salt)))],
    ['another iv', () => changed(({ cipher }) => (cipher!.iv = turned(cipher!.iv)))],
    ['other iterations', () => changed(({ derive }) => (derive!.iterations = 700_000))],
    ['another owner', () => changed((file) => (file.owner = `${owner}x` as never))],
  ] as [string, () => string, string?][])('is said: %s', async (_, file, typed = PASSPHRASE) => {
    await expect(openOwnerKey(file(), typed)).rejects.toMatchObject({
      detail: { kind: 'verification', type: 'wrong-passphrase' },
    })
  })

  test.each([
    ['a file cut short', () => text.slice(0, 200), /cut short/],
    ['no file at all', () => '', /no JSON/],
    ['another JSON', () => '[]', /expected/i],
    ['a file too large', () => text.padEnd(5000), /more than 4096 characters/],
    ['a later version', () => changed((file) => (file.version = 2 as never)), /version/],
    ['few iterations', () => changed(({ derive }) => (derive!.iterations = 1)), /600000/],
    ['absurd iterations', () => changed(({ derive }) => (derive!.iterations = 1e12)), /6000000/],
    ['broken base64', () => changed((file) => (file.key = '#' as never)), /key/],
    ['a short salt', () => changed(({ derive }) => (derive!.salt = 'AAAA')), /derive.salt/],
    ['a long iv', () => changed(({ cipher }) => (cipher!.iv = 'A'.repeat(20))), /cipher.iv/],
    ['another cipher', () => changed(({ cipher }) => (cipher!.name = 'AES-CBC')), /cipher.name/],
  ] as [string, () => string, RegExp][])('or is no such file: %s', async (_, file, why) => {
    await expect(openOwnerKey(file(), PASSPHRASE)).rejects.toMatchObject({
      detail: {
        kind: 'verification',
        type: 'wrong-key-file',
        message: expect.stringMatching(why),
      },
    })
  })
})

test('a key of another kind that somebody sealed is no owner key', async () => {
  const other = await generateKeyPair('secp256k1')
  const sealed = await sealOwnerKey(other as never, PASSPHRASE)
  await expect(openOwnerKey(sealed, PASSPHRASE)).rejects.toMatchObject({
    detail: { type: 'wrong-key-file', message: expect.stringMatching(/not its owner/) },
  })
})
