import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { compile } from '../../../protocol/engine/plan.ts'
import {
  bothSimd,
  engineFor,
  expectAgreement,
  graphOf,
  type LayerSpec,
} from '../../support/engine.ts'

const layer = (name: string, config: Config = {}): LayerSpec => ({ layer: name, config })
const frozen = (name: string, config: Config = {}): LayerSpec => ({
  ...layer(name, config),
  frozen: true,
})
const dense = { units: 5, activation: 'tanh' }

/** Little models in which some layers are frozen: before, behind and between those that learn. */
const models: Record<string, { shape: number[]; layers: LayerSpec[] }> = {
  'a frozen start': { shape: [4], layers: [frozen('Dense', dense), layer('Dense', dense)] },
  'a frozen end': { shape: [4], layers: [layer('Dense', dense), frozen('Dense', dense)] },
  'BatchNorm between layers that learn': {
    shape: [3, 4],
    layers: [layer('Dense', dense), frozen('BatchNormalization'), layer('Dense', dense)],
  },
  'BatchNorm without gamma, first': {
    shape: [6],
    layers: [frozen('BatchNormalization', { scale: false }), layer('Dense', dense)],
  },
  'BatchNorm without beta, last': {
    shape: [6],
    layers: [layer('Dense', dense), frozen('BatchNormalization', { center: false })],
  },
  'a branch': {
    shape: [4],
    layers: [
      frozen('Dense', dense),
      { ...layer('Dense', dense), inputs: [0] },
      { layer: 'Add', inputs: [1, 2] },
      layer('Dense', dense),
    ],
  },
  'frozen attention': {
    shape: [3, 4],
    layers: [
      layer('Dense', { units: 4 }),
      { ...frozen('MultiHeadAttention', { num_heads: 2, key_dim: 3 }), inputs: [1, 1] },
      layer('LayerNormalization'),
    ],
  },
  'a frozen LSTM': {
    shape: [3, 4],
    layers: [layer('Dense', dense), frozen('LSTM', { units: 3 }), layer('Dense', dense)],
  },
  'a frozen convolution': {
    shape: [5, 5, 2],
    layers: [
      layer('Conv2D', { filters: 2, kernel_size: 1 }),
      frozen('Conv2D', { filters: 3, kernel_size: 3, activation: 'relu' }),
      layer('Conv2D', { filters: 2, kernel_size: 2 }),
    ],
  },
}

describe('frozen layers', () => {
  test.each(Object.entries(models))('agree with the tape: %s', async (_, { shape, layers }) => {
    const graph = graphOf(shape, layers)
    expect(graph.frozen!.length).toBeGreaterThan(0)
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 33 }), fc.nat(9999), (batch, seed) =>
        expectAgreement(graph, { batch, seed }),
      ),
      { numRuns: 6, seed: 1 },
    )
    await expectAgreement(graph, { batch: 3, training: false })
  })

  test('keep every bit of their weights, moving statistics included', async () => {
    const graph = graphOf([4], [frozen('BatchNormalization'), layer('Dense', { units: 3 })])
    for (const simd of bothSimd) {
      const engine = await engineFor(graph, 4, simd)
      expect(engine.frozen.length).toBe(16)
      engine.frozen.set(Array.from({ length: 16 }, (_, i) => 1 + i / 7))
      const before = engine.frozen.slice()
      const [params, gradient] = [engine.floats(engine.size), engine.floats(engine.size)]
      params.fill(0.5)
      const at = { params: engine.addressOf(params), gradient: engine.addressOf(gradient) }
      const { plan, forward, loss, backward } = engine.program({ batch: 4, training: true, ...at })
      engine.floatsAt(plan.input, 16).set(Array.from({ length: 16 }, (_, i) => Math.sin(i)))
      for (let step = 0; step < 3; step++) {
        forward()
        loss()
        backward()
      }
      expect(engine.frozen).toEqual(before)
      expect(gradient.some((value) => value !== 0)).toBe(true)
    }
  })

  test('are not part of the flat arrays: those hold what is swapped alone', async () => {
    const graph = graphOf([4], [frozen('Dense', { units: 1000 }), layer('Dense', { units: 3 })])
    const engine = await engineFor(graph, 4, 'plain')
    expect(engine.size).toBe(3003)
    const arrays = Array.from({ length: 8 }, () => engine.floats(engine.size))
    const { byteOffset, byteLength } = engine.frozen
    for (const array of arrays) {
      if (array.buffer !== engine.frozen.buffer) continue
      expect(array.byteOffset + array.byteLength).toBeLessThanOrEqual(byteOffset)
    }
    const { plan } = engine.program({ batch: 4, training: false, params: 4096, gradient: 0 })
    expect(plan.base).toBeGreaterThanOrEqual(byteOffset + byteLength)
  })

  test('stop the backward pass below the first layer that learns', () => {
    const places = { batch: 4, training: true, params: 8192, gradient: 16_384, frozen: 32_768 }
    const kernels = (layers: LayerSpec[]) =>
      compile(graphOf([5], layers), { ...places, base: 65_536, control: 4096 }).backward.map(
        ({ kernel }) => kernel,
      )
    const head = [layer('Dense', { units: 3 })]
    const deep = [frozen('Dense', dense), frozen('BatchNormalization'), frozen('Dense', dense)]
    expect(kernels([...deep, ...head])).toEqual(kernels(head))
  })
})
