import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import {
  type Binaries,
  createEngine,
  type Engine,
  type Program,
  type Simd,
} from '../../protocol/engine/engine.ts'
import { type Graph, isFrozen } from '../../protocol/engine/graph.ts'
import type { Values } from '../../protocol/engine/layers/rule.ts'
import { layers } from '../../protocol/engine/layers/table.ts'
import { forEachTensor, type TensorSpec } from '../../protocol/params.ts'
import { normal, type Random, randomFrom } from '../../protocol/random.ts'
import { root } from './sources.ts'
import { createTape } from './tape.ts'

export { graphOf, type LayerSpec } from './graph.ts'

/** The engine under test: little graphs, and their comparison with the Float64 tape. */

const read = (name: string) => readFileSync(join(root, 'protocol/engine/binaries', name))

export const binaries = {
  plain: read('plain.wasm'),
  relaxed: read('relaxed.wasm'),
} satisfies Binaries
export const bothSimd: readonly Simd[] = ['plain', 'relaxed']

export interface CheckOptions {
  batch: number
  seed?: number
  /** Whether BatchNorm and Dropout do what they do in training; the gradient is compared then alone. */
  training?: boolean
  /** ‖a − b‖ / ‖b‖ that a tensor may differ by. */
  tolerance?: number
  /** Names tensors whose true gradient is 0: what is left of it is rounding, measured by the terms of all gradients. */
  vanishes?: RegExp
  /** A random value of the output's gradient; standard normal unless given. */
  weight?: (random: Random) => number
  /** A random input value; standard normal unless given. Embeddings want whole numbers. */
  input?: (random: Random) => number
  /** A random param; normal of spread 0.5 unless given, variances 0.5 to 1.5. */
  param?: (random: Random, tensor: TensorSpec) => number
}

/**
 * Runs a little graph in both binaries with random params, inputs and output gradient, and expects the values, the gradient
 * of the input and of every trainable tensor to be those of the Float64 tape.
 */
export async function expectAgreement(graph: Graph, options: CheckOptions): Promise<void> {
  const problem = problemOf(graph, options)
  const { values, terms } = referenceOf(graph, problem, options)
  const { tolerance, vanishes } = options
  const all = lengthOf(Object.values(terms).flatMap((sizes) => Array.from(sizes)))
  for (const simd of bothSimd) {
    const got = await runEngine(graph, problem, options, simd)
    for (const [name, wanted] of Object.entries(values)) {
      const floor = ROUNDING * (vanishes?.test(name) ? all : lengthOf(terms[name] ?? []))
      for (const found of [name, name + ALONE])
        if (got[found]) expectNear(`${simd} ${found}`, got[found], wanted, tolerance, floor)
    }
  }
}

/** ‖a − b‖ / ‖b‖ of float32 kernels and a Float64 reference. */
const TOLERANCE = 1e-5
/** What float32 loses of each term of a sum: all that is left of one whose terms cancel. */
const ROUNDING = 2 ** -23

const lengthOf = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0))

/** What a little graph is run with. */
export interface Problem {
  params: Float32Array
  frozen: Float32Array
  input: Float32Array
  /** The gradient of the output: what the sum is weighted by. */
  weights: Float32Array
  seed: number
}

function problemOf(graph: Graph, options: CheckOptions): Problem {
  const { batch, seed = 1, input, param, weight } = options
  const random = randomFrom(seed)
  const size = graph.inputShape.reduce((a, b) => a * b, batch)
  const drawn = (tensors: readonly TensorSpec[]) => {
    const values: number[] = []
    forEachTensor(tensors, (tensor, start, end) => {
      for (let i = start; i < end; i++)
        values.push(
          param?.(random, tensor) ??
            (tensor.role === 'variance' ? 0.5 + random() : 0.5 * normal(random)),
        )
    })
    return Float32Array.from(values)
  }
  return {
    params: drawn(graph.tensors),
    frozen: drawn(graph.frozen ?? []),
    input: Float32Array.from({ length: size }, () => input?.(random) ?? normal(random)),
    weights: Float32Array.from(
      { length: batch * graph.outputUnits },
      () => weight?.(random) ?? normal(random),
    ),
    seed: seed % 2 ** 31,
  }
}

/** By name: `output`, `gradient of input`, `gradient of layer1/kernel` ... */
export type Results = Record<string, ArrayLike<number>>

/** What the tape finds; of each gradient also the sizes of the terms that it is the sum of. */
export function referenceOf(
  graph: Graph,
  problem: Problem,
  options: CheckOptions,
): { values: Results; terms: Results } {
  const { batch, training = true } = options
  const tape = createTape()
  const placesOf = (values: ArrayLike<number>) => Array.from(values, tape.constant)
  const params = placesOf(problem.params)
  const tensors: Values[] = []
  const push = (list: readonly TensorSpec[], places: number[]) =>
    forEachTensor(list, ({ shape }, start, end) => {
      tensors.push({ shape, at: places.slice(start, end) })
    })
  push(graph.tensors, params)
  push(graph.frozen ?? [], placesOf(problem.frozen))
  const input: Values = { shape: [batch, ...graph.inputShape], at: placesOf(problem.input) }
  const outputs: Values[] = []
  for (const [salt, node] of graph.nodes.entries()) {
    const weight = (name: string) => tensors[node.weights[name] ?? -1]
    const learns = training && !isFrozen(graph, node)
    const context = { tape, weight, training: learns, seed: problem.seed, salt }
    const inputs = salt === 0 ? [input] : node.inputs.map((i) => outputs[i]!)
    outputs.push(layers[node.className]!.reference!(node, inputs, context))
  }
  const output = outputs.at(-1)!.at
  const values: Results = { output: Array.from(output, tape.valueOf) }
  const terms: Results = {}
  if (!training) return { values, terms }
  const places = [...params, ...Array.from(input.at)]
  const found = tape.gradient(tape.weighted(output, problem.weights), places)
  const keep = (name: string, start: number, end?: number) => {
    values[`gradient of ${name}`] = found.gradient.subarray(start, end)
    terms[`gradient of ${name}`] = found.terms.subarray(start, end)
  }
  keep('input', params.length)
  forEachTensor(graph.tensors, ({ name, role }, start, end) => {
    if (role === 'trainable') keep(name, start, end)
  })
  return { values, terms }
}

/**
 * Runs it in one binary, twice: the second run finds what the first one left. Where it trains, once more as a trainer asks for
 * it, without the gradient of the input: the weights' are the same.
 */
export async function runEngine(
  graph: Graph,
  problem: Problem,
  { batch, training = true }: CheckOptions,
  simd: Simd,
): Promise<Results> {
  const engine = await engineFor(graph, batch, simd)
  const params = engine.floats(problem.params.length)
  const gradient = engine.floats(problem.params.length)
  params.set(problem.params)
  engine.frozen.set(problem.frozen)
  gradient.fill(Number.NaN)
  const addresses = { params: engine.addressOf(params), gradient: engine.addressOf(gradient) }
  const settings = { batch, training, ...addresses }
  const { length } = problem.weights
  const run = ({ plan, forward, backward }: Program) => {
    engine.floatsAt(plan.input, problem.input.length).set(problem.input)
    params.set(problem.params) // a forward pass may move BatchNorm statistics
    forward()
    if (training) engine.floatsAt(plan.logitsGradient, length).set(problem.weights)
    const before = outside(engine, gradient, plan)
    backward()
    const isKept = outside(engine, gradient, plan).equals(before)
    expect(isKept, 'a backward pass writes the gradient and its arena alone').toBe(true)
  }
  const program = engine.program({ ...settings, inputGradient: true })
  const { plan } = program
  engine.setSeed(problem.seed)
  engine.floatsAt(0, NOTHING).fill(1)
  dirty(engine, plan)
  run(program)
  disturb(engine, problem, { training, ...addresses })
  run(program)
  const results: Results = { output: engine.floatsAt(plan.logits, length).slice() }
  if (!training) return results
  results['gradient of input'] = engine.floatsAt(plan.inputGradient, problem.input.length).slice()
  const weightGradients = (suffix = '') =>
    forEachTensor(graph.tensors, ({ name }, start, end) => {
      results[`gradient of ${name}${suffix}`] = gradient.slice(start, end)
    })
  weightGradients()
  gradient.fill(Number.NaN)
  run(engine.program(settings))
  weightGradients(ALONE)
  return results
}

/** Floats that no kernel owns, from address 0 on: who takes 0 for a place is found out. */
const NOTHING = 16
/** Behind the name of a weight's gradient that was computed without the input's. */
const ALONE = ', the input wanting none'

/** Runs a batch of 1 in the same arena: it fits, and the plan of the whole batch finds its zeros again. */
function disturb(
  engine: Engine,
  { input }: Problem,
  settings: { training: boolean; params: number; gradient: number },
): void {
  const { plan, forward, backward } = engine.program({ batch: 1, ...settings })
  const size = engine.graph.inputShape.reduce((a, b) => a * b, 1)
  engine.floatsAt(plan.input, size).set(input.subarray(0, size))
  forward()
  if (settings.training) engine.floatsAt(plan.logitsGradient, engine.graph.outputUnits).fill(1)
  backward()
}

/** All bytes before the arena, the gradient's left out: kernels' numbers, control block, params, frozen weights. */
function outside(
  { memory }: Engine,
  { byteOffset, byteLength }: Float32Array,
  { base }: { base: number },
): Buffer {
  return Buffer.from(memory.buffer.slice(0, base)).fill(0, byteOffset, byteOffset + byteLength)
}

/** What nobody has written yet is not a number: whoever reads it is found out. */
function dirty(engine: Engine, { base, end }: { base: number; end: number }): void {
  engine.floatsAt(base, (end - base) >> 2).fill(Number.NaN)
}

export function engineFor(graph: Graph, batch: number, simd: Simd): Promise<Engine> {
  return createEngine(graph, { batch, binaries, simd, room: 'input' })
}

/** ‖got − wanted‖ ≤ tolerance · ‖wanted‖ + floor */
export function expectNear(
  name: string,
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance = TOLERANCE,
  floor = 0,
): void {
  expect(got.length, `${name}: length`).toBe(wanted.length)
  let difference = 0
  let size = 0
  for (let i = 0; i < wanted.length; i++) {
    difference += (got[i]! - wanted[i]!) ** 2
    size += wanted[i]! ** 2
  }
  const limit = tolerance * Math.sqrt(size) + floor
  const found = `${name}: off by ${Math.sqrt(difference)} of ${Math.sqrt(size)}`
  expect(Math.sqrt(difference) <= limit, found).toBe(true)
}
