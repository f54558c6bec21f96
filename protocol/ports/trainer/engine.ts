import { type Binaries, createEngine, type Simd } from '../../engine/engine.ts'
import type { Graph } from '../../engine/graph.ts'
import { layers as layerRules } from '../../engine/layers/table.ts'
import { createFusedOptimizer } from '../../engine/optimizer.ts'
import { invariant } from '../../errors.ts'
import { graphOf, type Topology } from './topology.ts'
import type { Batch, Trainer } from './trainer.ts'

export type { Binaries }

export interface EngineTrainerOptions {
  /** The largest batch a step takes; predictions are cut into batches of it. */
  batchSize: number
  binaries: Binaries
  simd: Simd | 'auto'
  /** Values of the frozen weights, in the graph's order. */
  frozen?: Float32Array
}

/** Names of the layers that the engine has no plan for, each once; with none of them it trains the model. */
export function unplannedLayersOf({ layers }: Topology): string[] {
  return [
    ...new Set(layers.map(({ className }) => className).filter((name) => !layerRules[name]?.plan)),
  ]
}

/**
 * A trainer over the planned engine: the model is compiled once, and a step is a list of kernel calls in one memory. The
 * same binary, seed and arrays give the same bits.
 * Throws Fault `wrong-output` when the model ends in anything but a softmax.
 */
export async function createEngineTrainer(
  topology: Topology,
  options: EngineTrainerOptions,
): Promise<Trainer> {
  return createGraphTrainer(graphOf(topology), options)
}

/** A trainer of any graph that ends in logits. */
export async function createGraphTrainer(
  graph: Graph,
  { batchSize, binaries, simd, frozen = new Float32Array(0) }: EngineTrainerOptions,
): Promise<Trainer> {
  const engine = await createEngine(graph, { batch: batchSize, binaries, simd })
  const { length } = engine.frozen
  invariant(frozen.length === length, `${length} frozen values, got ${frozen.length}`)
  engine.frozen.set(frozen)
  const inputSize = graph.inputShape.reduce((a, b) => a * b, 1)
  const { tensors, outputUnits } = graph
  // For arrays of strangers, which lie elsewhere; asked for first, so that there is room.
  const copy = engine.floats(engine.size)
  const copyGradient = engine.floats(engine.size)
  const [copyAt, copyGradientAt] = [copy, copyGradient].map(engine.addressOf) as [number, number]

  return {
    backend: engine.simd === 'relaxed' ? 'engine' : 'engine-plain',
    ...{ tensors, inputSize, outputSize: outputUnits },
    floats: engine.floats,
    createOptimizer: (recipe) => createFusedOptimizer(engine, recipe),
    load: (params) => copy.set(params),

    gradientInto(gradient, params, batch) {
      const at = engine.addressOf(params)
      const gradientAt = engine.addressOf(gradient)
      if (!at) copy.set(params)
      const { plan, forward, loss, backward } = engine.program({
        ...{ batch: batch.size, training: true },
        ...{ params: at || copyAt, gradient: gradientAt || copyGradientAt },
      })
      fill(plan.input, batch)
      forward()
      loss()
      backward()
      if (!at) params.set(copy) // BatchNorm statistics have moved
      if (!gradientAt) gradient.set(copyGradient)
      return engine.lossValue()
    },

    predict(inputs, size) {
      const probabilities = new Float32Array(size * outputUnits)
      for (let from = 0; from < size; from += batchSize) {
        const batch = Math.min(batchSize, size - from)
        const { plan, forward, loss } = engine.program({
          ...{ batch, training: false, params: copyAt, gradient: 0 },
        })
        engine
          .floatsAt(plan.input, batch * inputSize)
          .set(inputs.subarray(from * inputSize, (from + batch) * inputSize))
        forward()
        loss()
        const found = engine.floatsAt(plan.probabilities, batch * outputUnits)
        probabilities.set(found, from * outputUnits)
      }
      return probabilities
    },

    close() {},
  }

  function fill(input: number, { inputs, labels, size, seed }: Batch): void {
    invariant(size <= batchSize, `a batch of ${size}, expected at most ${batchSize}`)
    engine.floatsAt(input, size * inputSize).set(inputs.subarray(0, size * inputSize))
    const places = engine.labels(size)
    for (let i = 0; i < size; i++) {
      const label = labels[i]!
      invariant(label >= 0 && label < outputUnits, `label ${label} of ${outputUnits} classes`)
      places[i] = label
    }
    engine.setSeed(seed)
  }
}
