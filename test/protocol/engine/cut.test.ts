import { describe, expect, test } from 'vitest'
import { cutOf } from '../../../protocol/engine/cut.ts'
import type { Graph } from '../../../protocol/engine/graph.ts'
import type { Config } from '../../../protocol/engine/layers/rule.ts'
import { normal, randomFrom } from '../../../protocol/random.ts'
import { engineFor, graphOf, type LayerSpec } from '../../support/engine.ts'

const layer = (name: string, config: Config = {}): LayerSpec => ({ layer: name, config })
const held = (name: string, config: Config = {}): LayerSpec => ({ ...layer(name, config), frozen: true }) // biome-ignore format: a row
const dense = { units: 5, activation: 'tanh' }
const names = ({ nodes }: Graph) => nodes.map(({ className }) => className)

describe('a cut', () => {
  test('lies behind the last frozen layer, and what follows it without weights', () => {
    const conv = held('Conv2D', { filters: 3, kernel_size: 3 })
    const layers = [conv, held('BatchNormalization'), layer('Flatten'), layer('Dense', dense)]
    const { start, rest } = cutOf(graphOf([5, 5, 2], layers))!
    expect(names(start)).toEqual(['InputLayer', 'Conv2D', 'BatchNormalization', 'Flatten'])
    expect(names(rest)).toEqual(['InputLayer', 'Dense'])
    expect([start.outputUnits, rest.inputShape]).toEqual([27, [27]])
    expect([start.tensors.length, start.frozen!.length]).toEqual([0, 6])
    expect([rest.tensors.length, rest.frozen!.length]).toEqual([2, 0])
  })

  test('goes through one value: behind a block, not within it', () => {
    const layers: LayerSpec[] = [
      held('Dense', { units: 4 }),
      held('Dense', { units: 4 }),
      { layer: 'Add', inputs: [1, 2] },
      layer('Dense', dense),
      { layer: 'Concatenate', inputs: [3, 4] },
    ]
    expect(names(cutOf(graphOf([4], layers))!.start)).toEqual(['InputLayer', 'Dense', 'Dense', 'Add']) // biome-ignore format: a row
    const around = [...layers.slice(0, 4), { layer: 'Concatenate', inputs: [1, 4] }]
    expect(names(cutOf(graphOf([4], around))!.start)).toEqual(['InputLayer', 'Dense'])
  })

  test('lies before what draws anew in each step', () => {
    const layers = [held('Dense', dense), layer('Dropout', { rate: 0.5 }), layer('Dense', dense)]
    expect(names(cutOf(graphOf([4], layers))!.rest)).toEqual(['InputLayer', 'Dropout', 'Dense'])
  })

  test.each<[name: string, layers: LayerSpec[]]>([
    ['nothing is frozen', [layer('Flatten'), layer('Dense', dense)]],
    ['what is frozen comes later', [layer('Dense', dense), held('Dense', dense), layer('Dense')]],
    [
      'the input goes around it',
      [
        held('Dense', { units: 4 }),
        { layer: 'Add', inputs: [0, 1] },
        { ...layer('Dense', { units: 4 }), inputs: [0] },
        { layer: 'Add', inputs: [2, 3] },
      ],
    ],
    ['dropout comes first', [layer('Dropout', { rate: 0.5 }), held('Dense', dense), layer('Dense', dense)]], // biome-ignore format: a row
  ])('is none where %s', (_, layers) => {
    const [last] = layers.slice(-1)
    const whole = last!.config?.units ? layers : [...layers.slice(0, -1), { ...last!, config: { units: 4 } }] // biome-ignore format: a row
    expect(cutOf(graphOf([4], whole))).toBeUndefined()
  })

  test('gives what the whole gives, to the bit, in training', async () => {
    const layers = [
      ...[held('Conv2D', { filters: 3, kernel_size: 3, activation: 'relu' })],
      ...[held('BatchNormalization'), layer('Flatten'), held('Dense', dense)],
      ...[layer('Dense', dense), held('Dense', dense), layer('Dense', { units: 3 })],
    ]
    const graph = graphOf([5, 5, 2], layers)
    const { start, rest } = cutOf(graph)!
    const random = randomFrom(1)
    const draw = (length: number) => Float32Array.from({ length }, () => 0.5 + 0.1 * normal(random))
    const [input, frozen, params] = [draw(4 * 50), draw(sizeOf(graph.frozen!)), draw(sizeOf(graph.tensors))] // biome-ignore format: a row
    const run = async (part: Graph, values: Float32Array, training: boolean) => {
      const engine = await engineFor(part, 4, 'plain')
      if (engine.frozen.length > 0) engine.frozen.set(frozen)
      const [own, gradient] = [engine.floats(engine.size), engine.floats(engine.size)]
      if (engine.size > 0) own.set(params)
      const at = { params: engine.addressOf(own), gradient: engine.addressOf(gradient) }
      const { plan, forward, loss, backward } = engine.program({ batch: 4, training, ...at })
      engine.floatsAt(plan.input, values.length).set(values)
      engine.labels(4).set([0, 1, 2, 0])
      forward()
      const output = engine.floatsAt(plan.logits, 4 * part.outputUnits).slice()
      if (training) loss()
      backward()
      return { output, gradient: gradient.slice() }
    }
    const features = (await run(start, input, false)).output
    expect(await run(rest, features, true)).toEqual(await run(graph, input, true))
  })
})

const sizeOf = (tensors: readonly { shape: readonly number[] }[]) =>
  tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
