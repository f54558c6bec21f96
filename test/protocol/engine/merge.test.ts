import fc from 'fast-check'
import { describe, test } from 'vitest'
import { expectAgreement, graphOf } from '../../support/engine.ts'

const few = (most: number) => fc.integer({ min: 1, max: most })
const dense = (units: number, from: number) => ({
  ...{ layer: 'Dense', config: { units }, inputs: [from] },
})

describe('layers that merge', () => {
  test('agree over two to four inputs of which one comes twice', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([
          fc.constantFrom('Add', 'Average', 'Multiply', 'Concatenate'),
          few(3),
          few(33),
        ] as const),
        ...([few(5), few(13), fc.nat(9999)] as const),
        (layer, more, batch, length, width, seed) => {
          const sides = Array.from({ length: more }, () => dense(width, 0))
          const inputs = [...sides.map((_, i) => i + 1), 1]
          const graph = graphOf([length, 4], [...sides, { layer, inputs }])
          return expectAgreement(graph, { batch, seed })
        },
      ),
      { numRuns: 30, seed: 1 },
    )
  })

  test('Concatenate agrees along any axis', async () => {
    for (const axis of [1, 2, 3, -1, -2, -3])
      await expectAgreement(
        graphOf(
          [2, 3, 5],
          [dense(5, 0), { layer: 'Concatenate', config: { axis }, inputs: [0, 1] }],
        ),
        { batch: 3 },
      )
  })
})

test('Permute agrees in every order of up to three axes', async () => {
  for (const dims of [[1], [2, 1], [1, 2], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]]) {
    const shape = [5, 6, 9].slice(0, dims.length)
    const graph = graphOf(shape, [dense(shape.at(-1)!, 0), { layer: 'Permute', config: { dims } }])
    await expectAgreement(graph, { batch: 3 })
  }
})

describe('Embedding', () => {
  const graph = (length: number, entries: number, width: number) =>
    graphOf(
      [length],
      [
        { layer: 'Embedding', config: { input_dim: entries, output_dim: width } },
        { layer: 'Dense', config: { units: 2 } },
      ],
    )

  test('agrees, rows that come often and never', async () => {
    await fc.assert(
      fc.asyncProperty(
        ...([few(33), few(9), few(20), few(13), fc.nat(9999)] as const),
        (batch, length, entries, width, seed) =>
          expectAgreement(graph(length, entries, width), {
            ...{ batch, seed },
            input: (random) => Math.floor(entries * random()),
          }),
      ),
      { numRuns: 25, seed: 1 },
    )
  })

  test('takes an index outside the table as its nearest end', async () => {
    const wild = [-1, -1e9, 7, 1e12, Number.POSITIVE_INFINITY, 2.9]
    let next = 0
    await expectAgreement(graph(6, 7, 5), { batch: 2, input: () => wild[next++ % wild.length]! })
  })
})

test('PositionEmbedding agrees, longer than its input too', async () => {
  for (const [steps, more] of [
    [4, 0],
    [3, 5],
  ] as const) {
    const layer = { layer: 'PositionEmbedding', config: { sequence_length: steps + more } }
    await expectAgreement(graphOf([steps, 6], [layer, { layer: 'Add', inputs: [0, 1] }]), {
      batch: 5,
    })
  }
})

test('global average pooling agrees over one and two axes', async () => {
  for (const shape of [
    [7, 5],
    [1, 4],
    [3, 4, 9],
  ]) {
    const layer = { layer: `GlobalAveragePooling${shape.length - 1}D` }
    await expectAgreement(graphOf(shape, [layer]), { batch: 3 })
  }
})
