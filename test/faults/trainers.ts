import { writeFile } from 'node:fs/promises'
import { commandLine } from '../support/cli.ts'
import { anyPort } from '../support/libp2p.ts'
import { startMeeting, tinyRows } from '../support/meeting.ts'
import { program } from '../support/programs.ts'
import type { Line } from './lines.ts'
import { type Talker, talk } from './talker.ts'

/** Real `mlstore train` processes of the tiny table model, each in a home of its own. */
export type Trainer = Talker<Line>

const cli = program('cli')
const SAY_LIMIT_MS = 60_000

/** They meet at a peer in this process. */
export async function trainers() {
  const mlstore = await commandLine()
  const { host, address, cid } = await startMeeting(mlstore.path())
  const data = mlstore.path('data.csv')
  await writeFile(data, tinyRows(200, 1))
  const running: Trainer[] = []
  return {
    cid,
    homeOf: (name: string) => mlstore.path(`${name}-home`),
    /** Trains until told to stop; `load` is a module loaded before the program. */
    train(name: string, { load, env }: { load?: string; env?: Record<string, string> } = {}) {
      const options = ['--data', data, '--home', mlstore.path(`${name}-home`)]
      const where = ['--join', address, '--listen', anyPort]
      const command = [cli, 'train', 'tiny', '--json', ...options, ...where]
      const trainer = talk<Line>(
        name,
        [...(load ? ['--import', load] : []), ...command],
        SAY_LIMIT_MS,
        env,
      )
      running.push(trainer)
      return trainer
    },
    async end() {
      for (const { child } of running) child.kill('SIGKILL')
      await host.close()
      await mlstore.end()
    },
  }
}
