import { type FileHandle, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Fault } from '../protocol/errors.ts'
import type { CheckpointFile } from '../protocol/ports/trainer/checkpoint.ts'

/**
 * A checkpoint on disk, in two generations: `path` and `path.old`. A crash at any moment leaves one of them whole.
 *
 * A write goes to `path.new` and to the disk, then the newest becomes the older, then the new one takes its place. A failed
 * write takes its `path.new` away and leaves both as they were; a full disk throws Fault `disk-full`.
 */
export function checkpointFile(path: string): CheckpointFile {
  const next = `${path}.new`
  const older = `${path}.old`
  return {
    async *read() {
      for (const name of [path, older]) {
        const bytes = await readFile(name).catch(missing)
        if (bytes) yield bytes
      }
    },

    async write(parts) {
      try {
        await mkdir(dirname(path), { recursive: true })
        await writeThrough(next, parts)
        await rename(path, older).catch(missing)
        await rename(next, path)
        await syncFolder(dirname(path))
      } catch (error) {
        await rm(next, { force: true }).catch(() => {})
        throw cannotWrite(path, error as NodeJS.ErrnoException)
      }
    },
  }
}

/** Only what the disk has is worth a rename. */
async function writeThrough(path: string, parts: readonly Uint8Array[]): Promise<void> {
  const file = await open(path, 'w', 0o600)
  try {
    for (const part of parts) await writeAll(file, part)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function writeAll(file: FileHandle, part: Uint8Array): Promise<void> {
  for (let at = 0; at < part.length; ) {
    const { bytesWritten } = await file.write(part, at)
    at += bytesWritten
  }
}

/** Makes the renames last; Windows cannot open a folder and needs no such thing. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

function cannotWrite(path: string, error: NodeJS.ErrnoException): Fault {
  const full = error.code === 'ENOSPC' || error.code === 'EDQUOT'
  return new Fault(
    {
      kind: 'resource',
      type: full ? 'disk-full' : 'cannot-write',
      path,
      message: full
        ? `disk full: no space left for the checkpoint ${path}`
        : `the checkpoint ${path} cannot be written: ${error.message}`,
      hint: full
        ? 'free some space, or choose another --home; the checkpoint before is unharmed'
        : 'check the permissions of the home',
    },
    error,
  )
}
