import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { CommandSpec } from '../../node/command.ts'
import { check } from '../../node/commands/check.ts'
import { doctor } from '../../node/commands/doctor.ts'
import { evaluate } from '../../node/commands/eval.ts'
import { exportModel } from '../../node/commands/export.ts'
import { ls } from '../../node/commands/ls.ts'
import { predict } from '../../node/commands/predict.ts'
import { publish } from '../../node/commands/publish.ts'
import { pull } from '../../node/commands/pull.ts'
import { release } from '../../node/commands/release.ts'
import { show } from '../../node/commands/show.ts'
import { commandLine, type Ended } from '../support/cli.ts'
import { linesOf, runHere } from '../support/commands.ts'
import { anyPort } from '../support/libp2p.ts'
import { type Meeting, startMeeting, tinyRows } from '../support/meeting.ts'
import { tableDraft } from '../support/versions.ts'
import { expectSound, type Line, only } from './lines.ts'

/** What programs read: every line of every command with --json. */
const LIMIT_MS = 60_000
/** Some 8 s: two processes that start at once begin seconds apart on a busy machine, and the first waits for nobody. */
const ROUNDS = 32

let mlstore: Awaited<ReturnType<typeof commandLine>>
let meeting: Meeting
let data: string
let draft: string

beforeAll(async () => {
  mlstore = await commandLine()
  meeting = await startMeeting(mlstore.path())
  // Its owner says how long a peer trains whose user does not.
  const train = { ...tableDraft.train, stop: { rounds: 2 } }
  draft = await mlstore.draft('draft', { name: 'ours', train })
  data = mlstore.path('data.csv')
  await writeFile(data, tinyRows(80, 1))
}, LIMIT_MS)
afterAll(async () => {
  await mlstore.end()
  await meeting.host.close()
})

function train(home: string, ...more: string[]): Promise<Ended> {
  const where = ['--join', meeting.address, '--listen', anyPort, '--home', mlstore.path(home)]
  return mlstore.run('train', ...where, '--json', ...more)
}

/** Every line, checked. */
function reportsOf(stdout: string, code: number): Line[] {
  const lines = linesOf(stdout).map((line): Line => JSON.parse(line))
  expectSound(lines, code)
  return lines
}

describe('train of two peers', () => {
  let runs: Line[][]
  beforeAll(async () => {
    const rounds = ['tiny', '--data', data, '--rounds', String(ROUNDS)]
    const ended = await Promise.all([train('one', ...rounds), train('two', ...rounds)])
    for (const { code, stderr } of ended) expect(code, stderr).toBe(0)
    runs = ended.map(({ stdout }) => reportsOf(stdout, 0))
  }, LIMIT_MS)

  test('says one line of each kind, and each is a report', () => {
    for (const lines of runs) {
      const kinds = new Set(lines.map(({ ev }) => ev))
      for (const ev of [
        'joined',
        'phase',
        'fetch',
        'device',
        'data',
        'peers',
        'round',
        'swap',
        'eval',
        'stopped',
      ] as const)
        expect(kinds).toContain(ev)
      const order = lines.map(({ ev }) => ev)
      expect(order.indexOf('device')).toBeLessThan(order.indexOf('joined'))
      const devices = only(lines, 'device')
      expect(devices).toMatchObject([{ backend: 'engine', threads: 1 }])
      expect(devices[0]!.secondsPerRound).toBeGreaterThan(0)
      expect(only(lines, 'joined')).toMatchObject([{ model: 'tiny', version: meeting.cid }])
      expect(only(lines, 'data')).toMatchObject([
        { read: 80, skipped: 0, train: 72, validation: 8 },
      ])
    }
  })

  test('goes through its phases in order', () => {
    for (const lines of runs) {
      const phases = only(lines, 'phase').map(({ phase }) => phase)
      expect(phases.slice(0, 2)).toEqual(['checking-device', 'fetching'])
      expect(phases).toContain('training')
      expect(phases.slice(-2)).toEqual(['evaluating', 'stopped'])
    }
  })

  test('counts rounds, steps, fetched bytes and bytes up and down without a gap', () => {
    for (const lines of runs) {
      const rounds = only(lines, 'round')
      expect(rounds.map(({ round }) => round)).toEqual(
        Array.from({ length: ROUNDS }, (_, i) => i + 1),
      )
      const fetched = only(lines, 'fetch')
      expect(fetched.at(-1)!.bytes).toBe(fetched.at(-1)!.total)
      const [stopped] = only(lines, 'stopped')
      expect(stopped).toMatchObject({
        reason: expect.any(String),
        rounds: ROUNDS,
        checkpoint: expect.stringContaining(meeting.cid),
      })
      const swaps = only(lines, 'swap')
      expect(stopped!.bytesDown).toBeGreaterThanOrEqual(
        swaps.reduce((sum, { bytesDown }) => sum + bytesDown, 0),
      )
    }
  })

  test('names in each swap the other, over a direct path', () => {
    const peers = runs.map((lines) => only(lines, 'joined')[0]!.peer)
    for (const [i, lines] of runs.entries()) {
      for (const swap of only(lines, 'swap'))
        expect(swap).toMatchObject({ with: peers[1 - i], path: 'tcp' })
    }
  })
})

const failures: [string, number, string, (dir: string) => string[]][] = [
  ['data that does not fit', 5, 'wrong-format', (dir) => ['tiny', '--data', dir]],
  ['a model nobody lists', 3, 'model-not-found', () => ['nothing', '--data', data]],
  ['an option nobody knows', 2, 'usage', () => ['tiny', '--data', data, '--colour']],
]
test.concurrent.each(failures)(
  'train with %s ends with failed, and that code',
  async (name, code, type, args) => {
    const ended = await train(name.replaceAll(' ', '-'), ...args(mlstore.path()))
    expect(ended.code, ended.stderr).toBe(code)
    expect(reportsOf(ended.stdout, code).at(-1)).toMatchObject({ type })
    expect(ended.stderr.split('\n').filter((line) => line.startsWith('mlstore:'))).toHaveLength(1)
  },
  LIMIT_MS,
)

describe('with --json one object is the answer of', () => {
  const answer = async (spec: CommandSpec, args: (string | string[])[], options: object = {}) => {
    const where = { home: mlstore.path('asker'), join: [meeting.address], listen: [anyPort] }
    const { code, stdout, stderr } = await runHere(spec, args, { ...where, ...options })
    expect(stderr).toEqual([])
    expect(code).toBe(0)
    expect(stdout).toHaveLength(1)
    return JSON.parse(stdout[0]!)
  }

  test(
    'ls, show, pull, check, export, eval, predict and doctor',
    async () => {
      const { cid } = meeting
      const pulled = mlstore.path('pulled')
      const { name, version } = tableDraft
      expect(await answer(ls, [])).toMatchObject({
        models: [{ name, version: cid }],
        registries: [expect.any(String)],
      })
      expect(await answer(show, ['tiny'])).toMatchObject({ cid, genesis: cid, manifest: { name } })
      expect(await answer(pull, ['tiny'], { out: pulled })).toMatchObject({
        cid,
        name,
        version,
        out: pulled,
      })
      expect(await answer(check, [pulled])).toMatchObject({ ok: true, kind: 'version', name })
      expect(await answer(exportModel, ['tiny'], { out: mlstore.path('exported') })).toMatchObject({
        format: 'tfjs',
      })
      const metrics = { accuracy: expect.any(Number), loss: expect.any(Number) }
      expect(await answer(evaluate, [pulled], { data })).toEqual({
        model: `${name}@${version}`,
        metrics,
        examples: 80,
      })
      const { predictions } = await answer(predict, [pulled, [data]])
      expect(predictions).toHaveLength(80)
      expect(await answer(doctor, [])).toMatchObject({ ok: true, checks: expect.any(Array) })
    },
    LIMIT_MS,
  )

  test(
    'publish, train and release',
    async () => {
      const home = mlstore.path('owner')
      const published = await answer(publish, [draft], { home })
      expect(published).toMatchObject({
        name: 'ours',
        registries: [meeting.host.libp2p.peerId.toString()],
      })
      const { code, stdout } = await train('owner', 'ours', '--data', data, '--no-swap')
      expect(only(reportsOf(stdout, code), 'stopped')).toMatchObject([{ rounds: 2 }])
      expect(code).toBe(0)
      const released = await answer(release, ['ours'], { home })
      expect(released).toMatchObject({ genesis: published.cid, version: '1.1.0', metrics: null })
    },
    LIMIT_MS,
  )

  test(
    'seed, which then stays until it is told to stop',
    async () => {
      const where = ['--join', meeting.address, '--home', mlstore.path('seeder')]
      const seeder = mlstore.start('seed', 'tiny', '--json', ...where)
      await seeder.until('stdout', /\n/)
      seeder.child.kill('SIGTERM')
      const { code, stdout } = await seeder.ended
      const [said, last, ...more] = linesOf(stdout).map((line) => JSON.parse(line))
      expect(said).toMatchObject({ cid: meeting.cid, addresses: expect.any(Array) })
      expect(last).toMatchObject({ ev: 'failed', code: 143, type: 'interrupted' })
      expect({ more, code }).toEqual({ more: [], code: 143 })
    },
    LIMIT_MS,
  )
})
