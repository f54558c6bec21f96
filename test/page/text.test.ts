import { expect, test } from 'vitest'
import { text } from '../../browser/text.ts'
import { pageFault, wordsOf, wordsOfRemark } from '../../browser/words.ts'
import { faultFrom } from '../../protocol/errors.ts'
import { faultsIn } from '../support/made-faults.ts'
import { readSources, type Source } from '../support/sources.ts'

/** What a browser may load, from the page's first script and those of its threads on. */
const entries = ['browser/main.ts', 'browser/worker.ts', 'browser/helper.ts']
const byPath = new Map(readSources().map((source) => [source.path, source]))

function reachedFrom(paths: readonly string[]): Source[] {
  const reached = new Set<Source>()
  const visit = (path: string) => {
    const source = byPath.get(path)
    if (!source || reached.has(source)) return
    reached.add(source)
    for (const { target, typeOnly } of source.imports) if (!typeOnly) visit(target)
  }
  paths.forEach(visit)
  return [...reached]
}

function scriptOf({ path, text }: Source): string {
  if (!path.endsWith('.vue')) return text
  return /<script setup lang="ts">([\s\S]*?)<\/script>/.exec(text)![1]!
}

/** But the catalogue itself: a whole fault that stands there is said by it. */
const sources = reachedFrom(entries).filter(
  ({ path, text }) => path !== 'browser/text.ts' && /\bhint\b|pageFault/.test(text),
)
const made = sources.flatMap((source) => faultsIn(scriptOf(source)))

test('every fault that code of the page can make has its sentence in the catalogue, and no other has one', () => {
  expect([...new Set(made.map(({ type }) => type))].sort()).toEqual(
    Object.keys(text.faults)
      .filter((type) => type !== 'unexpected')
      .sort(),
  )
})

test('no fault has a next step at the page that is one of the command line', () => {
  const steps = made.filter(({ maker }) => /hint\b[\s\S]*(--[a-z]|mlstore )/.test(maker))
  const types = [...new Set(steps.map(({ type }) => type))]
  expect(types).toEqual(expect.arrayContaining(['no-network', 'artifact-not-found', 'wrong-hash']))
  const own = { kind: 'data', message: 'it is so', hint: 'run mlstore' } as const
  expect(types.filter((type) => wordsOf({ ...own, type }).hint === own.hint)).toEqual([])
})

test('a fault of the page says its facts, and carries them', () => {
  const { detail } = pageFault('network', 'unreachable', {
    address: '/ip4/192.0.2.1',
    waitedMs: 8_000,
  })
  expect(detail).toMatchObject({ address: '/ip4/192.0.2.1', waitedMs: 8_000 })
  expect(detail.message).toBe('nobody answered at /ip4/192.0.2.1 within 8 s')
  expect(wordsOf(detail)).toEqual({ message: detail.message, hint: detail.hint })
})

test('a fault of a type that this page does not know is said in its own words', () => {
  const later = {
    kind: 'data',
    type: 'of-a-later-version',
    message: 'it is so',
    hint: 'do so',
  } as const
  expect(wordsOf(later)).toMatchObject({ message: 'it is so', hint: 'do so' })
  const unforeseen = faultFrom(new Error('boom')).detail
  expect(wordsOf(unforeseen)).toMatchObject({
    message: 'boom',
    hint: expect.stringMatching(/reload/),
  })
})

test('a remark of a trainer is a sentence by its name, and one that nobody knows stays as it came', () => {
  const said = 'the features of 1,000 examples are computed before the first round, in about 2 s'
  expect(wordsOfRemark(said)).toBe(`T${said.slice(1)}.`)
  expect(wordsOfRemark('the fan is loud')).toBe('The fan is loud.')
})
