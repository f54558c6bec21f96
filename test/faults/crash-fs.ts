import fs, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'

/**
 * Loaded with --import into a program, its worker threads included: kills the process before the n-th call of the file
 * system about a checkpoint, or in the middle of it where it writes. $MLSTORE_CRASH is n, counted from 1 in each thread;
 * $MLSTORE_CRASH_BY is another signal than SIGKILL, which the process may live through.
 */
const crashAt = Number(process.env.MLSTORE_CRASH)
const signal = process.env.MLSTORE_CRASH_BY ?? 'SIGKILL'
let calls = 0

function crash(): void {
  calls++
  if (calls === crashAt) process.kill(process.pid, signal)
}

function isCheckpoint(path: unknown): boolean {
  return /\/checkpoints(\/|$)/.test(String(path))
}

const { open, rename, mkdir } = fs

fs.open = async (path, ...rest) => {
  if (!isCheckpoint(path)) return open(path, ...rest)
  crash()
  return watched(await open(path, ...rest))
}
fs.rename = async (from, to) => {
  if (isCheckpoint(from)) crash()
  return rename(from, to)
}
fs.mkdir = (async (path: string, options: object) => {
  if (isCheckpoint(path)) crash()
  return mkdir(path, options)
}) as typeof fs.mkdir

function watched(file: FileHandle): FileHandle {
  const write = file.write.bind(file)
  const sync = file.sync.bind(file)
  const close = file.close.bind(file)
  file.write = (async (bytes: Uint8Array, at: number) => {
    calls++
    if (calls !== crashAt) return write(bytes, at)
    // Half of it is out; after a SIGKILL the rest never comes.
    const half = await write(bytes, at, Math.ceil((bytes.length - at) / 2))
    process.kill(process.pid, signal)
    return half
  }) as typeof file.write
  file.sync = () => {
    crash()
    return sync()
  }
  file.close = () => {
    crash()
    return close()
  }
  return file
}

syncBuiltinESMExports()
