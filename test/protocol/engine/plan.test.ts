import { describe, expect, test } from 'vitest'
import type { Graph } from '../../../protocol/engine/graph.ts'
import { compile } from '../../../protocol/engine/plan.ts'
import { graphOf, type LayerSpec } from '../../support/engine.ts'

const BASE = 65_536
const PARAMS = 8192
const GRADIENT = 16_384
const FROZEN = 32_768
const options = { batch: 4, params: PARAMS, gradient: GRADIENT, base: BASE, control: 4096 }
const training = { ...options, training: true }
const dense: LayerSpec = { layer: 'Dense', config: { units: 3, activation: 'relu' } }

describe('a plan', () => {
  const graph = graphOf([5], [dense, dense])

  test('computes no gradient of the input unless asked for', () => {
    const gemms = (input: boolean) =>
      compile(graph, { ...training, inputGradient: input }).backward.filter(
        ({ kernel }) => kernel === 'gemm',
      )
    expect(gemms(false).length).toBe(3)
    expect(gemms(true).length).toBe(4)
  })

  test('computes no gradient of frozen weights, nor of what lies before them', () => {
    const partly = graphOf([5], [{ ...dense, frozen: true }, dense])
    const { backward } = compile(partly, { ...training, frozen: FROZEN })
    expect(backward.map(({ kernel }) => kernel)).toEqual(['activationBiasGradient', 'gemm'])
  })

  test('writes each weight gradient once', () => {
    const written = targetsOf(graph)
    expect(written.length).toBe(4)
    expect(new Set(written).size).toBe(4)
  })

  test('shares the place of a view with its input, in both directions', () => {
    const placesOf = (layers: LayerSpec[]) => compile(graphOf([5, 2], layers), training)
    const [flat, straight] = [placesOf([dense, { layer: 'Flatten' }]), placesOf([dense])]
    expect(flat.forward).toEqual(straight.forward)
    expect(flat.backward).toEqual(straight.backward)
    expect(flat.end).toBe(straight.end)
  })

  test('takes less memory without training, and for a smaller batch', () => {
    const end = (changes: object) => compile(graph, { ...training, ...changes }).end
    expect(end({ training: false })).toBeLessThan(end({}))
    expect(end({ batch: 3 })).toBeLessThanOrEqual(end({}))
  })

  test('has a place for the gradient of the logits also where nothing is trained', () => {
    const nothing = graphOf([5], [{ layer: 'Flatten' }])
    expect(compile(nothing, training).logitsGradient).toBeGreaterThan(BASE)
  })
})

/** The addresses within the gradient that backward calls are given. */
function targetsOf(graph: Graph): number[] {
  return compile(graph, training)
    .backward.flatMap(({ args }) => args)
    .filter((address) => address >= GRADIENT && address < BASE)
}
