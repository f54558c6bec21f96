import { faultFrom } from '../errors.ts'
import { forEachTensor } from '../params.ts'
import {
  type Channel,
  channelOf,
  DONE,
  END,
  FAILED,
  FIRST,
  GRADIENT,
  type HelperInit,
  type HelperSaid,
  KIND,
  LOGITS,
  ORDER,
  SEED,
  SIZE,
  VERSION,
  WHOLE,
} from './channel.ts'
import { createEngine, type Engine } from './engine.ts'
import { gradientOf, inputSizeOf, predictInto } from './part.ts'

/**
 * What a helper's thread runs: an engine and a memory of its own, and a loop that sleeps until the leader has an order
 * (team.ts). Resolves when the leader ends it; from `ready` to then it blocks its thread, so give it one of its own.
 */
export async function runHelper(init: HelperInit, tell: (said: HelperSaid) => void): Promise<void> {
  let desk: Desk
  try {
    desk = await openDesk(init)
  } catch (thrown) {
    return tell({ type: 'failed', detail: faultFrom(thrown).detail })
  }
  tell({ type: 'ready' })
  serve(desk)
}

/** All that one helper has. */
interface Desk {
  engine: Engine
  channel: Channel
  shared: Float32Array
  frozen: Float32Array
  params: Float32Array
  gradient: Float32Array
  /** Of the params it has. */
  version: number
}

async function openDesk({ graph, own, params, frozen, ...options }: HelperInit): Promise<Desk> {
  const engine = await createEngine(graph, options)
  const { batch } = options
  const { outputUnits } = graph
  const { size } = engine
  return {
    engine,
    channel: channelOf(own, { batch, inputSize: inputSizeOf(engine), outputUnits, size }),
    shared: new Float32Array(params),
    frozen: new Float32Array(frozen),
    params: engine.floats(size),
    gradient: engine.floats(size),
    version: 0,
  }
}

function serve(desk: Desk): void {
  const { control } = desk.channel
  for (let order = 0; ; ) {
    Atomics.wait(control, ORDER, order)
    const next = Atomics.load(control, ORDER)
    if (next === order) continue
    if (control[KIND] === END) return
    order = next
    carryOut(desk)
    Atomics.store(control, DONE, order)
    Atomics.notify(control, DONE)
  }
}

/** What goes wrong is written down, so that the leader does not wait for an answer. */
function carryOut(desk: Desk): void {
  const { control, complaint } = desk.channel
  control[FAILED] = 0
  try {
    work(desk)
  } catch (thrown) {
    const said = new TextEncoder().encode(faultFrom(thrown).message).subarray(0, complaint.length)
    complaint.set(said)
    control[FAILED] = Math.max(1, said.length)
  }
}

function work(desk: Desk): void {
  const { engine, channel, shared, params, gradient } = desk
  const { control, inputs, labels, loss, results } = channel
  const [size, first] = [control[SIZE]!, control[FIRST]!]
  if (desk.version === 0) engine.frozen.set(desk.frozen)
  if (control[VERSION] !== desk.version) params.set(shared)
  desk.version = control[VERSION]!
  const at = engine.addressOf(params)
  if (control[KIND] !== GRADIENT) {
    const wanted = control[KIND] === LOGITS ? 'logits' : 'probabilities'
    return predictInto(results, engine, inputs, size, at, wanted)
  }
  const part = { inputs, labels, size, first, whole: control[WHOLE]!, seed: control[SEED]! }
  loss[0] = gradientOf(engine, part, at, engine.addressOf(gradient))
  results.set(gradient)
  forEachTensor(engine.graph.tensors, ({ role }, start, end) => {
    if (role !== 'trainable') results.set(params.subarray(start, end), start)
  })
}
