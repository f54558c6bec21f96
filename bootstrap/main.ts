import { isIP } from 'node:net'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { Fault, faultFrom } from '../protocol/errors.ts'

/** `mlstore-bootstrap`: addresses on stdout, progress on stderr, and the exit codes of DESIGN.md section 6. */

interface Options {
  ws: number
  tcp: number
  udp: number
  http: number
  host: string
  home: string
  announce: string[]
  json: boolean
}

/** After a signal everything is closed within this, or the process ends without. */
const STOP_LIMIT_MS = 2_500
const signals = { SIGINT: 130, SIGTERM: 143 } as const

const usage = `
Give peers one of the printed addresses with --join. Behind a router or a TLS
proxy, --announce the address that others see, for example
  --announce /dns4/boot.example.org/tcp/443/wss

  mlstore-bootstrap      listens on the standard ports
  mlstore-bootstrap --host 127.0.0.1 --ws 0 --tcp 0 --udp 0 --http 0 --home boot
                         any free ports, this machine only`

function command(): Command {
  return new Command('mlstore-bootstrap')
    .description(
      'Introduces peers to each other and lists models. It never sees data, params or updates.',
    )
    .option('--ws <port>', 'WebSocket port', port, 4802)
    .option('--tcp <port>', 'TCP port', port, 4801)
    .option('--udp <port>', 'UDP port for WebRTC (webrtc-direct)', port, 4803)
    .option('--http <port>', 'port of /healthz', port, 4804)
    .option('--host <ip>', 'IP address to listen on', host, '0.0.0.0')
    .option(
      '--home <dir>',
      'where key, certificate and listings are kept',
      join(homedir(), '.mlstore-bootstrap'),
    )
    .option(
      '--announce <addr>',
      'a multiaddr to tell peers besides those it listens on; may be repeated',
      collect,
      [],
    )
    .option('--json', 'print one JSON object, and failures as JSON too', false)
    .addHelpText('after', usage)
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .allowExcessArguments(false)
}

function port(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= 65_535) return value
  throw new InvalidArgumentError('expected a port from 0 to 65535')
}

function host(text: string): string {
  if (isIP(text)) return text
  throw new InvalidArgumentError('expected an IP address such as 127.0.0.1')
}

function collect(text: string, before: string[]): string[] {
  return [...before, text]
}

function readOptions(argv: string[]): Options {
  const program = command()
  try {
    return program.parse(argv).opts<Options>()
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown
    if (thrown.exitCode === 0) process.exit(0)
    const message = thrown.message
      .replace(/^error: /, '')
      .replace(/\.$/, '')
      .replace(/\s+/g, ' ')
    throw new Fault({
      kind: 'usage',
      type: 'wrong-option',
      message,
      hint: 'mlstore-bootstrap --help shows every option',
    })
  }
}

async function run(argv: string[]): Promise<void> {
  const options = readOptions(argv)
  const { parseAddress } = await import('../protocol/ports/libp2p.ts')
  for (const address of options.announce) parseAddress(address)
  const { startBootstrap } = await import('./host.ts')
  const { ws, tcp, udp, http } = options
  const bootstrap = await startBootstrap({ ...options, ports: { ws, tcp, udp, http }, tell })
  for (const [signal, code] of Object.entries(signals))
    process.on(signal, () => void stop(bootstrap.close, code))
  const { peer, addresses, health } = bootstrap
  process.stdout.write(
    options.json ? `${JSON.stringify({ peer, addresses, health })}\n` : `${addresses.join('\n')}\n`,
  )
  tell(`ready; health at ${health}; Ctrl-C stops`)
}

let isStopping = false

/** The first signal closes; a second one ends at once. */
async function stop(close: () => Promise<void>, code: number): Promise<never> {
  if (isStopping) process.exit(code)
  isStopping = true
  setTimeout(() => process.exit(code), STOP_LIMIT_MS)
  await close().catch((thrown: unknown) => tell(`while stopping: ${faultFrom(thrown).message}`))
  process.exit(code)
}

function tell(line: string): void {
  process.stderr.write(`mlstore-bootstrap: ${line}\n`)
}

const diskCodes = ['ENOSPC', 'EDQUOT', 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR']

/** What a disk says, as a Fault a person can act on. */
function asFault(thrown: unknown): Fault {
  const { code, message } = thrown as NodeJS.ErrnoException
  if (!diskCodes.includes(code ?? '')) return faultFrom(thrown)
  const hint = 'choose a --home on a disk that has room and that you may write'
  return new Fault(
    {
      kind: 'resource',
      type: 'home-not-writable',
      message: `the home cannot be written: ${message}`,
      hint,
    },
    thrown,
  )
}

function fail(thrown: unknown): never {
  const fault = asFault(thrown)
  const { message, hint, type } = fault.detail
  if (process.argv.includes('--json')) {
    process.stdout.write(
      `${JSON.stringify({ ev: 'failed', code: fault.exitCode, type, message, hint })}\n`,
    )
  }
  tell(hint ? `${message}; ${hint}` : message)
  process.exit(fault.exitCode)
}

await run(process.argv).catch(fail)
