/**
 * `mlstore`: the table of commands. Each is loaded only when it runs, so that help is quick.
 */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { Fault } from '../protocol/errors.ts'
import { type CommandSpec, runCommand, tell } from './command.ts'
import { fill, quietly } from './parser.ts'
import { createPrint } from './print.ts'

/** Name, what it does, where it lives: a new command is one line here and one file there. */
const commands: [name: string, text: string, load: () => Promise<CommandSpec>][] = [
  [
    'publish',
    'make a version of a draft directory and list it',
    async () => (await import('./commands/publish.ts')).publish,
  ],
  [
    'ls',
    'list models that bootstraps and peers know',
    async () => (await import('./commands/ls.ts')).ls,
  ],
  ['show', 'what a model is, who holds it', async () => (await import('./commands/show.ts')).show],
  [
    'check',
    'check a directory as a peer would check a version',
    async () => (await import('./commands/check.ts')).check,
  ],
  [
    'pull',
    'fetch a version into a directory',
    async () => (await import('./commands/pull.ts')).pull,
  ],
  [
    'train',
    'train a model on your own data, together with its swarm',
    async () => (await import('./commands/train.ts')).train,
  ],
  [
    'release',
    'make a child version of the params you hold',
    async () => (await import('./commands/release.ts')).release,
  ],
  ['seed', 'hold a model and serve it', async () => (await import('./commands/seed.ts')).seed],
  [
    'eval',
    'measure a model on your data',
    async () => (await import('./commands/eval.ts')).evaluate,
  ],
  [
    'predict',
    'ask a model about files',
    async () => (await import('./commands/predict.ts')).predict,
  ],
  [
    'doctor',
    'check this machine: Node, disk, network, keys',
    async () => (await import('./commands/doctor.ts')).doctor,
  ],
  [
    'key',
    'export or import the key that signs what you publish',
    async () => (await import('./commands/key.ts')).key,
  ],
  [
    'export',
    'write a model for use elsewhere',
    async () => (await import('./commands/export.ts')).exportModel,
  ],
]

const about = `
Models are named by a listing's name, by a CID, or by a share link; add @latest,
@1.2.0 or @<CID> for a version:
  digits  digits@1.2.0  bafybei...  https://example.org/#/m/bafybei...?via=...

A home holds one peer's keys, store and checkpoints: --home DIR, $MLSTORE_HOME,
or ~/.mlstore. One process at a time uses it; addresses given with --join are
remembered there. Training data never leaves this machine.

Examples:
  mlstore-bootstrap                                    a meeting point
  mlstore publish ./my-model --join ADDR --serve       list a model and serve it
  mlstore ls                                           what is listed
  mlstore train digits --data ./my-digits --join ADDR  train it with others
  mlstore export digits -o ./weights                   take the weights away

Data goes to stdout, progress to stderr; --json prints JSON, -q ids only.
Exit codes: 0 done, 1 unexpected, 2 usage, 3 not found, 4 no network in time,
5 data, 6 diverged, 7 verification, 8 disk, port or home, 130 and 143 signals.
mlstore COMMAND --help says more.`

await main(process.argv.slice(2))

async function main(argv: string[]): Promise<void> {
  const [first = '', ...rest] =
    argv[0] === 'help' && argv.length > 1 ? [argv[1] ?? '', '--help'] : argv
  try {
    const program = await programFor(first)
    if (first === '') program.help()
    await program.parseAsync([first, ...rest], { from: 'user' })
  } catch (thrown) {
    leave(thrown, argv)
  }
}

/** All commands by name for the help; only the one that runs is loaded, with its options. */
async function programFor(name: string): Promise<Command> {
  const program = new Command('mlstore')
    .description(
      'An open network where anyone publishes a model and anyone trains it on data that never leaves.',
    )
    .version(versionOf(), '-V, --version')
    .addHelpText('after', about)
    .usage('COMMAND [options]')
    .helpCommand(false)
  quietly(program)
  for (const [command, text, load] of commands) {
    const added = quietly(program.command(command).description(text))
    if (command === name) fill(added, await load(), runCommand)
  }
  return program
}

function leave(thrown: unknown, argv: string[]): never {
  if (thrown instanceof CommanderError && thrown.exitCode === 0) process.exit(0)
  const print = createPrint({ json: argv.includes('--json'), quiet: false })
  process.exit(tell(print, thrown instanceof CommanderError ? usageFault(thrown) : thrown))
}

function usageFault({ code, message }: CommanderError): Fault {
  const text =
    code === 'commander.help'
      ? 'no command was given'
      : message.replace(/^error: /, '').replace(/\s+/g, ' ')
  return new Fault({
    kind: 'usage',
    type: 'usage',
    message: text,
    hint: 'see mlstore --help, or mlstore COMMAND --help',
  })
}

function versionOf(): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  return String(version)
}
