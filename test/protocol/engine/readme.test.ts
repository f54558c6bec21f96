import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { layers, trainedBy } from '../../../protocol/engine/layers/table.ts'
import { binaries, bothSimd } from '../../support/engine.ts'
import { root } from '../../support/sources.ts'

const readme = readFileSync(join(root, 'protocol/engine/README.md'), 'utf8')

/** What the README says of each layer. */
const rows = Object.keys(layers).map((name) => `| ${name} | ${trainedBy(name)} |`)

test('the README lists every layer and what trains it', () => {
  const listed = readme.split('\n').filter((line) => / \| (planned|TensorFlow\.js) \|$/.test(line))
  expect(listed).toEqual(rows)
})

test('every planned layer has a reference', () => {
  for (const { plan, reference } of Object.values(layers))
    expect(reference !== undefined).toBe(plan !== undefined)
})

test('a binary is small enough for a page: 40 KB compressed at most', () => {
  for (const simd of bothSimd)
    expect(gzipSync(binaries[simd] as Buffer).length).toBeLessThanOrEqual(40_000)
})
