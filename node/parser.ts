/** From what a command says it takes to commander's parser of it. */
import type { Command } from 'commander'
import { type CommandSpec, type Context, type OptionSpec, shared } from './command.ts'

type Run = (
  spec: CommandSpec,
  args: Context['args'],
  options: Record<string, unknown>,
) => Promise<unknown>

/** Errors are thrown to whoever parses, which says them in our way. */
export function quietly(command: Command): Command {
  return command
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .showHelpAfterError(false)
}

/** What a command takes, and `run` when it has taken it. */
export function fill(command: Command, spec: CommandSpec, run: Run): void {
  if (spec.arguments !== undefined) command.arguments(spec.arguments)
  for (const option of [...(spec.options ?? []), shared.json, shared.quiet])
    addOption(command, option)
  command.addHelpText(
    'after',
    `\nExamples:\n${spec.examples.map((line) => `  ${line}`).join('\n')}`,
  )
  command.action(async (...given: unknown[]) => {
    const args = given.slice(0, -2) as (string | string[] | undefined)[]
    await run(spec, args, command.opts())
  })
}

function addOption(
  command: Command,
  { flags, text, read, many, default: initial, required }: OptionSpec,
): void {
  const option = command.createOption(flags, text)
  if (initial !== undefined) option.default(initial)
  if (required === true) option.makeOptionMandatory()
  const [flag = flags] = flags.split(' ').filter((word) => word.startsWith('--'))
  if (many === true) {
    option.argParser((value: string, before: unknown[] | undefined) => [
      ...(before ?? []),
      read?.(value, flag) ?? value,
    ])
  } else if (read !== undefined) option.argParser((value: string) => read(value, flag))
  command.addOption(option)
}
