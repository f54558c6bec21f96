import { expect, test } from 'vitest'
import { Fault } from '../../../../protocol/errors.ts'
import { chooseTrainer } from '../../../../protocol/ports/trainer/choose.ts'

test('auto takes the engine where it plans every layer, else TensorFlow.js', () => {
  expect(chooseTrainer('auto', [])).toEqual({ type: 'engine', simd: 'auto' })
  expect(chooseTrainer('auto', ['Strange'])).toEqual({ type: 'tfjs', backend: 'auto' })
})

test('what is asked for is taken: plain SIMD, WebAssembly of TensorFlow.js, plain JavaScript', () => {
  expect(chooseTrainer('engine', [])).toEqual({ type: 'engine', simd: 'auto' })
  expect(chooseTrainer('engine-plain', [])).toEqual({ type: 'engine', simd: 'plain' })
  expect(chooseTrainer('wasm', [])).toEqual({ type: 'tfjs', backend: 'wasm' })
  expect(chooseTrainer('cpu', ['Strange'])).toEqual({ type: 'tfjs', backend: 'cpu' })
})

test('the engine refuses a model with a layer it has no plan for, and names the layer', () => {
  expect(() => chooseTrainer('engine', ['Strange'])).toThrow(Fault)
  expect(() => chooseTrainer('engine-plain', ['Strange'])).toThrow('does not train Strange')
})
