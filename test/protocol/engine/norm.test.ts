import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bothSimd, engineFor, expectAgreement, graphOf } from '../../support/engine.ts'

const batches = fc.integer({ min: 1, max: 33 })
const channels = fc.integer({ min: 1, max: 21 })
const steps = fc.integer({ min: 1, max: 9 })
const seeds = fc.nat(9999)
const flags = fc.boolean()

describe('BatchNormalization', () => {
  const graph = (shape: number[], center: boolean, scale: boolean) =>
    graphOf(shape, [{ layer: 'BatchNormalization', config: { center, scale } }])

  test('agrees in training, gradients through its statistics included', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([batches, steps, channels, flags, flags, seeds] as const),
        (batch, length, width, center, scale, seed) =>
          expectAgreement(graph([length, width], center, scale), { batch, seed }),
      ),
      { numRuns: 25, seed: 1 },
    )
  })

  test('agrees beyond one chunk of rows, far from zero', async () => {
    const layers = [{ layer: 'BatchNormalization' }]
    await expectAgreement(graphOf([13, 7, 5], layers), {
      batch: 17,
      input: (random) => 30 + random(),
    })
  })

  test('agrees without training, by its moving statistics', async () => {
    for (const width of [1, 4, 7, 16])
      await expectAgreement(graph([3, width], true, true), { batch: 5, training: false })
  })
})

test('the moving statistics follow the batch, in the params; their gradient stays nothing', async () => {
  const config = { momentum: 0.75, scale: false, center: false }
  const graph = graphOf([2], [{ layer: 'BatchNormalization', config }])
  for (const simd of bothSimd) {
    const engine = await engineFor(graph, 2, simd)
    const [params, gradient] = [engine.floats(4), engine.floats(4)]
    params.set([8, 4, 1, 2]) // two means, two variances
    const at = { params: engine.addressOf(params), gradient: engine.addressOf(gradient) }
    const program = engine.program({ batch: 2, training: true, ...at })
    engine.floatsAt(program.plan.input, 4).set([1, 10, 3, 20]) // means 2 and 15, variances 1 and 25
    program.forward()
    program.loss()
    program.backward()
    expect([...params]).toEqual([6.5, 6.75, 1, 7.75])
    expect([...gradient]).toEqual([0, 0, 0, 0])
  }
})

test('LayerNormalization agrees at any width, with and without gamma and beta', async () => {
  await fc.assert(
    fc.asyncProperty(
      ...([batches, steps, fc.integer({ min: 2, max: 37 })] as const),
      ...([flags, flags, seeds] as const),
      (batch, length, width, center, scale, seed) =>
        expectAgreement(
          graphOf([length, width], [{ layer: 'LayerNormalization', config: { center, scale } }]),
          { batch, seed },
        ),
    ),
    { numRuns: 30, seed: 1 },
  )
})
