import { privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { fromString, toString } from 'uint8arrays'
import * as v from 'valibot'
import { Fault } from '../errors.ts'

/**
 * An owner's key as a file that can be kept and carried: JSON, encrypted under a passphrase, the same from Node and page.
 *
 *   derive   how a passphrase (NFKC, UTF-8) becomes a key of 256 bits; salt in base64
 *   cipher   what encrypts by that key; iv of 12 bytes in base64
 *   key      the Ed25519 private key as libp2p writes it, encrypted, in base64; its tag vouches for all other fields too
 *
 * Source: PBKDF2, RFC 8018; AES-GCM, NIST SP 800-38D; iterations as OWASP's password storage cheat sheet has them (2023).
 */
export type OwnerKeyFile = v.InferOutput<typeof fileSchema>

/** Each guess of a passphrase costs so much; a reader waits for ten times as much at most, a few seconds on a phone. */
const ITERATIONS = 600_000
const ITERATIONS_LIMIT = 6_000_000
/** A file is under 600 characters; more than this is not even parsed. */
const FILE_LIMIT = 4096
const SALT_BYTES = 16
const IV_BYTES = 12
/** Characters; whoever gets hold of the file may guess for years. */
const PASSPHRASE_LEAST = 10

const bytes = (least: number, most: number) =>
  v.pipe(
    v.string(),
    v.maxLength(Math.ceil(most / 3) * 4),
    v.base64(),
    v.transform((text) => fromString(text, 'base64pad')),
    v.minLength(least),
    v.maxLength(most),
  )

const fileSchema = v.object({
  type: v.literal('mlstore-owner-key'),
  version: v.literal(1),
  owner: v.pipe(v.string(), v.minLength(1), v.maxLength(128)),
  derive: v.object({
    name: v.literal('PBKDF2'),
    hash: v.literal('SHA-256'),
    iterations: v.pipe(
      v.number(),
      v.integer(),
      v.minValue(ITERATIONS),
      v.maxValue(ITERATIONS_LIMIT),
    ),
    salt: bytes(SALT_BYTES, 64),
  }),
  cipher: v.object({ name: v.literal('AES-GCM'), iv: bytes(IV_BYTES, IV_BYTES) }),
  key: bytes(1, 256),
})

/** The file's text. Throws Fault `weak-passphrase`. */
export async function sealOwnerKey(key: Ed25519PrivateKey, passphrase: string): Promise<string> {
  if ([...passphrase].length < PASSPHRASE_LEAST) throw weakPassphrase(passphrase)
  const head: Head = {
    type: 'mlstore-owner-key',
    version: 1,
    owner: key.publicKey.toString(),
    derive: {
      name: 'PBKDF2',
      hash: 'SHA-256',
      iterations: ITERATIONS,
      salt: crypto.getRandomValues(new Uint8Array(SALT_BYTES)),
    },
    cipher: { name: 'AES-GCM', iv: crypto.getRandomValues(new Uint8Array(IV_BYTES)) },
  }
  const plain = Uint8Array.from(privateKeyToProtobuf(key))
  const secret = await deriveKey(passphrase, head)
  const sealed = await crypto.subtle.encrypt(cipherOf(head), secret, plain)
  const file = { ...written(head), key: toString(new Uint8Array(sealed), 'base64pad') }
  return `${JSON.stringify(file, null, 2)}\n`
}

/**
 * The key in a file's text. Throws Fault `wrong-key-file` for what is no such file, and `wrong-passphrase` where the
 * passphrase, or anything in the file, is not what it was sealed with.
 */
export async function openOwnerKey(text: string, passphrase: string): Promise<Ed25519PrivateKey> {
  const file = parse(text)
  const secret = await deriveKey(passphrase, file)
  const plain = await crypto.subtle
    .decrypt(cipherOf(file), secret, Uint8Array.from(file.key))
    .catch((error: unknown) => {
      throw wrongPassphrase(file, error)
    })
  const key = keyFrom(new Uint8Array(plain))
  if (key?.publicKey.toString() !== file.owner) throw wrongFile('the key in it is not its owner’s')
  return key
}

type Head = Omit<OwnerKeyFile, 'key'>

/** The head as JSON has it, its fields in one order: what the tag vouches for. */
function written({ type, version, owner, derive, cipher }: Head) {
  const { name, hash, iterations, salt } = derive
  return {
    ...{ type, version, owner },
    derive: { name, hash, iterations, salt: toString(salt, 'base64pad') },
    cipher: { name: cipher.name, iv: toString(cipher.iv, 'base64pad') },
  }
}

function cipherOf(head: Head): AesGcmParams {
  const additionalData = new TextEncoder().encode(JSON.stringify(written(head)))
  return { name: 'AES-GCM', iv: Uint8Array.from(head.cipher.iv), additionalData }
}

async function deriveKey(passphrase: string, { derive }: Head): Promise<CryptoKey> {
  const { name, hash, iterations } = derive
  const typed = new TextEncoder().encode(passphrase.normalize('NFKC'))
  const base = await crypto.subtle.importKey('raw', typed, name, false, ['deriveKey'])
  const salt = Uint8Array.from(derive.salt)
  const made = { name: 'AES-GCM', length: 256 }
  return crypto.subtle.deriveKey({ name, hash, iterations, salt }, base, made, false, [
    'encrypt',
    'decrypt',
  ])
}

function parse(text: string): OwnerKeyFile {
  if (text.length > FILE_LIMIT) throw wrongFile(`it has more than ${FILE_LIMIT} characters`)
  let found: unknown
  try {
    found = JSON.parse(text)
  } catch (error) {
    throw wrongFile('it is no JSON, or cut short', error)
  }
  const parsed = v.safeParse(fileSchema, found)
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  throw wrongFile(`${v.getDotPath(issue) ?? 'the file'}: ${issue.message}`)
}

function keyFrom(plain: Uint8Array): Ed25519PrivateKey | undefined {
  try {
    const key = privateKeyFromProtobuf(plain)
    return key.type === 'Ed25519' ? key : undefined
  } catch {
    return undefined
  }
}

function weakPassphrase(passphrase: string): Fault {
  const { length } = [...passphrase]
  return new Fault({
    kind: 'usage',
    type: 'weak-passphrase',
    message: `the passphrase has ${length} characters, expected at least ${PASSPHRASE_LEAST}`,
    hint: 'take several words: whoever gets hold of the file may try as long as they like',
    length,
    least: PASSPHRASE_LEAST,
  })
}

function wrongFile(why: string, cause?: unknown): Fault {
  return new Fault(
    {
      kind: 'verification',
      type: 'wrong-key-file',
      message: `this is no owner key as mlstore writes it: ${why}`,
      hint: 'take the file as it was exported, whole',
      why,
    },
    cause,
  )
}

function wrongPassphrase({ owner }: OwnerKeyFile, cause: unknown): Fault {
  return new Fault(
    {
      kind: 'verification',
      type: 'wrong-passphrase',
      owner,
      message:
        'the passphrase does not open this key, or the file was changed since it was written',
      hint: 'type it as it was when the key was exported',
    },
    cause,
  )
}
