import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Fault } from '../../../../protocol/errors.ts'
import { MAX_MODEL_JSON_BYTES } from '../../../../protocol/ports/trainer/model-json.ts'
import {
  frozenLayersOf,
  readTopology,
  tensorsOf,
} from '../../../../protocol/ports/trainer/topology.ts'
import { denseJson, modelJson } from '../../../support/models.ts'

const limits = { memoryBytes: 2 ** 30, batchSize: 32 }
const dense = (config: object) => ({
  class_name: 'Dense',
  config: { units: 2, activation: 'softmax', ...config },
})
/** One Dense layer of 3 inputs, with its config changed. */
const oneDense = (
  config: object,
  weights: [string, number[]][] = [
    ['layer0/kernel', [3, 2]],
    ['layer0/bias', [2]],
  ],
) => modelJson([3], [dense(config)], weights)

test('shapes, tensors and a clean copy of a dense model', () => {
  const topology = readTopology(denseJson([784, 64, 10]), limits)
  expect(topology.tensors.map(({ name, shape, role }) => `${name} [${shape}] ${role}`)).toEqual([
    'layer0/kernel [784,64] trainable',
    'layer0/bias [64] trainable',
    'layer1/kernel [64,10] trainable',
    'layer1/bias [10] trainable',
  ])
  expect(topology).toMatchObject({
    inputShape: [784],
    outputUnits: 10,
    outputActivation: 'softmax',
  })
  expect(topology.layers[2]!.weights).toEqual({ kernel: 2, bias: 3 })
  expect(readTopology(topology.cleanModelJson, limits)).toEqual(topology)
})

test('BatchNormalization brings a mean and a variance, wherever weightsManifest puts them', () => {
  const layers = [{ class_name: 'BatchNormalization', config: {} }, dense({})]
  const json = modelJson([3], layers, [
    ['layer0/gamma', [3]],
    ['layer0/beta', [3]],
    ['layer1/kernel', [3, 2]],
    ['layer1/bias', [2]],
    ['layer0/moving_mean', [3]],
    ['layer0/moving_variance', [3]],
  ])
  expect(tensorsOf(json).map(({ role }) => role)).toEqual([
    'trainable',
    'trainable',
    'trainable',
    'trainable',
    'mean',
    'variance',
  ])
})

test('Flatten, Reshape, Dropout and Activation change shapes as TensorFlow.js does', () => {
  const layers = [
    { class_name: 'InputLayer', config: {} },
    { class_name: 'Reshape', config: { target_shape: [2, -1] } },
    { class_name: 'Dropout', config: { rate: 0.5 } },
    { class_name: 'Flatten', config: {} },
    dense({ activation: 'linear' }),
    { class_name: 'Activation', config: { activation: 'softmax' } },
  ]
  const topology = readTopology(
    modelJson([4, 3], layers, [
      ['layer4/kernel', [12, 2]],
      ['layer4/bias', [2]],
    ]),
    limits,
  )
  expect(topology.layers.map(({ outputShape }) => outputShape)).toEqual([
    [4, 3],
    [2, 6],
    [2, 6],
    [12],
    [2],
    [2],
  ])
  expect(topology.outputActivation).toBe('softmax')
})

test('initialisers become zeros, whatever they were', () => {
  const slow = { class_name: 'Orthogonal', config: { gain: 1 } }
  const { cleanModelJson } = readTopology(oneDense({ kernel_initializer: slow }), limits)
  expect(cleanModelJson).not.toContain('Orthogonal')
  expect(cleanModelJson).toContain('Zeros')
})

describe('a layer that is not trainable', () => {
  const layers = [
    dense({ units: 4, activation: 'relu', trainable: false }),
    { class_name: 'BatchNormalization', config: { trainable: false } },
    { class_name: 'Flatten', config: { trainable: false } },
    dense({}),
  ]
  const weights: [string, number[]][] = [
    ['layer3/bias', [2]],
    ['layer0/kernel', [3, 4]],
    ['layer1/moving_mean', [4]],
    ['layer3/kernel', [4, 2]],
    ['layer1/gamma', [4]],
    ['layer1/beta', [4]],
    ['layer1/moving_variance', [4]],
    ['layer0/bias', [4]],
  ]
  const topology = readTopology(modelJson([3], layers, weights), limits)
  const names = (tensors: readonly { name: string }[]) => tensors.map(({ name }) => name)

  test('is frozen: what is swapped is the others, each list in the order of model.json', () => {
    expect(names(topology.tensors)).toEqual(['layer3/bias', 'layer3/kernel'])
    expect(names(topology.frozen)).toEqual([
      ...['layer0/kernel', 'layer1/moving_mean', 'layer1/gamma', 'layer1/beta'],
      ...['layer1/moving_variance', 'layer0/bias'],
    ])
    expect(topology.layers.at(-1)!.weights).toEqual({ kernel: 1, bias: 0 })
    expect(topology.layers[1]!.weights).toEqual({ kernel: 2, bias: 7 })
    expect(frozenLayersOf(topology)).toEqual(new Set(['layer0', 'layer1']))
    expect(readTopology(topology.cleanModelJson, limits)).toEqual(topology)
  })

  test('takes no memory for gradients: less than one that learns', () => {
    const whole = (units: number, trainable: boolean) => {
      const wide = [dense({ units, trainable }), dense({})]
      const own: [string, number[]][] = [
        ['layer0/kernel', [3, units]],
        ['layer0/bias', [units]],
        ['layer1/kernel', [units, 2]],
        ['layer1/bias', [2]],
      ]
      return readTopology(modelJson([3], wide, own), limits).demand.memoryBytes
    }
    expect(whole(50_000, false)).toBeLessThan(whole(50_000, true) - 50_000 * 4 * 4 * 7)
  })

  test.each<[name: string, json: string, says: RegExp]>([
    [
      'all of them',
      oneDense({ trainable: false }),
      /trainable is false in all layers, expected a layer with weights that learns/,
    ],
    ['something else', oneDense({ trainable: 'no' }), /\(Dense\) trainable is "no"/],
    [
      'one inside another that learns',
      modelJson(
        [3, 2],
        [
          {
            class_name: 'Bidirectional',
            config: {
              layer: { class_name: 'LSTM', config: { name: 'x', units: 2, trainable: false } },
            },
          },
        ],
        [],
      ),
      /\(Bidirectional\) layer trainable is false, expected true: a layer is frozen as a whole/,
    ],
  ])('is refused: %s', (_, json, says) => {
    expect(faultOf(() => readTopology(json, limits)).message).toMatch(says)
  })
})

describe('a hostile model.json is refused before anything is built:', () => {
  const cases: [name: string, json: string, type: string, says: RegExp][] = [
    [
      'gigabytes of Dense',
      modelJson(
        [20_000],
        [dense({ units: 20_000 })],
        [
          ['layer0/kernel', [20_000, 20_000]],
          ['layer0/bias', [20_000]],
        ],
      ),
      'too-much-memory',
      /takes about 1\d{4} MB, expected at most 1074 MB; the largest layer is layer0 \(Dense\)/,
    ],
    [
      'a million by a million',
      modelJson([2 ** 20], [dense({ units: 2 ** 22 })], []),
      'wrong-model',
      /no layer0\/kernel/,
    ],
    [
      'units beyond all bounds',
      oneDense({ units: 1e12 }),
      'wrong-model',
      /units is 1000000000000, expected a whole number/,
    ],
    ['NaN units', oneDense({ units: 'NaN' }), 'wrong-model', /units is "NaN"/],
    [
      'strides beside dilation, which Keras refuses too',
      modelJson(
        [8, 2],
        [
          {
            class_name: 'Conv1D',
            config: { name: 'both', filters: 2, kernel_size: 3, strides: 2, dilation_rate: 2 },
          },
          { class_name: 'Flatten', config: {} },
          dense({}),
        ],
        [],
      ),
      'wrong-model',
      /both.* dilation_rate is \[2\] with strides \[2\], expected 1 beside strides/,
    ],
    [
      'an input of 2^60 values',
      modelJson([2 ** 28, 2 ** 28], [{ class_name: 'Flatten', config: {} }], []),
      'wrong-model',
      /at most 268435456 values/,
    ],
    [
      'RepeatVector',
      modelJson([3], [{ class_name: 'RepeatVector', config: { n: 1e8 } }], []),
      'unknown-layer',
      /layer 0 layer0 is a "RepeatVector", expected one of InputLayer, Dense/,
    ],
    [
      'Lambda',
      modelJson([3], [{ class_name: 'Lambda', config: {} }], []),
      'unknown-layer',
      /"Lambda"/,
    ],
    [
      'constructor as a class',
      modelJson([3], [{ class_name: 'constructor', config: {} }], []),
      'unknown-layer',
      /"constructor"/,
    ],
    [
      '__proto__ as a class',
      modelJson([3], [{ class_name: '__proto__', config: {} }], []),
      'unknown-layer',
      /"__proto__"/,
    ],
    [
      'a nested model',
      modelJson([3], [{ class_name: 'Sequential', config: { layers: [] } }], []),
      'unknown-layer',
      /"Sequential"/,
    ],
    [
      'another kind of model',
      JSON.stringify({ modelTopology: { class_name: 'Subclassed', config: { layers: [{}] } } }),
      'unknown-layer',
      /is a "Subclassed", expected a Sequential or Functional model/,
    ],
    [
      'a graph model',
      JSON.stringify({ format: 'graph-model', modelTopology: {} }),
      'wrong-model',
      /format is graph-model/,
    ],
    [
      '5,000 layers',
      modelJson(
        [3],
        Array.from({ length: 5_000 }, () => ({ class_name: 'Flatten', config: {} })),
        [],
      ),
      'wrong-model',
      /at most/,
    ],
    [
      '300 layers',
      modelJson(
        [3],
        Array.from({ length: 300 }, () => ({ class_name: 'Flatten', config: {} })),
        [],
      ),
      'wrong-model',
      /300 layers, expected at most 256/,
    ],
    [
      'no layers',
      JSON.stringify({ modelTopology: { class_name: 'Sequential', config: { layers: [] } } }),
      'wrong-model',
      /layers is \[\]/,
    ],
    [
      'a setting we do not know',
      oneDense({ evil: 1 }),
      'wrong-model',
      /\(Dense\) evil is 1, expected no such setting/,
    ],
    [
      '__proto__ in a config',
      oneDense(JSON.parse('{"__proto__": {"units": 9}}')),
      'wrong-model',
      /__proto__/,
    ],
    [
      'a constraint',
      oneDense({ kernel_constraint: { class_name: 'MaxNorm' } }),
      'wrong-model',
      /kernel_constraint/,
    ],
    [
      'a regularizer',
      oneDense({ kernel_regularizer: { class_name: 'L1L2' } }),
      'wrong-model',
      /kernel_regularizer/,
    ],
    [
      'an unknown activation',
      oneDense({ activation: 'eval' }),
      'wrong-model',
      /activation is "eval", expected one of linear/,
    ],
    [
      'string weights',
      oneDense({}).replaceAll('float32', 'string'),
      'wrong-model',
      /dtype is "string", expected float32/,
    ],
    [
      'a weight of another shape',
      oneDense({}, [
        ['layer0/kernel', [3, 3]],
        ['layer0/bias', [2]],
      ]),
      'wrong-model',
      /layer0\/kernel shape is \[3,3\], expected \[3,2\]/,
    ],
    [
      'a weight of no layer',
      oneDense({}, [
        ['layer0/kernel', [3, 2]],
        ['layer0/bias', [2]],
        ['x/y', [1]],
      ]),
      'wrong-model',
      /"x\/y", expected weights of its layers only/,
    ],
    [
      'a weight twice',
      oneDense({}, [
        ['layer0/kernel', [3, 2]],
        ['layer0/kernel', [3, 2]],
        ['layer0/bias', [2]],
      ]),
      'wrong-model',
      /twice/,
    ],
    [
      'a weight missing',
      oneDense({}, [['layer0/kernel', [3, 2]]]),
      'wrong-model',
      /no layer0\/bias/,
    ],
    [
      'a shard elsewhere',
      oneDense({}).replace('group1-shard1of1.bin', 'https://evil.example/x'),
      'wrong-model',
      /expected a file name beside model.json/,
    ],
    [
      'a shard above',
      oneDense({}).replace('group1-shard1of1.bin', '../x'),
      'wrong-model',
      /expected a file name beside model.json/,
    ],
    ['a batch of its own', oneDense({ batch_input_shape: [64, 3] }), 'wrong-model', /null first/],
    [
      'two layers of one name',
      modelJson([3], [dense({ name: 'a' }), dense({ name: 'a' })], []),
      'wrong-model',
      /a name of its own/,
    ],
    ['deep nesting', oneDense({ kernel_initializer: nested(50) }), 'wrong-model', /nested deeper/],
    ['no JSON', '{', 'wrong-model', /not JSON/],
    [
      'too many bytes',
      ' '.repeat(MAX_MODEL_JSON_BYTES + 1),
      'wrong-model',
      /bytes, expected at most/,
    ],
  ]
  test.each(cases)('%s', (_, json, type, says) => {
    const fault = faultOf(() => readTopology(json, limits))
    expect(fault.detail).toMatchObject({ kind: 'verification', type })
    expect(fault.message).toMatch(says)
  })
})

test('any JSON is a topology or a Fault of kind verification', () => {
  fc.assert(
    fc.property(fc.json(), (json) => {
      expect(faultOf(() => readTopology(json, limits)).detail.kind).toBe('verification')
    }),
  )
})

function nested(depth: number): object {
  return depth === 0 ? {} : { inner: nested(depth - 1) }
}

function faultOf(work: () => unknown): Fault {
  try {
    work()
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
  throw new Error('expected a Fault, got none')
}
