import * as tf from '@tensorflow/tfjs-core'
// Brings the gradients of tfjs-core's operations, which Node's build of tfjs-core leaves out; nothing else of it is used.
import '@tensorflow/tfjs-layers'
import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm'
import { type Graph, isFrozen } from '../../engine/graph.ts'
import { Fault, invariant } from '../../errors.ts'
import { createOptimizer } from '../../optimizer.ts'
import { forEachTensor, sizeOf, type TensorSpec } from '../../params.ts'
import { registerGradients } from './gradients.ts'
import { type Context, forwards } from './layers.ts'
import { registerPack } from './pack.ts'
import { graphOf, type Layer, type Topology } from './topology.ts'
import type { Batch, Trainer } from './trainer.ts'

/** Where tfjs-backend-wasm*.wasm lie: their folder (path or URL, with its last slash), or an address for each name. */
export type WasmPlaces = string | Record<string, string>

export interface TfjsOptions {
  /** `auto` takes wasm, and cpu where wasm does not start; any other name is of a backend that the host has registered. */
  backend: string
  wasmPlaces: WasmPlaces
  /** The engine's plain build, whose kernels do what TensorFlow.js' wasm backend lacks. */
  kernels: BufferSource
  /** Values of the frozen weights, in the topology's order; none unless given. */
  frozen?: Float32Array
}

/**
 * A trainer over TensorFlow.js. One process has one backend: the first trainer chooses it.
 *
 * Each step makes the model's tensors anew and disposes the last ones, so their count is steady. (Writing into the storage of those
 * there are would be quicker and wrong: XNNPACK keeps a packed copy of what it has multiplied by.) The loss is categorical cross-entropy on the logits of the last layer, whose softmax is
 * fused with it: log-sum-exp never overflows where a softmax followed by a logarithm would.
 * Throws Fault `no-backend` when a backend asked for does not start or knows no layer of a class, `wrong-output` when the model ends in anything but a softmax.
 */
export async function createTfjsTrainer(
  topology: Topology,
  options: TfjsOptions,
): Promise<Trainer> {
  return createTfjsGraphTrainer(graphOf(topology), options)
}

/** A trainer of any graph that ends in logits. */
export async function createTfjsGraphTrainer(graph: Graph, options: TfjsOptions): Promise<Trainer> {
  const { nodes: layers, tensors, inputShape, outputUnits } = graph
  const unknown = layers.find(({ className }) => !Object.hasOwn(forwards, className))
  if (unknown) throw notTrained(options.backend, unknown.className)
  const { frozen = new Float32Array(0) } = options
  const frozenSize = sizeOf(graph.frozen ?? [])
  invariant(frozen.length === frozenSize, `${frozenSize} frozen values, got ${frozen.length}`)
  const backend = await startBackend(options)
  const inputSize = inputShape.reduce((a, b) => a * b, 1)
  const tensorsOf = (specs: readonly TensorSpec[], params: Float32Array) => {
    const made: tf.Tensor[] = []
    forEachTensor(specs, ({ shape }, start, end) => {
      // Others than wasm may keep the array they are given, and params move on.
      const values = backend === 'wasm' ? params.subarray(start, end) : params.slice(start, end)
      made.push(tf.keep(tf.tensor(values, [...shape])))
    })
    return made
  }
  let constants = tensorsOf(graph.frozen ?? [], frozen)
  let held: tf.Tensor[] = []

  const load = (params: Float32Array) => {
    tf.dispose(held)
    held = tensorsOf(tensors, params)
  }

  const logitsOf = (inputs: Float32Array, size: number, training?: Context['training']) => {
    const weights = [...held, ...constants]
    const weight = (layer: Layer, name: string) => weights[layer.weights[name]!]
    const x: tf.Tensor = tf.tensor(inputs.subarray(0, size * inputSize), [size, ...inputShape])
    const values: tf.Tensor[] = []
    for (const layer of layers) {
      const inputs = values.length === 0 ? [x] : layer.inputs.map((input) => values[input]!)
      const isTraining = training && !isFrozen(graph, layer)
      const context: Context = isTraining ? { weight, training } : { weight }
      values.push(forwards[layer.className]!(inputs, layer, context))
    }
    return values.at(-1)!
  }

  return {
    backend,
    threads: 1,
    tensors,
    inputSize,
    outputSize: outputUnits,
    floats: (length) => new Float32Array(length),
    createOptimizer: (recipe) => createOptimizer(recipe, tensors),
    load,

    gradientInto(gradient, params, batch) {
      load(params)
      const statistics: Statistic[] = []
      const loss = tf.tidy(() => {
        const targets = oneHot(batch, outputUnits)
        const training = trainingOf(batch, layers, statistics)
        const lossOf = () => crossEntropy(logitsOf(batch.inputs, batch.size, training), targets)
        const trainable = held.filter((_, i) => tensors[i]!.role === 'trainable')
        const { value, grads } = tf.engine().gradients(lossOf, trainable)
        const [first, ...rest] = valuesOf([value, ...grads])
        let next = 0
        forEachTensor(tensors, ({ role }, start, end) => {
          if (role === 'trainable') gradient.set(rest[next++]!, start)
          else gradient.fill(0, start, end)
        })
        return first![0]!
      })
      for (const statistic of statistics) followInto(params, graph, statistic)
      return loss
    },

    predict(inputs, size) {
      return tf.tidy(() => storageOf(tf.softmax(logitsOf(inputs, size) as tf.Tensor2D)).slice())
    },

    close() {
      tf.dispose([...held, ...constants])
      held = []
      constants = []
    },
  }
}

function notTrained(backend: string, what: string): Fault {
  return new Fault({
    kind: 'resource',
    type: 'no-backend',
    backend,
    message: `TensorFlow.js does not train ${what} here`,
    hint: 'try --backend auto',
  })
}

let lastStart: Promise<unknown> = Promise.resolve()

/** One after another: of two starts at once TensorFlow.js gives up the first. */
function startBackend(options: TfjsOptions): Promise<string> {
  const start = lastStart.then(() => startNext(options))
  lastStart = start.catch(() => {})
  return start
}

async function startNext({ backend, ...options }: TfjsOptions): Promise<string> {
  tf.enableProdMode() // no banner about another package, no checks of what our own tests check
  registerGradients()
  const names = backend === 'auto' ? (['wasm', 'cpu'] as const) : [backend]
  for (const name of names) {
    if (await started(name, options)) return name
  }
  throw new Fault({
    kind: 'resource',
    type: 'no-backend',
    backend,
    message: `the backend ${backend} did not start; TensorFlow.js offers ${tf.getBackend() ?? 'none'}`,
    hint: 'try --backend auto',
  })
}

/** TensorFlow.js may quietly take another backend than the one asked for, so the answer is what it really has. */
async function started(
  name: string,
  { wasmPlaces, kernels }: Omit<TfjsOptions, 'backend'>,
): Promise<boolean> {
  if (name === 'wasm' && !WebAssembly.validate(kernels)) return false // a machine without SIMD
  if (name === 'cpu') await import('@tensorflow/tfjs-backend-cpu')
  if (name === 'wasm') await importWasm(wasmPlaces)
  if (!(await isSet(name))) return false
  if (name === 'wasm') await registerPack(tf.backend() as BackendWasm, kernels)
  return true
}

async function isSet(name: string): Promise<boolean> {
  try {
    return (await tf.setBackend(name)) && tf.getBackend() === name
  } catch {
    return false
  }
}

let wasmImported = false

async function importWasm(places: WasmPlaces): Promise<void> {
  if (wasmImported) return
  wasmImported = true
  const wasm = await import('@tensorflow/tfjs-backend-wasm')
  // Threads gain nothing on the small models of a swarm, and need a page that is cross-origin isolated.
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false)
  wasm.setWasmPaths(places)
}

/**
 * The live storage of a tensor, not a copy: valid until the next operation, since wasm memory may move. The cpu backend's
 * dataSync gives the storage itself; wasm's would copy.
 */
function storageOf(tensor: tf.Tensor): Float32Array {
  const backend = tf.backend() as Partial<BackendWasm>
  if (backend.typedArrayFromHeap) return backend.typedArrayFromHeap(tensor) as Float32Array
  return tensor.dataSync() as Float32Array
}

/** The values of some tensors, by one read on a GPU: each read waits for all that was asked of it. */
function valuesOf(given: tf.Tensor[]): Float32Array[] {
  if (tf.getBackend() === 'wasm' || tf.getBackend() === 'cpu') return given.map(storageOf)
  const all = storageOf(tf.concat1d(given.map((tensor) => tf.reshape(tensor, [tensor.size]))))
  let at = 0
  return given.map(({ size }) => {
    at += size
    return all.subarray(at - size, at)
  })
}

function crossEntropy(logits: tf.Tensor, targets: tf.Tensor): tf.Scalar {
  const chosen = tf.sum(tf.mul(targets, tf.logSoftmax(logits)))
  return tf.div(chosen, -targets.shape[0]!)
}

function oneHot({ labels, size }: Batch, classes: number): tf.Tensor {
  const values = new Float32Array(size * classes)
  for (let i = 0; i < size; i++) values[i * classes + labels[i]!] = 1
  return tf.tensor2d(values, [size, classes])
}

/** What one BatchNorm layer saw in a batch. */
interface Statistic {
  layer: Layer
  mean: Float32Array
  variance: Float32Array
}

/** A prime apart, so that two dropout layers of one step draw differently. */
const SEED_STRIDE = 104_729

function trainingOf(batch: Batch, layers: Layer[], statistics: Statistic[]): Context['training'] {
  return {
    seedOf: (layer) => batch.seed + SEED_STRIDE * (1 + layers.indexOf(layer)),
    observe: (layer, mean, variance) =>
      statistics.push({
        layer,
        mean: storageOf(mean).slice(),
        variance: storageOf(variance).slice(),
      }),
  }
}

/** moving ← momentum · moving + (1 − momentum) · batch, Ioffe and Szegedy 2015 as Keras has it. */
function followInto(
  params: Float32Array,
  { tensors }: Graph,
  { layer, mean, variance }: Statistic,
): void {
  const momentum = layer.config.momentum as number
  forEachTensor(tensors, (_, start, end, i) => {
    const seen =
      i === layer.weights.moving_mean
        ? mean
        : i === layer.weights.moving_variance
          ? variance
          : undefined
    if (!seen) return
    for (let j = start; j < end; j++)
      params[j] = momentum * params[j]! + (1 - momentum) * seen[j - start]!
  })
}
