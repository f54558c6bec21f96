import { Fault, invariant } from '../errors.ts'
import { tensorSize } from '../params.ts'
import { type Graph, isFrozen, type Node } from './graph.ts'
import { layers } from './layers/table.ts'
import { type Address, FLOAT_BYTES, type KernelName, type Planner } from './planner.ts'

/**
 * A model and a batch size as a list of kernel calls on one arena: what to call, in order, with which numbers.
 * Nothing here runs anything (engine.ts does).
 */
export interface Plan {
  readonly batch: number
  readonly training: boolean
  /** float32 [batch, ...inputShape], to be filled before a run. */
  readonly input: Address
  /** float32 [batch, outputUnits]: the last node's values, which are logits. */
  readonly logits: Address
  /** float32 [batch, outputUnits]: the softmax of the logits, when not training. */
  readonly probabilities: Address
  /** Gradient of the logits, and of the input (0 unless asked for). */
  readonly logitsGradient: Address
  readonly inputGradient: Address
  /** In order; `loss` stands between the two. */
  readonly forward: readonly Call[]
  readonly loss: readonly Call[]
  readonly backward: readonly Call[]
  /** Bytes that are zero before the first run, and again after another plan ran in the same arena. */
  readonly zeroed: readonly { address: Address; bytes: number }[]
  /** What each node took of the arena; scratch is shared and counts for none. */
  readonly nodeBytes: readonly number[]
  /** The arena's first byte, and the first behind it. */
  readonly base: Address
  readonly end: Address
}

export interface Call {
  readonly kernel: KernelName
  readonly args: readonly number[]
}

export interface PlanOptions {
  batch: number
  /** Examples that the loss is the mean of, when the batch is a part of a larger one. */
  whole?: number
  training: boolean
  /** Where the params lie, and their gradient (0 without one). */
  params: Address
  gradient: Address
  /** Where the arena begins. */
  base: Address
  /** Where the control block lies, which changes from step to step. */
  control: Address
  /** Whether the gradient of the input is wanted; tests do. */
  inputGradient?: boolean
  /** Where the weights of frozen layers lie. */
  frozen?: Address
}

/** The control block: bytes from its start. Labels, i32 [batch], follow at LABELS_AT. */
export const LOSS_AT = 0
export const SEED_AT = 8
/** Behind the seed: the place of the part's first example in the whole batch, i32. */
export const FIRST_AT = 12
export const LABELS_AT = 64

/** A plan longer than this is no model: deep networks have hundreds of calls. */
const MAX_CALLS = 65_536

/** A cache line, and what a kernel may read past a buffer's end. */
export const LINE_BYTES = 64

/**
 * Lays out the arena and asks each layer's rule for its calls: once to learn how much scratch they need, once for good.
 * Throws Fault `too-much-work` with the layer where the list grows beyond all bounds.
 */
export function compile(graph: Graph, options: PlanOptions): Plan {
  const draft = createArena(options.base, 0)
  layOut(graph, options, draft)
  return layOut(graph, options, createArena(options.base, draft.scratchBytes()))
}

function layOut(graph: Graph, options: PlanOptions, arena: Arena): Plan {
  const { batch, training, control } = options
  const layout = createLayout(graph, options, arena)
  const forward: Call[] = []
  const backwards: Call[][] = []
  const nodeBytes: number[] = []
  let backwardCalls = 0
  for (const [index, node] of graph.nodes.entries()) {
    const rule = layers[node.className]
    invariant(rule?.plan, `no plan rule for ${node.className}`)
    const wished: Call[] = []
    const before = arena.end()
    rule.plan(node, plannerOf(index, forward, wished))
    // A rule may emit backward calls without asking whether they lead anywhere: they would write where no gradient lies.
    const backward = layout.isNeeded(index) ? wished : []
    backwardCalls += backward.length
    if (forward.length + backwardCalls > MAX_CALLS) throw tooManyCalls(node)
    nodeBytes.push(arena.end() - before)
    backwards.push([...layout.sumsOf(index), ...backward])
  }
  const last = graph.nodes.length - 1
  const input = layout.values(0)
  const logits = layout.values(last)
  // A place of its own where nothing is trained: the loss writes it all the same.
  const wanted = training ? layout.gradientOf(last) : 0
  const logitsGradient = training ? wanted || arena.take(batch * graph.outputUnits) : 0
  const probabilities = training ? 0 : arena.take(batch * graph.outputUnits)
  const labels = control + LABELS_AT
  const { outputUnits } = graph
  const loss: Call[] = training
    ? [
        {
          kernel: 'crossEntropy',
          args: [
            ...[logits, labels, logitsGradient, control + LOSS_AT, batch, outputUnits],
            options.whole ?? batch,
          ],
        },
      ]
    : [{ kernel: 'softmax', args: [logits, probabilities, batch, outputUnits] }]
  return {
    ...{ batch, training, input, logits, probabilities, logitsGradient, forward, loss },
    inputGradient: options.inputGradient ? layout.gradientOf(0) : 0,
    backward: training ? backwards.reverse().flat() : [],
    zeroed: arena.zeroed,
    nodeBytes,
    base: options.base,
    end: arena.end(),
  }

  function plannerOf(index: number, forward: Call[], backward: Call[]): Planner {
    const node = graph.nodes[index]!
    return {
      ...{ batch, training, frozen: isFrozen(graph, node) },
      input: (i) => layout.values(node.inputs[i] ?? 0),
      output: () => layout.values(index),
      view: () => layout.view(index),
      outputGradient: () => layout.gradientOf(index),
      inputGradient: (i) => layout.edgeGradient(index, i),
      weight: (name) => layout.weight(node, name),
      weightGradient: (name) => layout.weightGradient(node, name),
      keep: (floats) => arena.take(floats),
      scratch: (floats) => arena.scratch(floats),
      zeros: (floats) => arena.zeros(floats),
      seed: control + SEED_AT,
      salt: index,
      forward: (kernel, ...args) => void forward.push({ kernel, args }),
      backward: (kernel, ...args) => void backward.push({ kernel, args }),
    }
  }
}

function tooManyCalls({ name, className }: Node): Fault {
  const layer = `${name} (${className})`
  return new Fault({
    kind: 'verification',
    type: 'too-much-work',
    message: `the plan up to layer ${layer} has more than ${MAX_CALLS} kernel calls, expected at most those`,
    hint: 'make its windows or strides smaller',
    layer,
    limit: MAX_CALLS,
  })
}

interface Layout {
  values(node: number): Address
  view(node: number): void
  /** Whether anybody needs the gradient of a node's output: a trained weight, or the wanted input, lies at or before it. */
  isNeeded(node: number): boolean
  /** Gradient of a node's output; 0 where nobody needs it. */
  gradientOf(node: number): Address
  /** Where node `consumer` writes the gradient of its input i. */
  edgeGradient(consumer: number, i: number): Address
  /** Adds up the consumers' gradients of a node that several read. */
  sumsOf(node: number): Call[]
  weight(node: Node, name: string): Address
  weightGradient(node: Node, name: string): Address
}

/**
 * Values belong to a node; a gradient to a node, or to each of its consumers when there are several. Addresses are given out
 * when first asked for, so that a view can share its input's.
 */
function createLayout(graph: Graph, options: PlanOptions, arena: Arena): Layout {
  const { nodes } = graph
  const { batch } = options
  const sizes = nodes.map(({ outputShape }) => outputShape.reduce((a, b) => a * b, batch))
  const consumers = consumersOf(nodes)
  const needed = neededOf(nodes, options)
  const offsets = offsetsOf(graph)
  const values = new Map<number, Address>()
  const gradients = new Map<string, Address>()
  const views = new Set<number>()

  const once = <K>(places: Map<K, Address>, key: K, take: () => Address): Address => {
    const place = places.get(key) ?? take()
    places.set(key, place)
    return place
  }
  const layout: Layout = {
    values: (node) => once(values, node, () => arena.take(sizes[node]!)),
    view(node) {
      if (node === 0) return
      views.add(node)
      values.set(node, layout.values(nodes[node]!.inputs[0]!))
    },
    isNeeded: (node) => needed[node]!,
    gradientOf: (node) =>
      needed[node]
        ? once(gradients, `${node}`, () =>
            views.has(node) ? layout.edgeGradient(node, 0) : arena.take(sizes[node]!),
          )
        : 0,
    edgeGradient(consumer, i) {
      const node = nodes[consumer]!.inputs[i]
      if (node === undefined || !needed[node]) return 0
      if (consumers[node]!.length === 1) return layout.gradientOf(node)
      return once(gradients, `${consumer}.${i}`, () => arena.take(sizes[node]!))
    },
    sumsOf(node) {
      if (consumers[node]!.length < 2 || !needed[node]) return []
      const [first, second, ...rest] = consumers[node]!.map(
        ([consumer, i]) =>
          () =>
            layout.edgeGradient(consumer, i),
      )
      const to = layout.gradientOf(node)
      return [[first!(), second!()], ...rest.map((address) => [to, address()])].map(([a, b]) => ({
        kernel: 'add',
        args: [a!, b!, to, sizes[node]!],
      }))
    },
    weight(node, name) {
      const index = node.weights[name]
      if (index === undefined) return 0
      const at = index < graph.tensors.length ? options.params : options.frozen
      invariant(at !== undefined, 'frozen weights lie somewhere')
      return at + FLOAT_BYTES * offsets[index]!
    },
    weightGradient(node, name) {
      const index = node.weights[name]
      if (index === undefined || !isTrained(graph, options, index)) return 0
      return options.gradient + FLOAT_BYTES * offsets[index]!
    },
  }
  return layout

  /** By node, as isNeeded. */
  function neededOf(nodes: readonly Node[], options: PlanOptions): boolean[] {
    const needed: boolean[] = []
    for (const { weights, inputs } of nodes) {
      const own = Object.values(weights).some((index) => isTrained(graph, options, index))
      needed.push(options.training && (own || inputs.some((input) => needed[input])))
      if (needed.length === 1 && options.inputGradient) needed[0] = options.training
    }
    return needed
  }
}

function isTrained({ tensors }: Graph, options: PlanOptions, index: number): boolean {
  if (!options.training || options.gradient === 0) return false
  return tensors[index]?.role === 'trainable'
}

/** For each node, who reads it and as which of its inputs. */
function consumersOf(nodes: readonly Node[]): [consumer: number, i: number][][] {
  const consumers: [number, number][][] = nodes.map(() => [])
  nodes.forEach(({ inputs }, consumer) => {
    inputs.forEach((node, i) => consumers[node]!.push([consumer, i]))
  })
  return consumers
}

/** Where each weight begins in its array, the params or the frozen ones. */
function offsetsOf({ tensors, frozen = [] }: Graph): number[] {
  return [tensors, frozen].flatMap((list) => {
    let at = 0
    return list.map((tensor) => {
      const offset = at
      at += tensorSize(tensor)
      return offset
    })
  })
}

interface Arena {
  take(floats: number): Address
  zeros(floats: number): Address
  scratch(floats: number): Address
  readonly zeroed: { address: Address; bytes: number }[]
  scratchBytes(): number
  end(): Address
}

/** Buffers one after another, behind the scratch that all calls share. */
function createArena(base: Address, scratchBytes: number): Arena {
  const zeroed: { address: Address; bytes: number }[] = []
  const scratch = lineUp(base)
  let next = lineUp(scratch + scratchBytes + LINE_BYTES)
  let most = 0
  const take = (floats: number) => {
    const address = next
    next = lineUp(next + FLOAT_BYTES * floats + LINE_BYTES)
    return address
  }
  return {
    take,
    zeroed,
    zeros(floats) {
      const address = take(floats)
      zeroed.push({ address, bytes: FLOAT_BYTES * floats + LINE_BYTES })
      return address
    },
    scratch(floats) {
      most = Math.max(most, FLOAT_BYTES * floats)
      return scratch
    },
    scratchBytes: () => most,
    end: () => next,
  }
}

/** The next start of a cache line. */
export function lineUp(address: number): Address {
  return Math.ceil(address / LINE_BYTES) * LINE_BYTES
}
