/**
 * What a command is, and how one is run: a Fault becomes one line and an exit code, a signal becomes an
 * AbortSignal, and a second signal stops the process at once.
 */
import { Fault, faultFrom } from '../protocol/errors.ts'
import { THREADS_LIMIT } from '../protocol/ports/trainer/commands.ts'
import { createPrint, type Print } from './print.ts'

/** One command of `mlstore`; one file in node/commands/, one line in node/cli.ts. */
export interface CommandSpec {
  /** commander's notation: `<model>`, `<dir>`, `[query]`, `<files...>`. */
  arguments?: string
  options?: OptionSpec[]
  /** Whole command lines, shown below the help. */
  examples: string[]
  /** Resolves when done; a number is the exit code, nothing means 0. */
  run(context: Context): Promise<number | undefined> | Promise<void>
}

export interface OptionSpec {
  /** commander's notation: `-o, --out <dir>`, `--join <addr>`, `--json`. */
  flags: string
  text: string
  /** From the typed text to its value; throws a Fault of kind usage. Without it: text, or true for a switch. */
  read?: (text: string, flag: string) => unknown
  /** May be given several times; the value is a list. */
  many?: true
  default?: unknown
  /** Must be given. */
  required?: true
}

export interface Context {
  /** Positional arguments in order; one that may repeat is a list. */
  args: (string | string[] | undefined)[]
  /** By camel-cased long name. */
  options: Record<string, unknown>
  print: Print
  /** Aborts at the first signal: finish the batch, say goodbye, save, and return. */
  signal: AbortSignal
}

/** Why a run was asked to stop: the reason of `Context.signal`. */
export class Interrupted extends Error {
  readonly exitCode: number

  constructor(name: keyof typeof signalCodes) {
    super(`stopped by ${name}`)
    this.name = 'Interrupted'
    this.exitCode = signalCodes[name]
  }
}

const signalCodes = { SIGINT: 130, SIGTERM: 143 } as const

/** Pauses between the last line written and leaving, at most: a reader that hangs does not hold us. */
const FLUSH_LIMIT_MS = 2_000

/** Runs a command to its end and leaves the process with its exit code. Nothing returns from here. */
export async function runCommand(
  spec: CommandSpec,
  args: Context['args'],
  options: Record<string, unknown>,
): Promise<never> {
  const print = createPrint({ json: options.json === true, quiet: options.quiet === true })
  const { signal, stop } = listenToSignals(print)
  let code = 0
  try {
    code = (await spec.run({ args, options, print, signal })) ?? 0
    if (signal.aborted) code = sayInterrupted(print, signal.reason)
  } catch (thrown) {
    const isOurs = signal.aborted && !(thrown instanceof Fault)
    code = isOurs ? sayInterrupted(print, signal.reason) : tell(print, thrown)
  }
  stop()
  await print.flushed(FLUSH_LIMIT_MS)
  process.exit(code)
}

/** One line for people, `{"ev":"failed",...}` as the last line for programs; gives the exit code. */
export function tell(print: Print, thrown: unknown): number {
  const fault = systemFault(thrown)
  print.failed(fault)
  return fault.exitCode
}

/** A signal is no failure to explain, but programs that read the events hear why they end. */
function sayInterrupted(print: Print, { message, exitCode }: Interrupted): number {
  print.event({
    ev: 'failed',
    code: exitCode,
    type: 'interrupted',
    message,
    hint: 'run it again to go on',
  })
  return exitCode
}

function listenToSignals(print: Print): { signal: AbortSignal; stop(): void } {
  const controller = new AbortController()
  const onSignal = (name: NodeJS.Signals) => {
    const reason = new Interrupted(name as keyof typeof signalCodes)
    if (controller.signal.aborted) process.exit(sayInterrupted(print, reason))
    print.note('stopping: finishing what is under way (once more stops now)')
    controller.abort(reason)
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return {
    signal: controller.signal,
    stop: () => {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    },
  }
}

/** What the operating system and libp2p throw, as Faults a person can act on. */
export function systemFault(thrown: unknown): Fault {
  for (let error = thrown; error instanceof Error; error = error.cause as unknown) {
    if (error instanceof Fault) return error
    const known = knownErrors[codeOf(error)]
    if (known !== undefined) return known(error as NodeJS.ErrnoException, thrown)
    if (error instanceof AggregateError) {
      const inner = error.errors
        .map(systemFault)
        .find((fault) => fault.detail.type !== 'unexpected')
      if (inner !== undefined) return inner
    }
  }
  return faultFrom(thrown)
}

/** Stores wrap what the system said in a text of their own, without its code; a signal's reason has a number for one. */
function codeOf(error: NodeJS.ErrnoException): string {
  if (/\bENOSPC\b|No space left on device/.test(error.message)) return 'ENOSPC'
  return typeof error.code === 'string' ? error.code : error.name
}

const knownErrors: Record<string, (error: NodeJS.ErrnoException, cause: unknown) => Fault> = {
  TimeoutError: (_, cause) =>
    new Fault(
      {
        kind: 'network',
        type: 'timeout',
        message: 'the network did not answer before the time given',
        hint: 'give --timeout more time, or --join with the address of a peer that has it',
      },
      cause,
    ),
  EADDRINUSE: (error, cause) =>
    new Fault(
      {
        kind: 'resource',
        type: 'port-in-use',
        message: `port in use: ${portOf(error)}`,
        hint: 'stop the other program, or choose another port (0 takes any free one)',
      },
      cause,
    ),
  ENOSPC: diskFull,
  EDQUOT: diskFull,
  EROFS: (error, cause) => cannotWrite(error, cause),
  EACCES: (error, cause) => cannotWrite(error, cause),
}

function diskFull(error: NodeJS.ErrnoException, cause: unknown): Fault {
  return new Fault(
    {
      kind: 'resource',
      type: 'disk-full',
      message: `disk full: no space left for ${error.path ?? 'what had to be written'}`,
      hint: 'free some space, or choose another --home or -o on a disk with room; nothing half-written was kept',
    },
    cause,
  )
}

function cannotWrite(error: NodeJS.ErrnoException, cause: unknown): Fault {
  return new Fault(
    {
      kind: 'resource',
      type: 'not-permitted',
      message: `not permitted: ${error.message.replace(/^[A-Z]+: /, '')}`,
      hint: 'choose a path you may read and write',
    },
    cause,
  )
}

function portOf(error: NodeJS.ErrnoException & { address?: string; port?: number }): string {
  return error.port === undefined ? error.message : `${error.address ?? ''}:${error.port}`
}

/** Options most commands share. */
export const shared = {
  json: { flags: '--json', text: 'print one JSON object, or one event a line' },
  quiet: { flags: '-q, --quiet', text: 'print ids only' },
  home: {
    flags: '--home <dir>',
    text: 'keys, store and checkpoints (default: $MLSTORE_HOME or ~/.mlstore)',
  },
  join: {
    flags: '--join <addr>',
    text: 'a bootstrap or peer to join through; may be repeated',
    many: true,
    read: readAddress,
  },
  listen: {
    flags: '--listen <addr>',
    text: 'listen here instead of on every interface; may be repeated',
    many: true,
    read: readAddress,
  },
  timeout: {
    flags: '--timeout <time>',
    text: 'how long to wait for the network',
    read: readDuration,
  },
  maxMemory: {
    flags: '--max-memory <MB>',
    text: 'refuse a model that takes more in training (default: half of what is free)',
    read: readCount(1),
  },
  threads: {
    flags: '--threads <n>',
    text: 'cores to compute on (default: all but one, where the model gains by them)',
    read: readCount(1, THREADS_LIMIT),
  },
} satisfies Record<string, OptionSpec>

/** A multiaddr that names a peer or at least a place; the library is loaded only when one is typed. */
function readAddress(text: string, flag: string): string {
  if (/^\/(ip4|ip6|dns|dns4|dns6|dnsaddr|memory)\/[^/]+(\/|$)/.test(text)) return text
  throw new Fault({
    kind: 'usage',
    type: 'wrong-address',
    address: text,
    message: `${flag} got ${JSON.stringify(text)}, expected a multiaddr such as /ip4/127.0.0.1/tcp/4001/p2p/12D3...`,
    hint: 'copy one of the addresses that the bootstrap or the peer prints when it starts',
  })
}

/** `90s`, `10m`, `2h`, `1500ms` or a bare number of seconds → milliseconds. */
export function readDuration(text: string, flag: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text.trim())
  if (match !== null) return Number(match[1]) * unitsMs[match[2] ?? 's']!
  throw new Fault({
    kind: 'usage',
    type: 'wrong-duration',
    message: `${flag} got ${JSON.stringify(text)}, expected a time such as 90s, 10m or 2h`,
    hint: 'the units are ms, s, m, h and d; a bare number is seconds',
  })
}

const unitsMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** A whole number of at least `least`, and of at most `most`. */
export function readCount(
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): (text: string, flag: string) => number {
  return (text, flag) => {
    const value = Number(text)
    const range =
      most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`
    if (/^\d+$/.test(text) && value >= least && value <= most) return value
    throw new Fault({
      kind: 'usage',
      type: 'wrong-number',
      message: `${flag} got ${JSON.stringify(text)}, expected a whole number ${range}`,
      hint: `write it in digits alone, such as ${flag} ${least}`,
    })
  }
}

/** One of a few words. */
export function readChoice<const T extends string>(
  choices: readonly T[],
): (text: string, flag: string) => T {
  return (text, flag) => {
    const choice = choices.find((word) => word === text)
    if (choice !== undefined) return choice
    throw new Fault({
      kind: 'usage',
      type: 'wrong-choice',
      message: `${flag} got ${JSON.stringify(text)}, expected one of ${choices.join(', ')}`,
      hint: `write one of them as it stands here, such as ${choices[0]}`,
    })
  }
}
