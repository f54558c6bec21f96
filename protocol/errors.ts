import type { FaultFacts } from './facts.ts'

/**
 * Three kinds of wrong, three treatments.
 *
 *   Rejection   a neighbour erred: returned by a decoder, never thrown
 *   Fault       the world failed (network, disk, data, a user's option): thrown, with its facts and its cause
 *   invariant   we erred: stops here, caught nowhere
 */

/** What a Fault means to a script: the process's exit code (DESIGN.md section 6). */
export const exitCodes = {
  unexpected: 1,
  usage: 2,
  'not-found': 3,
  network: 4,
  data: 5,
  diverged: 6,
  verification: 7,
  resource: 8,
} as const

export type FaultKind = keyof typeof exitCodes

export interface FaultDetail {
  /** Which exit code it earns. */
  kind: FaultKind
  /** A stable name in kebab-case, for programs: `artifact-not-found`. */
  type: string
  /** What came and what was expected, with numbers; one line, no full stop at its end. */
  message: string
  /** What to do next; one line, and never left out. */
  hint: string
  /** The facts of the message, for programs. */
  [fact: string]: unknown
}

/** What a fault of this type has to bring. */
type FactsOf<T extends string> = T extends keyof FaultFacts ? FaultFacts[T] : unknown

class WorldFault extends Error {
  readonly detail: FaultDetail

  constructor(detail: FaultDetail, cause?: unknown) {
    super(detail.message, { cause })
    this.name = 'Fault'
    this.detail = detail
  }

  get exitCode(): number {
    return exitCodes[this.detail.kind]
  }
}

/**
 * The world failed. Carries its facts; the host prints `message` and `hint` and exits with `exitCode`. Whoever makes one of a
 * type that facts.ts lists gives those facts: a compiler checks it.
 */
export type Fault = WorldFault
export const Fault: {
  new <T extends string>(
    detail: FaultDetail & { type: T } & FactsOf<T>,
    cause?: unknown,
  ): WorldFault
  readonly prototype: WorldFault
} = WorldFault

/** A neighbour erred. Returned, not thrown: the sender is struck and nothing of ours changes. */
export interface Rejection {
  type: string
  message: string
}

/** Stops the program when we ourselves erred. */
export function invariant(condition: unknown, claim: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${claim}`)
}

/** Any thrown value as a Fault: a Fault as it is, everything else as `unexpected`. */
export function faultFrom(thrown: unknown): Fault {
  if (thrown instanceof Fault) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  const hint = 'nothing foresaw this: run it again, and if it stays report it with these words'
  const detail = { type: 'unexpected', message: oneLine(message), hint }
  return new Fault({ kind: 'unexpected', ...detail }, thrown)
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}
