/**
 * Models that would harm whoever builds them, each judged twice: where an owner publishes it, and by a volunteer who has
 * model.json and a manifest that agrees with it, and no shard yet. What TensorFlow.js makes of them was measured: gigabytes
 * out of 300 bytes, minutes in an initialiser, thousands of leaked tensors.
 */
import { describe, expect, test } from 'vitest'
import { Fault } from '../../protocol/errors.ts'
import { type Manifest, readManifest } from '../../protocol/manifest.ts'
import { checkModel, checkVersion, filesOf, makeVersion } from '../../protocol/ports/version.ts'
import { modelJson } from '../support/models.ts'
import { noLimits, owner, tableDraft, tableModel, tableVersion } from '../support/versions.ts'

type Weights = [name: string, shape: number[]][]
interface LayerEntry {
  class_name: string
  config: Record<string, unknown>
}
const last: LayerEntry = {
  class_name: 'Dense',
  config: { name: 'last', units: 2, activation: 'softmax' },
}
/** Three columns in, the attacker's layers, two classes out. */
const model = (layers: LayerEntry[], weights: Weights = []) =>
  modelJson([3], [...layers, last], weights)
const layer = (class_name: string, config: object = {}): LayerEntry => ({
  class_name,
  config: { ...config },
})
const dense = (config: object) => layer('Dense', { units: 4, ...config })
/** Of a Dense layer of so many units, and of the last. */
const weightsOf = (units: number): Weights => [
  ['layer0/kernel', [3, units]],
  ['layer0/bias', [units]],
  ['last/kernel', [units, 2]],
  ['last/bias', [2]],
]
const squareWeights = (units: number): Weights => [
  ...weightsOf(units).slice(0, 2),
  ['layer1/kernel', [units, units]],
  ['layer1/bias', [units]],
  ...weightsOf(units).slice(2),
]
const square = (units: number, weights: Weights) =>
  model([dense({ units }), dense({ units })], weights)
/** Models within models, as text: what would write them deeper than this has a stack that ends. */
const nestedModels = (depth: number) =>
  model([layer('Sequential', { layers: ['inner'] })]).replace(
    '"inner"',
    '{"class_name":"Sequential","config":{"layers":['.repeat(depth) + ']}}'.repeat(depth),
  )
/** Keys such as __proto__ come only out of JSON. */
const parsed = (json: string): object => JSON.parse(json) as object
const sound = model([dense({})], weightsOf(4))

const cases: [name: string, json: string, type: string, says: RegExp][] = [
  [
    'Dense 20,000 x 20,000 without weights',
    square(20_000, []),
    'wrong-model',
    /weightsManifest is no layer0\/kernel, expected every weight of every layer/,
  ],
  [
    'Dense 20,000 x 20,000 with weights',
    square(20_000, squareWeights(20_000)),
    'too-much-memory',
    /takes about 1\d{4} MB, expected at most 4295 MB; the largest layer is layer1 \(Dense\)/,
  ],
  [
    'Dense a million by a million',
    square(1_000_000, squareWeights(1_000_000)),
    'too-many-params',
    /1,000,00\d,\d{3},\d{3} params, .* largest layer is layer1 \(Dense\)/,
  ],
  [
    'RepeatVector 10^8',
    model([layer('RepeatVector', { n: 1e8 })]),
    'unknown-layer',
    /layer 0 layer0 is a "RepeatVector"/,
  ],
  [
    'UpSampling 1000 x',
    model([layer('UpSampling2D', { size: [1000, 1000] })]),
    'unknown-layer',
    /layer 0 layer0 is a "UpSampling2D"/,
  ],
  [
    '5,000 layers',
    model(Array.from({ length: 5_000 }, () => layer('Flatten'))),
    'wrong-model',
    /bytes, expected at most 262144/,
  ],
  [
    '300 layers',
    model(Array.from({ length: 300 }, () => layer('Flatten'))),
    'wrong-model',
    /layers is 301 layers, expected at most 256/,
  ],
  ['3,000 nested models', nestedModels(3_000), 'wrong-model', /nested deeper/],
  [
    'one nested model',
    nestedModels(0),
    'unknown-layer',
    /layer 0 layer0 is a "Sequential", expected one of InputLayer/,
  ],
  [
    'brackets without end',
    '['.repeat(100_000) + ']'.repeat(100_000),
    'wrong-model',
    /nested deeper/,
  ],
  ['Lambda', model([layer('Lambda')]), 'unknown-layer', /is a "Lambda"/],
  ['an unknown class', model([layer('Evil')]), 'unknown-layer', /is a "Evil"/],
  ['constructor as a class', model([layer('constructor')]), 'unknown-layer', /is a "constructor"/],
  ['__proto__ as a class', model([layer('__proto__')]), 'unknown-layer', /is a "__proto__"/],
  [
    '__proto__ in a config',
    model([dense(parsed('{"__proto__": {"units": 9}}'))], weightsOf(4)).replace(
      '"units":4',
      '"__proto__":{"units":9},"units":4',
    ),
    'wrong-model',
    /layer 0 layer0 \(Dense\) __proto__ is \{"units":9\}, expected no such setting/,
  ],
  [
    'constructor.prototype in a config',
    model([dense({ constructor: { prototype: { units: 9 } } })], weightsOf(4)),
    'wrong-model',
    /layer 0 layer0 \(Dense\) constructor is .*, expected no such setting/,
  ],
  [
    'weights that are strings',
    sound.replaceAll('float32', 'string'),
    'wrong-model',
    /layer0\/kernel dtype is "string", expected float32/,
  ],
  [
    'weights of another shape',
    sound.replace('[3,4]', '[4,3]'),
    'wrong-model',
    /layer0\/kernel shape is \[4,3\], expected \[3,4\]/,
  ],
  [
    'a weight with another name',
    sound.replace('layer0/bias', 'layer0/bios'),
    'wrong-model',
    /weightsManifest is "layer0\/bios", expected weights of its layers only/,
  ],
  [
    'a weight missing',
    model([dense({})], weightsOf(4).slice(1)),
    'wrong-model',
    /weightsManifest is no layer0\/kernel/,
  ],
  [
    'a graph model',
    JSON.stringify({ format: 'graph-model', modelTopology: { node: [{ op: 'Evil' }] } }),
    'wrong-model',
    /format is graph-model, expected layers-model/,
  ],
  [
    'a constraint',
    model([dense({ kernel_constraint: layer('MaxNorm') })], weightsOf(4)),
    'wrong-model',
    /kernel_constraint/,
  ],
]

describe('a hostile model is refused, with what is wrong:', () => {
  test.each(cases)('%s', async (_, json, type, says) => {
    const bytes = new TextEncoder().encode(json)
    const draft = { ...tableModel(), manifest: tableDraft, modelJson: bytes, extra: new Map() }
    const manifest = await soundManifest()
    for (const judge of [
      () => makeVersion(draft, owner, noLimits),
      async () => checkModel(bytes, manifest, noLimits),
    ]) {
      const fault = await faultOf(judge)
      expect(fault.detail).toMatchObject({ kind: 'verification', type })
      expect(fault.message).toMatch(says)
    }
  })

  test.each([
    ['too short', (params: Uint8Array) => params.slice(4), /hold 100 bytes, expected 104/],
    ['too long', (params: Uint8Array) => concat(params, params), /hold 208 bytes, expected 104/],
    [
      'not a number',
      (params: Uint8Array) => concat(params.slice(4), bytesOf(Number.NaN)),
      /hold NaN or infinity/,
    ],
    [
      'infinite',
      (params: Uint8Array) => concat(params.slice(4), bytesOf(Number.POSITIVE_INFINITY)),
      /hold NaN or infinity/,
    ],
  ])('weights that are %s', async (_, change, says) => {
    const { modelJson, params } = tableModel()
    const draft = { manifest: tableDraft, modelJson, params: change(params), extra: new Map() }
    expect((await faultOf(() => makeVersion(draft, owner, noLimits))).message).toMatch(says)
  })

  test('an initialiser that runs for minutes is never run', async () => {
    const slow = { kernel_initializer: layer('Orthogonal', { gain: 1 }), units: 1500 }
    const weights = squareWeights(1500)
    const json = model([dense({ units: 1500 }), dense(slow)], weights)
    const size = weights.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b), 0)
    const draft = {
      ...{ manifest: tableDraft, modelJson: new TextEncoder().encode(json), extra: new Map() },
      params: new Uint8Array(4 * size),
    }
    const { modelJson: written } = await checkVersion(
      filesOf(await makeVersion(draft, owner, noLimits)),
      noLimits,
    )
    expect(written).not.toContain('Orthogonal')
    expect(written).toContain('Zeros')
  })
})

async function soundManifest(): Promise<Manifest> {
  return readManifest((await tableVersion()).get('mlstore.json')!)
}

const bytesOf = (value: number) => new Uint8Array(Float32Array.of(value).buffer)
const concat = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]))

async function faultOf(work: () => Promise<unknown>): Promise<Fault> {
  try {
    await work()
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
  throw new Error('expected a Fault, got none')
}
