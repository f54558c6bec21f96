import * as v from 'valibot'

/**
 * What a host shows: one union for page, log and JSON. `mlstore train --json` prints one a line, with `t` (ISO time)
 * before it, and so does every command that waits or fails. Bytes are totals of this run unless they stand in a `swap`, where they are that swap's own.
 */

/** The phases of a peer and the sentence that page, terminal and JSON share. */
export const phaseSentences = {
  'checking-device': 'Checking what this device can do',
  fetching: 'Fetching the model',
  preparing: 'Preparing the data',
  connecting: 'Looking for peers',
  training: 'Training with the swarm',
  'training-alone': 'Training alone; nobody else is here yet',
  'offline-training': 'Training offline; no bootstrap or peer can be reached',
  evaluating: 'Measuring the model',
  settling: 'Own training is done; averaging with the others until all agree',
  paused: 'Paused',
  leaving: 'Finishing the batch and saying goodbye',
  stopped: 'Stopped; the checkpoint is saved',
  failed: 'Stopped by an error',
} as const

export type Phase = keyof typeof phaseSentences

const count = v.pipe(v.number(), v.integer(), v.minValue(0))
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1))
const text = v.string()

export const metricsSchema = v.object({ accuracy: share, loss: v.number() })
export type Metrics = v.InferOutput<typeof metricsSchema>

/** How a peer's bytes travel; `relay` never carries params. */
export const paths = ['tcp', 'ws', 'webrtc-direct', 'webrtc', 'relay', 'memory'] as const
export type Path = (typeof paths)[number]

const reports = [
  v.object({ ev: v.literal('joined'), run: text, peer: text, model: text, version: text }),
  v.object({
    ev: v.literal('phase'),
    phase: v.picklist(Object.keys(phaseSentences) as Phase[]),
    text,
  }),
  v.object({ ev: v.literal('fetch'), bytes: count, total: count, providers: count }),
  /** What this device does with the model, before it joins: a round is the recipe's, of 250 ms at least unless strict. */
  v.object({
    ev: v.literal('device'),
    backend: text,
    threads: count,
    secondsPerRound: v.pipe(v.number(), v.minValue(0)),
    /** Why it is not what was asked for, or what else was tried and passed over. */
    remarks: v.array(text),
  }),
  v.object({
    ev: v.literal('data'),
    read: count,
    skipped: count,
    labels: v.record(v.string(), count),
    train: count,
    validation: count,
  }),
  v.object({ ev: v.literal('peers'), count, direct: count }),
  v.object({
    ev: v.literal('round'),
    round: count,
    steps: count,
    loss: v.number(),
    samples: count,
  }),
  v.object({
    ev: v.literal('swap'),
    round: count,
    with: text,
    path: v.picklist(paths),
    bytesUp: count,
    bytesDown: count,
    distance: v.pipe(v.number(), v.minValue(0)),
  }),
  /** How far something is that takes longer than half a second, four times a second at most. */
  v.object({
    ev: v.literal('progress'),
    of: v.picklist(['round', 'evaluation', 'swap']),
    /** Steps of a round, examples of an evaluation, bytes of a swap both ways or of a pull, which are equal once that is over, whole or not. */
    done: count,
    total: count,
    /** Of a swap. */
    with: v.optional(text),
  }),
  v.object({ ev: v.literal('swap-failed'), round: count, with: text, reason: text }),
  v.object({
    ev: v.literal('eval'),
    round: count,
    at: v.picklist(['trained', 'averaged']),
    metrics: metricsSchema,
    examples: count,
  }),
  v.object({ ev: v.literal('release'), version: text, cid: text }),
  /** Another peer that holds what was published: `count` of the `wanted` ones are found. */
  v.object({ ev: v.literal('replica'), peer: text, count, wanted: count }),
  v.object({
    ev: v.literal('stopped'),
    reason: text,
    rounds: count,
    bytesUp: count,
    bytesDown: count,
    /** Swaps of this run whose end it never learnt, where there are any: the other side may have moved by them alone. */
    lostDoubts: v.optional(count),
    checkpoint: v.optional(text),
  }),
  v.object({
    ev: v.literal('failed'),
    code: count,
    /** The fault's stable name: `artifact-not-found`. */
    type: v.optional(text),
    message: text,
    hint: text,
  }),
] as const

export const reportSchema = v.variant('ev', [...reports])
export type Report = v.InferOutput<typeof reportSchema>

/** A phase as a report, with its sentence, and how far it is where somebody knows. */
export function phaseReport(phase: Phase, far?: { done: number; total: number }): Report {
  const sentence = phaseSentences[phase]
  if (far === undefined) return { ev: 'phase', phase, text: sentence }
  const [done, total] = [far.done, far.total].map((count) => count.toLocaleString('en'))
  const unit = phase === 'checking-device' ? 'trial steps' : 'examples'
  return { ev: 'phase', phase, text: `${sentence}: ${done} of ${total} ${unit}` }
}
