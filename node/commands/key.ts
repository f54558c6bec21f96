import { open, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { Fault } from '../../protocol/errors.ts'
import { type CommandSpec, type Context, readChoice, shared } from '../command.ts'
import type { Home } from '../home.ts'

/** `mlstore key`: the owner's key as a file under a passphrase, the same that the page writes and reads. */
export const key: CommandSpec = {
  arguments: '<export|import> <file>',
  options: [
    {
      flags: '--replace',
      text: 'import: also where this home has another owner key, which is lost',
    },
    shared.home,
  ],
  examples: [
    'mlstore key export owner.json',
    'MLSTORE_PASSPHRASE="$(cat secret)" mlstore key import owner.json --home ./other',
  ],
  async run(context) {
    const { args, options } = context
    const deed = readChoice(['export', 'import'])(String(args[0]), 'mlstore key')
    const { homeDir, openHome } = await import('../home.ts')
    const home = await openHome(homeDir(options.home))
    try {
      const owner = await deeds[deed](context, home, String(args[1]))
      const done = deed === 'export' ? `exported to ${args[1]}` : `imported from ${args[1]}`
      context.print.answer({ id: owner, object: { owner }, text: `owner ${owner}, ${done}` })
    } finally {
      await home.close()
    }
  },
}

const deeds = { export: exportKey, import: importKey }

/** Never over a file that is there: it may be the only copy of another key. */
async function exportKey(context: Context, home: Home, path: string): Promise<string> {
  const { sealOwnerKey } = await import('../../protocol/ports/owner-key.ts')
  const passphrase = await askPassphrase(context, { twice: true })
  const own = await home.ownerKey()
  const text = await sealOwnerKey(own, passphrase)
  const file = await open(path, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EEXIST' ? fileExists(path) : error
  })
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  return own.publicKey.toString()
}

async function importKey(context: Context, home: Home, path: string): Promise<string> {
  const { openOwnerKey } = await import('../../protocol/ports/owner-key.ts')
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? notFound(path) : error
  })
  const found = await openOwnerKey(text, await askPassphrase(context, { twice: false }))
  const [owner, before] = [found.publicKey.toString(), await home.owner()]
  if (before !== undefined && before !== owner && context.options.replace !== true)
    throw otherOwner(before)
  await home.setOwnerKey(found)
  return owner
}

/** $MLSTORE_PASSPHRASE, or what a person types, which nobody sees. */
async function askPassphrase({ signal }: Context, { twice }: { twice: boolean }): Promise<string> {
  const given = process.env.MLSTORE_PASSPHRASE
  if (given) return given
  if (!process.stdin.isTTY) throw noPassphrase()
  const output = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output, terminal: true })
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  const ask = async (what: string) => {
    process.stderr.write(`${what}: `)
    const answer = await lines.question('', { signal })
    process.stderr.write('\n')
    return answer
  }
  try {
    const passphrase = await ask('passphrase of the file')
    if (twice && (await ask('the same once more')) !== passphrase) throw notTheSame()
    return passphrase
  } finally {
    lines.close()
  }
}

function noPassphrase(): Fault {
  return new Fault({
    kind: 'usage',
    type: 'no-passphrase',
    message: 'there is no passphrase: $MLSTORE_PASSPHRASE is empty, and nobody can be asked',
    hint: 'set it, or run this in a terminal',
  })
}

function notTheSame(): Fault {
  return new Fault({
    kind: 'usage',
    type: 'passphrases-differ',
    message: 'the second passphrase is not the first',
    hint: 'begin again; nothing was written',
  })
}

function fileExists(path: string): Fault {
  return new Fault({
    kind: 'usage',
    type: 'file-exists',
    path,
    message: `${path} is there already`,
    hint: 'choose another name: it may hold another key',
  })
}

function notFound(path: string): Fault {
  return new Fault({
    kind: 'not-found',
    type: 'file-not-found',
    path,
    message: `nothing is at ${path}, expected a key as mlstore key export writes it`,
    hint: 'check the path, or write that file first with mlstore key export in the home that has the key',
  })
}

function otherOwner(before: string): Fault {
  return new Fault({
    kind: 'usage',
    type: 'other-owner',
    owner: before,
    message: `this home has the owner key …${before.slice(-8)} already, and an import would replace it`,
    hint: 'export that one first, then give --replace',
  })
}
