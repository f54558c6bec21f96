import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../../support/sources.ts'

const file = join(root, 'protocol/ports/runtime.js')

/** What it says, and its exit code, where Node were of that version. */
function checkedAs(version: string): Promise<{ code: number; stderr: string }> {
  const fake = `Object.defineProperty(process,'versions',{value:{...process.versions,node:'${version}'}})`
  const args = ['--import', `data:text/javascript,${fake}`, file]
  return new Promise((resolve) => {
    execFile(process.execPath, args, (error, _, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stderr }),
    )
  })
}

test.each(['20.19.2', '22.18.9'])(
  'Node %s is refused in one line that says what to do',
  async (version) => {
    const { code, stderr } = await checkedAs(version)
    expect(stderr).toBe(
      `ml-store: this is Node ${version}, and ml-store needs Node 22.19 or newer. On Linux (x64, arm64) a clone brings its own: ` +
        'run "npm ci", then "npm start" or "npx mlstore". Elsewhere install Node 24 and try again.\n',
    )
    expect(code).toBe(1)
  },
)

test.each(['22.19.0', '24.0.0'])('Node %s is taken without a word', async (version) => {
  expect(await checkedAs(version)).toEqual({ code: 0, stderr: '' })
})

test('every npm script installs what is missing and checks the Node it runs on, before anything else', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const { prepack, ...ours } = scripts as Record<string, string>
  expect(prepack).toMatch(/^node protocol\/ports\/runtime\.js && /)
  const start =
    '[ -e node_modules/.package-lock.json ] || npm ci && node protocol/ports/runtime.js && '
  expect(Object.entries(ours).filter(([, command]) => !command.startsWith(start))).toEqual([])
})
