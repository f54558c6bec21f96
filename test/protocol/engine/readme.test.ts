import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build } from 'vite'
import { expect, test } from 'vitest'
import { withoutReferences } from '../../../browser/vite.config.ts'
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

test('the engine adds 40 KB to a page at most, compressed: its JavaScript and the one binary that is fetched', async () => {
  const script = gzipSync(await bundled('engine'))
  for (const simd of bothSimd)
    expect(gzipSync(binaries[simd]).length + script.length).toBeLessThanOrEqual(40_000)
})

test('more than one thread adds the helper, compressed 20 KB at most', async () => {
  expect(gzipSync(await bundled('helper')).length).toBeLessThanOrEqual(20_000)
})

/** What a page asks of the engine, beside its kernels; and what a helper's worker does. */
const entries = {
  engine: ['engine', 'cut', 'layers/table', 'optimizer', 'part', 'space', 'team', 'work'],
  helper: ['helper'],
}

/** As the page's build bundles it. */
async function bundled(entry: keyof typeof entries): Promise<string> {
  const from = join(root, 'protocol/engine')
  const source = entries[entry].map((name) => `export * from '${from}/${name}.ts'`).join('\n')
  const built = await build({
    ...{ configFile: false, logLevel: 'silent', root },
    build: {
      ...{ write: false, target: 'es2024' },
      rolldownOptions: { input: 'entry', preserveEntrySignatures: 'strict' },
    },
    plugins: [
      withoutReferences(),
      {
        name: 'entry',
        resolveId: (id) => (id === 'entry' ? id : undefined),
        load: (id) => (id === 'entry' ? source : undefined),
      },
    ],
  })
  const { output } = built as { output: { code: string }[] }
  expect(output.length).toBe(1)
  return output[0]!.code
}
