/** The path of a user's data, looked at before anything is loaded that reads it. */
import { stat } from 'node:fs/promises'
import { Fault } from '../protocol/errors.ts'

/** What is at a path. Throws Faults of kind data: `no-such-data` where nothing is, `unreadable` where that cannot be told. */
export async function kindOf(path: string): Promise<'folder' | 'file'> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file'
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw unreadable(path, error as Error)
    throw new Fault(
      {
        kind: 'data',
        type: 'no-such-data',
        path,
        message: `${path} does not exist, expected a folder with one folder per label, or a CSV file`,
        hint: 'check --data',
      },
      error,
    )
  }
}

/** What the system says of a file or folder that is there, as a Fault of kind data. */
export function unreadable(path: string, error: Error): Fault {
  return new Fault(
    {
      kind: 'data',
      type: 'unreadable',
      path,
      message: `${path} cannot be read: ${error.message}`,
      hint: 'check the path and who may read it',
    },
    error,
  )
}
