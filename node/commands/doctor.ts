import { exitCodes } from '../../protocol/errors.ts'
import { plain } from '../../protocol/ports/plain.ts'
import type { Check } from '../checks.ts'
import { type CommandSpec, shared } from '../command.ts'
import { styled } from '../print.ts'

/** Looks at this machine and at the addresses given, and says how to mend what is wrong. */
export const doctor: CommandSpec = {
  options: [shared.join, shared.home],
  examples: [
    'mlstore doctor',
    'mlstore doctor --join /ip4/127.0.0.1/tcp/4801/p2p/12D3KooW... --json',
  ],
  async run({ options, print, signal }) {
    const { homeDir } = await import('../home.ts')
    const { machineChecks } = await import('../checks.ts')
    const join = (options.join as string[] | undefined) ?? []
    const checks = await print.waiting(
      'the checks of this machine',
      machineChecks(homeDir(options.home)),
    )
    if (join.length > 0) {
      const { reachChecks } = await import('../reach.ts')
      for (const address of join) {
        checks.push(...(await print.waiting(`${address} to answer`, reachChecks(address, signal))))
      }
    }
    const failed = checks.filter(({ state }) => state === 'fail')
    print.answer({
      id: failed.map(nameOf).join('\n'),
      object: { ok: failed.length === 0, checks: checks.map(({ kind: _, ...check }) => check) },
      text: checks.flatMap(linesOf).join('\n'),
    })
    return failed.length === 0 ? 0 : exitCodes[failed[0]!.kind ?? 'unexpected']
  },
}

const colours = { ok: 'green', warn: 'yellow', fail: 'red' } as const

function linesOf(check: Check): string[] {
  const { state, text, fix } = check
  const line = `${styled(colours[state], state.padEnd(4))}  ${nameOf(check)}: ${plain(text, 400)}`
  return fix === undefined ? [line] : [line, `      ${fix}`]
}

/** An address without its hash and peer id is enough for the eye. */
function nameOf({ check, address }: Check): string {
  return address === undefined ? check : `${check} ${address.replace(/\/(certhash|p2p)\/.*$/, '')}`
}
