/**
 * Directories on disk as version files, and back: whole or not at all.
 */
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { Fault } from '../protocol/errors.ts'
import { MAX_FILES, MAX_VERSION_BYTES } from '../protocol/manifest.ts'
import type { VersionFiles } from '../protocol/ports/version.ts'

/**
 * The files of a directory. Hidden files and links are left out; sizes are looked at before anything is read.
 * Throws Fault `directory-not-found`, or of kind verification when there is more than a version may hold.
 */
export async function filesIn(dir: string): Promise<VersionFiles> {
  const root = resolve(dir)
  const sizes = await listFiles(root)
  const total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0)
  if (sizes.size > MAX_FILES || total > MAX_VERSION_BYTES) {
    throw new Fault({
      kind: 'verification',
      type: 'too-large',
      bytes: total,
      limitBytes: MAX_VERSION_BYTES,
      message: `${dir} holds ${sizes.size} files of ${total} bytes, expected at most ${MAX_FILES} files of ${MAX_VERSION_BYTES} bytes`,
      hint: 'keep only what a version needs in it: model, manifest, card, labels, sample/ and eval/',
    })
  }
  return {
    paths: async () => [...sizes.keys()],
    async read(path) {
      if (!sizes.has(path))
        throw new Fault({
          kind: 'not-found',
          type: 'file-not-found',
          path,
          message: `no file ${path} in ${dir}`,
          hint: 'put it there, and run mlstore check again',
        })
      return readFile(join(root, path))
    },
  }
}

/**
 * Writes files into a new directory: beside it first, renamed when whole, so that nothing half-written stays.
 * Throws Fault `directory-exists` (usage) when something is there already.
 */
export async function writeDirectory(
  dir: string,
  files: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const target = resolve(dir)
  await requireAbsent(target)
  await mkdir(dirname(target), { recursive: true })
  const beside = await mkdtemp(join(dirname(target), '.mlstore-'))
  try {
    for (const [path, bytes] of files) {
      await mkdir(dirname(join(beside, path)), { recursive: true })
      await writeFlushed(join(beside, path), bytes)
    }
    await rmdir(target).catch(() => undefined)
    await rename(beside, target)
  } catch (error) {
    await rm(beside, { recursive: true, force: true })
    throw error
  }
}

/** An empty directory may be taken; anything else is the user's. Asked before a download, too. */
export async function requireAbsent(dir: string): Promise<void> {
  const found = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    if (error.code === 'ENOTDIR') return ['a file']
    throw error
  })
  if (found.length === 0) return
  throw new Fault({
    kind: 'usage',
    type: 'directory-exists',
    message: `${dir} is there already with ${found.length} entries, expected a new or empty directory`,
    hint: 'choose another directory with -o',
  })
}

async function writeFlushed(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'w')
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function listFiles(root: string): Promise<Map<string, number>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
      throw new Fault(
        {
          kind: 'not-found',
          type: 'directory-not-found',
          message: `${root} is no directory, expected one with model.json and mlstore.json`,
          hint: 'check the path, or get a version with mlstore pull MODEL -o DIR',
        },
        error,
      )
    },
  )
  const sizes = new Map<string, number>()
  for (const entry of entries) {
    const path = relative(root, join(entry.parentPath, entry.name)).replaceAll('\\', '/')
    if (!entry.isFile() || path.split('/').some((part) => part.startsWith('.'))) continue
    sizes.set(path, (await stat(join(root, path))).size)
  }
  return new Map([...sizes].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
