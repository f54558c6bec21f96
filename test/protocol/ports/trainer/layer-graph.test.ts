import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { createTrainer } from '../../../../node/trainer.ts'
import { Fault } from '../../../../protocol/errors.ts'
import { sizeOf } from '../../../../protocol/params.ts'
import { normal, randomFrom } from '../../../../protocol/random.ts'
import { expectNear } from '../../../support/engine.ts'
import { mixerJson, paramsOf, topologyOf, transformerJson } from '../../../support/models.ts'

/** A layer of a functional model.json, reading one output of each of `from`. */
const layer = (class_name: string, name: string, config: object, from: string[]) => ({
  class_name,
  name,
  config: { name, ...config },
  inbound_nodes: from.length === 0 ? [] : [from.map((other) => [other, 0, 0, {}] as unknown[])],
})
const input = layer('InputLayer', 'in', { batch_input_shape: [null, 4], dtype: 'float32' }, [])
const dense = (name: string, units: number, from: string, activation = 'linear') =>
  layer('Dense', name, { units, activation, use_bias: false }, [from])
const left = dense('left', 3, 'in', 'relu')
const right = dense('right', 3, 'in', 'tanh')
const sum = layer('Add', 'sum', {}, ['left', 'right'])
const out = dense('out', 2, 'sum', 'softmax')
const weights = { left: [4, 3], right: [4, 3], out: [3, 2] }

/** Two branches that meet, with some of it changed. */
function branching(changes: object = {}, layers: object[] = [input, left, right, sum, out]) {
  return JSON.stringify({
    modelTopology: {
      class_name: 'Model',
      config: {
        ...{ name: 'm', layers, input_layers: [['in', 0, 0]], output_layers: [['out', 0, 0]] },
        ...changes,
      },
    },
    weightsManifest: [
      {
        paths: ['group1-shard1of1.bin'],
        weights: Object.entries(weights).map(([name, shape]) => ({
          ...{ name: `${name}/kernel`, shape, dtype: 'float32' },
        })),
      },
    ],
  })
}

describe('a functional model', () => {
  test('becomes layers that say what they read, and comes back from its clean copy as it was', () => {
    const topology = topologyOf(branching())
    expect(topology.layers.map(({ name, inputs }) => `${name} ${inputs}`)).toEqual([
      'in ',
      'left 0',
      'right 0',
      'sum 1,2',
      'out 3',
    ])
    expect(topology.tensors.map(({ name }) => name)).toEqual([
      'left/kernel',
      'right/kernel',
      'out/kernel',
    ])
    expect(topology).toMatchObject({ inputShape: [4], outputUnits: 2, outputActivation: 'softmax' })
    expect(topologyOf(topology.cleanModelJson)).toEqual(topology)
  })

  test('may list its layers in any order', () => {
    const { layers } = topologyOf(branching({}, [out, sum, left, input, right]))
    expect(layers.map(({ name }) => name)).toEqual(['in', 'left', 'right', 'sum', 'out'])
  })

  test('may name one input and one output without a list around them', () => {
    const bare = { input_layers: ['in', 0, 0], output_layers: ['out', 0, 0] }
    expect(topologyOf(branching(bare))).toEqual(topologyOf(branching()))
  })

  test('has attention with inputs by keyword, or one after another', () => {
    const json = transformerJson(5, 7, 3)
    const attention = topologyOf(json).layers.find(
      ({ className }) => className === 'MultiHeadAttention',
    )!
    expect(attention.inputs).toEqual([4, 4])
    expect(json).toContain('{"value":["layer4",0,0]}')
    const [first] = ['[["layer4",0,0,{"value":["layer4",0,0]}]]']
    expect(json).toContain(first)
    const listed = json.replace(first!, '[["layer4",0,0,{}],["layer4",0,0,{}]]')
    expect(topologyOf(listed)).toEqual(topologyOf(json))
  })

  test.each([
    ['a transformer', transformerJson(6, 9, 3)],
    ['a mixer', mixerJson(3, 4, 5)],
  ])('is the same after its clean copy was read: %s', (_, json) => {
    expect(topologyOf(topologyOf(json).cleanModelJson)).toEqual(topologyOf(json))
  })
})

describe('a functional model is refused, with its layer and what is wrong:', () => {
  const twice = { ...sum, inbound_nodes: [...sum.inbound_nodes, ...sum.inbound_nodes] }
  const reading = (nodes: unknown) => ({ ...out, inbound_nodes: nodes })
  const cases: [name: string, json: string, says: RegExp][] = [
    [
      'two inputs',
      branching({ input_layers: [['in', 0, 0], ['in', 0, 0]] }), // biome-ignore format: a row
      /input_layers is 2 layers, expected 1/,
    ],
    ['no input', branching({ input_layers: [] }), /input_layers is 0 layers, expected 1/],
    ['no list of inputs', branching({ input_layers: undefined }), /input_layers is missing/],
    ['an input that is no layer', branching({ input_layers: [['x', 0, 0]] }), /is "x", expected/],
    [
      'an input that reads something',
      branching({ input_layers: [['left', 0, 0]] }),
      /input_layers is .*left.*, expected the one InputLayer/,
    ],
    [
      'an output nobody has',
      branching({ output_layers: [['x', 0, 0]] }),
      /output_layers is "x", expected one of the layers/,
    ],
    [
      'a layer that leads nowhere',
      branching({ output_layers: [['left', 0, 0]] }),
      /layer 4 out \(Dense\) output is read by nobody, expected a way to left/,
    ],
    [
      'a layer that is used twice',
      branching({}, [input, left, right, twice, out]),
      /layer 3 sum \(Add\) inbound_nodes is 2 nodes, expected 1: a layer is used once/,
    ],
    [
      'a second output of a layer',
      branching({}, [input, left, right, sum, reading([[['sum', 0, 1, {}]]])]),
      /layer 4 out \(Dense\) inbound_nodes is \["sum",0,1,\{\}\]/,
    ],
    [
      'a layer without what it reads',
      branching({}, [input, left, right, sum, reading([])]),
      /layer 4 out \(Dense\) inbound_nodes is 0 nodes/,
    ],
    [
      'a stranger',
      branching({}, [input, left, right, sum, reading([[['nobody', 0, 0, {}]]])]),
      /layer 4 out \(Dense\) inbound_nodes is "nobody", expected one of the layers/,
    ],
    [
      'a circle',
      branching({}, [input, left, dense('right', 3, 'sum'), sum, out]),
      /layer 2 right \(Dense\) inbound_nodes is a circle/,
    ],
    [
      'a layer that reads itself',
      branching({}, [input, left, dense('right', 3, 'right'), sum, out]),
      /layer 2 right \(Dense\) inbound_nodes is a circle/,
    ],
    [
      'one input of a merge',
      branching({}, [input, left, dense('right', 3, 'left'), layer('Add', 'sum', {}, ['right']), out]), // biome-ignore format: a row
      /layer 3 sum \(Add\) inputs is 1, expected 2 to 64/,
    ],
    [
      'two inputs of a Dense',
      branching({}, [input, left, right, layer('Dense', 'out', { units: 2 }, ['left', 'right'])]),
      /layer 3 out \(Dense\) inputs is 2, expected 1/,
    ],
    [
      'a merge of two shapes',
      branching({}, [input, left, dense('right', 2, 'in'), sum, out]),
      /layer 3 sum \(Add\) input is \[2\], expected \[3\], the first one's shape/,
    ],
    [
      'a mask',
      branching({}, [input, left, right, sum, reading([[['sum', 0, 0, { mask: ['in', 0, 0] }]]])]),
      /layer 4 out \(Dense\) inbound_nodes mask is \["in",0,0\], expected no such argument/,
    ],
    [
      'a layer that is told not to train',
      branching({}, [input, left, right, sum, reading([[['sum', 0, 0, { training: false }]]])]),
      /layer 4 out \(Dense\) inbound_nodes training is false/,
    ],
    [
      '100 inputs',
      branching({}, [input, left, right, layer('Add', 'sum', {}, Array(100).fill('left')), out]),
      /layer 3 sum \(Add\) inbound_nodes is .*, expected a list of 1 to 64 inputs/,
    ],
    [
      'inbound nodes that are no list',
      branching({}, [input, left, right, sum, reading('sum')]),
      /layer 4 out \(Dense\) inbound_nodes is "sum", expected a list/,
    ],
    [
      'two names',
      branching({}, [input, left, right, sum, { ...out, name: 'other' }]),
      /layer 4 name is "other", expected out, as in its config/,
    ],
    [
      'another model inside',
      branching({}, [input, left, right, sum, { ...out, class_name: 'Functional' }]),
      /layer 4 out is a "Functional", expected one of/,
    ],
  ]
  test.each(cases)('%s', (_, json, says) => {
    const fault = faultOf(() => topologyOf(json))
    expect(fault.detail.kind).toBe('verification')
    expect(fault.message).toMatch(says)
  })
})

test('a functional model that tfjs-layers wrote is read, and gives what tfjs-layers gives', async () => {
  await tf.setBackend('cpu')
  const x = tfl.input({ shape: [4, 6] })
  const a = tfl.layers.dense({ units: 5, activation: 'relu' }).apply(x) as tfl.SymbolicTensor
  const b = tfl.layers.dense({ units: 5, activation: 'tanh' }).apply(x) as tfl.SymbolicTensor
  const merged = [tfl.layers.add(), tfl.layers.multiply(), tfl.layers.average()].map(
    (merge) => merge.apply([a, b]) as tfl.SymbolicTensor,
  )
  const joined = tfl.layers.concatenate({ axis: -1 }).apply(merged) as tfl.SymbolicTensor
  const turned = tfl.layers.permute({ dims: [2, 1] }).apply(joined) as tfl.SymbolicTensor
  const flat = tfl.layers.flatten().apply(turned)
  const y = tfl.layers.dense({ units: 3, activation: 'softmax' }).apply(flat) as tfl.SymbolicTensor
  const model = tfl.model({ inputs: x, outputs: y })
  let json = ''
  await model.save({
    async save({ modelTopology, weightSpecs }) {
      const weightsManifest = [{ paths: ['weights.bin'], weights: weightSpecs }]
      json = JSON.stringify({ modelTopology, weightsManifest })
      return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } }
    },
  })
  const params = Float32Array.from(model.getWeights().flatMap((tensor) => [...tensor.dataSync()]))
  const random = randomFrom(1)
  const inputs = Float32Array.from({ length: 7 * 24 }, () => normal(random))
  const wanted = (model.predict(tf.tensor(inputs, [7, 4, 6])) as tf.Tensor).dataSync()
  for (const backend of ['engine', 'cpu'] as const) {
    const trainer = await createTrainer(json, { backend, batchSize: 4 })
    expect(sizeOf(trainer.tensors)).toBe(params.length)
    trainer.load(params)
    expectNear(backend, trainer.predict(inputs, 7), wanted, 1e-5)
    trainer.close()
  }
  const written = JSON.parse(topologyOf(json).cleanModelJson)
  const again = await tfl.loadLayersModel({
    load: async () => ({
      modelTopology: written.modelTopology,
      weightSpecs: written.weightsManifest[0].weights,
      weightData: params.buffer,
    }),
  })
  expectNear('the clean copy', (again.predict(tf.tensor(inputs, [7, 4, 6])) as tf.Tensor).dataSync(), wanted, 1e-6) // biome-ignore format: a row
})

test('the fallback has the gradient of the engine where layers branch', async () => {
  const topology = topologyOf(branching())
  const random = randomFrom(2)
  const batch = {
    inputs: Float32Array.from({ length: 8 * 4 }, () => normal(random)),
    labels: Int32Array.from({ length: 8 }, (_, i) => i % 2),
    ...{ size: 8, seed: 1 },
  }
  const params = paramsOf(topology)
  const [engine, cpu] = await Promise.all(
    (['engine', 'cpu'] as const).map(async (backend) => {
      const trainer = await createTrainer(branching(), { backend, batchSize: 8 })
      const gradient = new Float32Array(params.length)
      const loss = trainer.gradientInto(gradient, params, batch)
      trainer.close()
      return { loss, gradient }
    }),
  )
  expect(engine!.loss).toBeCloseTo(cpu!.loss, 5)
  expectNear('gradient', engine!.gradient, cpu!.gradient, 1e-5)
})

function faultOf(work: () => unknown): Fault {
  try {
    work()
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
  throw new Error('expected a Fault, got none')
}
