import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { checkpointFile } from '../../node/checkpoint.ts'

let root = ''
let dir = ''
let count = 0
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mlstore-checkpoint-'))
})
beforeEach(() => {
  dir = join(root, String(count++))
})
afterAll(() => rm(root, { recursive: true }))

const bytes = (text: string) => new TextEncoder().encode(text)

async function generations(path: string): Promise<string[]> {
  const found = []
  for await (const generation of checkpointFile(path).read())
    found.push(new TextDecoder().decode(generation))
  return found
}

describe('a checkpoint file', () => {
  test('has no generation before the first write, one after it, then the last two, newest first', async () => {
    const path = join(dir, 'deep', 'digits')
    const file = checkpointFile(path)
    expect(await generations(path)).toEqual([])
    await file.write([bytes('one '), bytes('two')])
    expect(await generations(path)).toEqual(['one two'])
    await file.write([bytes('second')])
    await file.write([bytes('third')])
    expect(await generations(path)).toEqual(['third', 'second'])
    expect((await readdir(join(dir, 'deep'))).sort()).toEqual(['digits', 'digits.old'])
  })

  test('is readable by its owner alone', async () => {
    const path = join(dir, 'digits')
    await checkpointFile(path).write([bytes('x')])
    const { mode } = await import('node:fs').then(({ statSync }) => statSync(path))
    expect(mode & 0o077).toBe(0)
  })

  test('after a crash between the two renames still gives the older generation', async () => {
    const path = join(dir, 'digits')
    await checkpointFile(path).write([bytes('older')])
    await writeFile(`${path}.new`, 'half')
    const { rename } = await import('node:fs/promises')
    await rename(path, `${path}.old`)
    expect(await generations(path)).toEqual(['older'])
    await checkpointFile(path).write([bytes('next')])
    expect(await generations(path)).toEqual(['next', 'older'])
  })

  // Linux has a device that is always full: the same ENOSPC a full disk gives, at the write.
  test.runIf(process.platform === 'linux')(
    'on a full disk throws Fault disk-full and harms nothing',
    async () => {
      const path = join(dir, 'digits')
      await checkpointFile(path).write([bytes('one')])
      await checkpointFile(path).write([bytes('two')])
      const { symlink } = await import('node:fs/promises')
      await symlink('/dev/full', `${path}.new`)
      const thrown = await checkpointFile(path)
        .write([bytes('three')])
        .catch((error) => error)
      expect(thrown.detail).toMatchObject({ kind: 'resource', type: 'disk-full' })
      expect(thrown.exitCode).toBe(8)
      expect(await generations(path)).toEqual(['two', 'one'])
      expect((await readdir(dir)).sort()).toEqual(['digits', 'digits.old'])
    },
  )

  test('where it may not write throws Fault resource', async () => {
    await checkpointFile(join(dir, 'file')).write([bytes('x')])
    const path = join(dir, 'file', 'below-a-file')
    const thrown = await checkpointFile(path)
      .write([bytes('x')])
      .catch((error) => error)
    expect(thrown.detail).toMatchObject({ kind: 'resource', type: 'cannot-write' })
    expect(await readFile(join(dir, 'file'), 'utf8')).toBe('x')
  })
})
