import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { vi } from 'vitest'
import { type CommandSpec, tell } from '../../node/command.ts'
import { createPrint } from '../../node/print.ts'

/** Commands of `mlstore` in this process: as runCommand() runs them, without a second start of everything they load. */
export interface Outcome {
  code: number
  /** Lines of each. */
  stdout: string[]
  stderr: string[]
}

/** Runs it with --json and -q, which leaves one line on stderr for what went wrong and nothing else. */
export async function runHere(
  spec: CommandSpec,
  args: (string | string[])[],
  options: Record<string, unknown> = {},
  { signal }: { signal: AbortSignal } = new AbortController(),
): Promise<Outcome> {
  const said = { stdout: '', stderr: '' }
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      said[name] += String(text)
      return true
    }),
  )
  const print = createPrint({ json: true, quiet: true })
  let code: number
  try {
    const given = { backend: 'auto', swap: true, ...options }
    code = (await spec.run({ args, options: given, print, signal })) ?? 0
  } catch (thrown) {
    code = tell(print, thrown)
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
  return { code, stdout: linesOf(said.stdout), stderr: linesOf(said.stderr) }
}

export function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '')
}

/** Every file below a folder with the hash of its bytes; empty when there is no folder. */
export async function contentsOf(dir: string): Promise<Record<string, string>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => [])
  const contents: Record<string, string> = {}
  for (const entry of entries) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    contents[path] = createHash('sha256')
      .update(await readFile(path))
      .digest('hex')
  }
  return contents
}
