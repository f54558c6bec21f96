import { createTrainer } from '../../node/trainer.ts'
import { codecs } from '../../protocol/codec/table.ts'
import type { Manifest } from '../../protocol/manifest.ts'
import { type Examples, splitRows } from '../../protocol/ports/examples.ts'
import type { CheckpointFile } from '../../protocol/ports/trainer/checkpoint.ts'
import type { Command, WorkerEvent, WorkerInit } from '../../protocol/ports/trainer/commands.ts'
import { type LearnerData, runLearner } from '../../protocol/ports/trainer/learner.ts'
import type { Trainer } from '../../protocol/ports/trainer/trainer.ts'
import { normal, randomFrom } from '../../protocol/random.ts'
import { denseJson, paramsOf, tableManifest, topologyOf } from './models.ts'

/** Learners in this process, with data, checkpoints and a clock made here. */

export type EventOf<T extends WorkerEvent['type']> = Extract<WorkerEvent, { type: T }>

export interface TestLearner {
  send(command: Command): void
  /** The next event of this type that nobody has taken; a `failed` meanwhile rejects. */
  take<T extends WorkerEvent['type']>(type: T): Promise<EventOf<T>>
  /** Sends and takes. */
  ask<T extends WorkerEvent['type']>(command: Command, type: T): Promise<EventOf<T>>
  params(): Promise<Float32Array>
  events: WorkerEvent[]
  ended: Promise<void>
}

const SIZES = [6, 12, 3]
const json = denseJson(SIZES)
export const tinyManifest: Manifest = tableManifest(json, { inputs: 6, classes: 3 })
export const tinyTensors = topologyOf(json).tensors

export interface TestOptions {
  seed?: number
  /** What its data is drawn from; the seed when absent. */
  dataSeed?: number
  manifest?: Manifest
  init?: Partial<WorkerInit>
  checkpoints?: CheckpointFile
  now?: () => number
  rows?: number
  /** What its values become before training, such as words. */
  mapped?: (value: number) => number
  /** Changes the trainer. */
  wrapped?: (trainer: Trainer) => Trainer
  /** Wraps each step, to act in its midst. */
  onStep?: (learner: TestLearner) => void
  /** Called before the data is read, and when the trainer is closed. */
  onLoad?: () => void
  onClose?: () => void
}

export function testInit({
  seed = 1,
  manifest = tinyManifest,
  init = {},
}: TestOptions = {}): WorkerInit {
  return {
    manifest,
    genesis: 'genesis',
    version: 'version',
    modelJson: json,
    params: codecs.float32.encode(paramsOf(topologyOf(json)), tinyTensors),
    data: { path: 'tiny' },
    seed,
    checkpointPath: 'tiny',
    resume: false,
    backend: 'engine',
    ...init,
  }
}

export function testLearner(options: TestOptions = {}): TestLearner {
  const mail = mailbox()
  let learner: TestLearner | undefined
  const running = runLearner(testInit(options), {
    createTrainer: async (given) => {
      const made = await tinyTrainer(given)
      const trainer = options.wrapped?.(made) ?? made
      return {
        ...trainer,
        gradientInto(...given) {
          if (learner) options.onStep?.(learner)
          return trainer.gradientInto(...given)
        },
        close() {
          options.onClose?.()
          trainer.close()
        },
      }
    },
    loadData: async (_, seed) => {
      options.onLoad?.()
      return tinyData(options, seed)
    },
    checkpoints: options.checkpoints ?? memoryCheckpoints(),
    send: mail.push,
    now: options.now ?? (() => performance.now()),
  })
  learner = {
    ...mail,
    ...tools(mail, running.receive),
    ended: running.ended,
    send: running.receive,
  }
  return learner
}

function tinyTrainer({ modelJson, manifest, ...init }: WorkerInit): Promise<Trainer> {
  const { backend, threads, frozen } = init
  return createTrainer(modelJson, { backend, batchSize: manifest.train.batchSize, threads, frozen })
}

/** Waits for events by type. */
export function mailbox() {
  const events: WorkerEvent[] = []
  const waiting: { type: string; resolve(event: never): void; reject(error: Error): void }[] = []
  return {
    events,
    push(event: WorkerEvent) {
      const at = waiting.findIndex(({ type }) => type === event.type)
      if (at >= 0) return waiting.splice(at, 1)[0]!.resolve(event as never)
      events.push(event)
      if (event.type !== 'failed') return
      for (const { reject } of waiting.splice(0)) reject(new Error(event.detail.message))
    },
    take<T extends WorkerEvent['type']>(type: T): Promise<EventOf<T>> {
      const at = events.findIndex((event) => event.type === type)
      if (at >= 0) return Promise.resolve(events.splice(at, 1)[0] as EventOf<T>)
      return new Promise((resolve, reject) => waiting.push({ type, resolve, reject }))
    },
  }
}

export function tools(mail: ReturnType<typeof mailbox>, send: (command: Command) => void) {
  const ask: TestLearner['ask'] = (command, type) => {
    const answer = mail.take(type)
    send(command)
    return answer
  }
  return {
    ask,
    async params() {
      const { bytes } = await ask({ type: 'version' }, 'version-params')
      return new Float32Array(bytes.slice().buffer)
    },
  }
}

/** One swap of two learners, as two Peers would do it. */
export async function swapOnce(
  offerer: Pick<TestLearner, 'ask'>,
  accepter: Pick<TestLearner, 'ask'>,
  nonce: string,
): Promise<void> {
  const give = { type: 'give', nonce, codec: 'int8' } as const
  const [ours, theirs] = await Promise.all([offerer.ask(give, 'gave'), accepter.ask(give, 'gave')])
  const settle = { type: 'settle', nonce, codec: 'int8' } as const
  await Promise.all([
    offerer.ask(
      { ...settle, role: 'offerer', sent: ours.bytes.slice(), received: [theirs.bytes.slice()] },
      'settled',
    ),
    accepter.ask(
      { ...settle, role: 'accepter', sent: theirs.bytes.slice(), received: [ours.bytes.slice()] },
      'settled',
    ),
  ])
}

/** Three classes around three centres; `dataSeed` draws the rows, `splitSeed` deals them. */
function tinyData(options: TestOptions, splitSeed: number): LearnerData {
  const { seed = 1, dataSeed = seed, rows: size = 200, mapped = (value) => value } = options
  const random = randomFrom(dataSeed)
  const labels = Uint16Array.from({ length: size }, (_, row) => row % 3)
  const inputs = Float32Array.from({ length: size * 6 }, (_, i) =>
    mapped((i % 3 === labels[Math.floor(i / 6)] ? 1.5 : 0) + normal(random)),
  )
  const examples: Examples = { size, width: 6, inputs, labels }
  const split = splitRows(size, 0.2, randomFrom(splitSeed))
  const report = {
    format: 'csv' as const,
    read: size,
    skipped: [],
    skippedCount: 0,
    labels: {},
    train: split.train.length,
    validation: split.validation.length,
  }
  return { examples, split, report, evaluation: undefined }
}

/** A CheckpointFile in memory, two generations. */
export function memoryCheckpoints(): CheckpointFile & { generations: Uint8Array<ArrayBuffer>[] } {
  const generations: Uint8Array<ArrayBuffer>[] = []
  return {
    generations,
    async *read() {
      yield* generations
    },
    async write(parts) {
      generations.unshift(new Uint8Array(await new Blob([...parts] as BlobPart[]).arrayBuffer()))
      generations.length = Math.min(2, generations.length)
    },
  }
}
