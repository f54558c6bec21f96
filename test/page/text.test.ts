import { globSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { text } from '../../browser/text.ts'

/** Types of faults in `protocol/` whose next step is an option or a command of the command line, each once. */
function typesForTheCommandLine(): string[] {
  const sources = globSync('protocol/**/*.ts').map((path) => readFileSync(path, 'utf8'))
  const faults = sources.flatMap((source) => [
    ...source.matchAll(
      /(?:type: |tooMuch\()'([a-z-]+)'(?:(?!type: )[\s\S])*?hint:\s*([`'"])(.*?)\2/g,
    ),
  ])
  const types = faults.filter(([, , , hint]) => /--[a-z]|mlstore /.test(hint!))
  return [...new Set(types.map(([, type]) => type!))]
}

test('what the command line would do next has another next step on the page', () => {
  const types = typesForTheCommandLine()
  expect(types).toEqual(expect.arrayContaining(['no-network', 'artifact-not-found']))
  expect(types.filter((type) => text.fault.hints[type] === undefined)).toEqual([])
  for (const hint of Object.values(text.fault.hints)) expect(hint).not.toMatch(/--[a-z]|mlstore/)
})
