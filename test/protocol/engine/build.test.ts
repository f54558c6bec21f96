import { describe, expect, test } from 'vitest'
import { build } from '../../../protocol/engine/build.ts'
import { bestSimd } from '../../../protocol/engine/engine.ts'
import { binaries, bothSimd } from '../../support/engine.ts'

describe('the binaries under version control', () => {
  test('are what the sources build to, byte for byte: node protocol/engine/build.ts', async () => {
    const built = await build()
    for (const simd of bothSimd)
      expect(Buffer.from(built[simd]).equals(binaries[simd]), simd).toBe(true)
  })

  test('run where they should: the plain one needs no relaxed SIMD', () => {
    for (const simd of bothSimd) expect(WebAssembly.validate(binaries[simd])).toBe(true)
    expect(Buffer.from(binaries.relaxed)).not.toEqual(binaries.plain)
    expect(bestSimd()).toBe('relaxed')
  })
})
