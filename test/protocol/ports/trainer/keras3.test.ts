import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createTrainer } from '../../../../node/trainer.ts'
import { Fault } from '../../../../protocol/errors.ts'
import { expectNear } from '../../../support/engine.ts'
import { topologyOf } from '../../../support/models.ts'
import { root } from '../../../support/sources.ts'

/** Models as Keras 3.15 wrote them, with params, and what Keras made of three examples (test/golden/keras3.py). */
interface Golden {
  topology: Entry
  weights: { name: string; shape: number[]; dtype: string }[]
  params: number[]
  inputs: number[]
  outputs: number[]
}
interface Entry {
  class_name: string
  config: Settings
  [key: string]: unknown
}
interface Settings {
  name?: string
  layers?: Entry[]
  dtype?: Entry
  backward_layer?: Entry
  [key: string]: unknown
}
const golden: Record<string, Golden> = JSON.parse(
  readFileSync(join(root, 'test/golden/keras3.json'), 'utf8'),
)
const [transformer, recurrent] = [golden['functional transformer']!, golden.recurrent!]

const jsonOf = (modelTopology: object, weights: Golden['weights']) =>
  JSON.stringify({ modelTopology, weightsManifest: [{ paths: ['weights.bin'], weights }] })

describe('a model that Keras 3 wrote', () => {
  test.each(Object.entries(golden))('gives what Keras gives: %s', async (_, model) => {
    const json = jsonOf(model.topology, model.weights)
    const { params, frozen } = splitOf(model)
    const trainer = await createTrainer(json, { backend: 'engine', batchSize: 2, frozen })
    trainer.load(params)
    expectNear('outputs', trainer.predict(Float32Array.from(model.inputs), 3), model.outputs, 1e-5)
    trainer.close()
  })

  test.each(Object.entries(golden))('is the same in its clean copy: %s', (_, model) => {
    const topology = topologyOf(jsonOf(model.topology, model.weights))
    expect(topologyOf(topology.cleanModelJson)).toEqual(topology)
    expect(topology.cleanModelJson).not.toMatch(/registered_name|DTypePolicy|__keras_tensor__/)
  })

  test('keeps the order of its weights, under the names that TensorFlow.js gives them', () => {
    const { tensors } = topologyOf(jsonOf(recurrent.topology, recurrent.weights))
    expect(tensors.slice(0, 5).map(({ name }) => name)).toEqual([
      'embedding_1/embeddings',
      'bidirectional/forward_lstm/kernel',
      'bidirectional/forward_lstm/recurrent_kernel',
      'bidirectional/forward_lstm/bias',
      'bidirectional/backward_lstm/kernel',
    ])
  })

  test('may stand under model_config, as the converter puts it', () => {
    const wrapped = { model_config: transformer.topology, keras_version: '3.15.1' }
    expect(topologyOf(jsonOf(wrapped, transformer.weights))).toEqual(
      topologyOf(jsonOf(transformer.topology, transformer.weights)),
    )
  })

  test('in the form of late Keras 2 keeps its hard_sigmoid, which Keras 3 computes otherwise', () => {
    const topology = changed(recurrent.topology, 'gru', ({ config }) => {
      config.recurrent_activation = 'hard_sigmoid'
    })
    const json = (keras_version: string) =>
      jsonOf({ model_config: topology, keras_version }, recurrent.weights)
    expect(topologyOf(json('2.15.0')).layers.at(-2)!.config.recurrent_activation).toBe(
      'hard_sigmoid',
    )
    expect(() => topologyOf(json('3.4.1'))).toThrow(
      /layer 3 recurrent_activation is "hard_sigmoid", expected sigmoid/,
    )
  })
})

test("a GRU as Keras makes it resets after the product, and has that product's bias beside the other", () => {
  const topology = changed(recurrent.topology, 'gru', ({ config }) => {
    config.reset_after = true
  })
  const weights = recurrent.weights.map((weight) =>
    /gru.*bias/.test(weight.name) ? { ...weight, shape: [2, ...weight.shape] } : weight,
  )
  const { tensors, layers } = topologyOf(jsonOf(topology, weights))
  const [columns] = recurrent.weights.find(({ name }) => /gru.*bias/.test(name))!.shape
  expect(tensors.find(({ name }) => name === 'gru/bias')!.shape).toEqual([2, columns])
  expect(layers.at(-2)!.config.reset_after).toBe(true)
  expect(() => topologyOf(jsonOf(topology, recurrent.weights))).toThrow(/bias/)
})

test('dropout of what a recurrent layer reads is kept, in its clean copy too', () => {
  const topology = changed(recurrent.topology, 'gru', ({ config }) => {
    config.dropout = 0.2
  })
  const read = topologyOf(jsonOf(topology, recurrent.weights))
  expect(read.layers.at(-2)!.config.dropout).toBe(0.2)
  expect(topologyOf(read.cleanModelJson)).toEqual(read)
})

describe('a model of Keras 3 is refused, with its layer:', () => {
  type Change = (layer: Entry) => void
  const cases: [name: string, layer: string, change: Change, says: RegExp][] = [
    [
      'a class of somebody else that has the name of ours',
      'dense',
      (layer) => Object.assign(layer, { module: 'their.package', registered_name: 'their>Dense' }),
      /layer 6 is a "Dense" of "their.package", expected Keras' own/,
    ],
    [
      'a class without a module',
      'dense',
      (layer) => Object.assign(layer, { module: null, registered_name: 'Custom>Dense' }),
      /layer 6 is a "Dense" of null/,
    ],
    [
      'an operator that is no layer here',
      'add_1',
      (layer) => Object.assign(layer, { class_name: 'Subtract' }),
      /layer 9 is the operator "Subtract", expected one of Add, Multiply/,
    ],
    [
      'a number added to a layer',
      'add_1',
      (layer) => Object.assign(argsOf(layer), [argsOf(layer)[0], 2]),
      /layer 9 inbound_nodes args is 2, expected the outputs of layers/,
    ],
    [
      'mixed precision',
      'dense',
      ({ config }) => Object.assign(config.dtype!.config, { name: 'mixed_float16' }),
      /layer 6 dense \(Dense\) dtype is "mixed_float16", expected float32/,
    ],
    [
      'quantisation',
      'dense',
      ({ config }) => Object.assign(config, { quantization_config: { mode: 'int8' } }),
      /layer 6 dense \(Dense\) quantization_config is .*, expected no such setting/,
    ],
    [
      'an attention mask',
      'multi_head_attention',
      (layer) => Object.assign(kwargsOf(layer), { use_causal_mask: true }),
      /layer 3 multi_head_attention \(MultiHeadAttention\) inbound_nodes use_causal_mask is true/,
    ],
    [
      'a gate',
      'multi_head_attention',
      ({ config }) => Object.assign(config, { use_gate: true }),
      /use_gate is true, expected no such setting/,
    ],
    [
      'dropout at all times',
      'dropout',
      (layer) => Object.assign(kwargsOf(layer), { training: true }),
      /layer 7 dropout \(Dropout\) inbound_nodes training is true/,
    ],
    [
      'the second use of a layer',
      'dense',
      (layer) => Object.assign(argsOf(layer)[0]!.config, { keras_history: ['add', 1, 0] }),
      /layer 6 dense \(Dense\) inbound_nodes is \["add",1,0,\{\}\]/,
    ],
    [
      'a tensor without a history',
      'dense',
      (layer) => Object.assign(argsOf(layer)[0]!.config, { keras_history: null }),
      /layer 6 inbound_nodes args is /,
    ],
    [
      'arguments that are no list',
      'dense',
      (layer) => Object.assign((layer.inbound_nodes as object[])[0]!, { args: 1 }),
      /layer 6 inbound_nodes args is 1, expected a list/,
    ],
    [
      'a batch of its own',
      'words',
      ({ config }) => Object.assign(config, { batch_shape: [8, 4] }),
      /layer 0 batch_input_shape is \[8,4\], expected null first/,
    ],
    [
      'an activation that we have not',
      'dense',
      ({ config }) => Object.assign(config, { activation: 'leaky_relu' }),
      /layer 6 dense \(Dense\) activation is "leaky_relu"/,
    ],
    [
      'a lambda for an activation',
      'dense',
      ({ config }) =>
        Object.assign(config, { activation: { class_name: '__lambda__', config: { value: '' } } }),
      /layer 6 dense \(Dense\) activation is \{"class_name":"__lambda__"/,
    ],
    [
      'a config that is none',
      'dense',
      (layer) => Object.assign(layer, { config: [] }),
      /layer 6 config is \[\], expected an object/,
    ],
  ]
  test.each(cases)('%s', (_, name, change, says) => {
    const topology = changed(transformer.topology, name, change)
    expectRefused(jsonOf(topology, transformer.weights), says)
  })

  test('another layer in the other direction', () => {
    const topology = changed(recurrent.topology, 'bidirectional', ({ config }) => {
      config.backward_layer!.config.units = 3
    })
    const says = /layer 2 backward_layer is another layer, expected the same one going backwards/
    expectRefused(jsonOf(topology, recurrent.weights), says)
  })

  test('both layers in one direction', () => {
    const topology = changed(recurrent.topology, 'bidirectional', ({ config }) => {
      config.backward_layer!.config.go_backwards = false
    })
    expectRefused(jsonOf(topology, recurrent.weights), /layer 2 backward_layer is another layer/)
  })

  test('weights of another model', () => {
    const weights = recurrent.weights.map((weight) => ({ ...weight, name: `x/${weight.name}` }))
    expectRefused(jsonOf(recurrent.topology, weights), /"x\/sequential\/embedding_1\/embeddings"/)
  })

  test('what to_json wrote, without weights beside it', () => {
    expectRefused(JSON.stringify(transformer.topology), /modelTopology is missing/)
  })
})

/** What is trained, and the bytes of what is frozen. */
function splitOf(model: Golden): { params: Float32Array; frozen: Uint8Array } {
  const topology = topologyOf(jsonOf(model.topology, model.weights))
  const learns = new Set(topology.tensors.map(({ name }) => name))
  const [own, held]: [number[], number[]] = [[], []]
  let at = 0
  for (const { name, shape } of topology.groups.flatMap(({ tensors }) => tensors)) {
    const size = shape.reduce((a, b) => a * b, 1)
    ;(learns.has(name) ? own : held).push(...model.params.slice(at, at + size))
    at += size
  }
  return {
    params: Float32Array.from(own),
    frozen: new Uint8Array(Float32Array.from(held).buffer),
  }
}

/** A copy in which one layer is changed. */
function changed(topology: Entry, name: string, change: (layer: Entry) => void): Entry {
  const copy = structuredClone(topology)
  change(copy.config.layers!.find(({ config }) => config.name === name)!)
  return copy
}

function argsOf(layer: Entry): Entry[] {
  return (layer.inbound_nodes as Entry[])[0]!.args as Entry[]
}

function kwargsOf(layer: Entry): object {
  return (layer.inbound_nodes as Entry[])[0]!.kwargs as object
}

function expectRefused(json: string, says: RegExp): void {
  let thrown: unknown
  try {
    topologyOf(json)
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(Fault)
  expect((thrown as Fault).detail.kind).toBe('verification')
  expect((thrown as Fault).message).toMatch(says)
}
