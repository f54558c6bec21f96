import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Context } from '../../node/command.ts'
import { evaluate } from '../../node/commands/eval.ts'
import { predict } from '../../node/commands/predict.ts'
import { filesIn, writeDirectory } from '../../node/files.ts'
import { startLearner } from '../../node/learner.ts'
import type { Print } from '../../node/print.ts'
import {
  type Digits,
  digitsCsv,
  readDigits,
  splitDigits,
  take,
  writeDigitsDraft,
} from '../../node/samples/digits.ts'
import { checkVersion, makeVersion, readDraft } from '../../protocol/ports/version.ts'
import { mailbox, tools } from '../support/learners.ts'

const OWNER = '12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
const limits = { memoryBytes: 2 ** 30, batchSize: 64 }

let dir = ''
let version = ''
let digits: Digits
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mlstore-measure-'))
  version = join(dir, 'version')
  const { train, test } = splitDigits(await readDigits())
  digits = take(
    train,
    Array.from({ length: 200 }, (_, i) => i),
  )
  await writeDigitsDraft(join(dir, 'draft'), test)
  await writeDirectory(
    version,
    await makeVersion(await readDraft(await filesIn(join(dir, 'draft'))), OWNER, limits),
  )
})
afterAll(() => rm(dir, { recursive: true }))

/** Runs a command and gives what it answered. */
async function answerOf(
  spec: typeof evaluate,
  args: Context['args'],
  options: Context['options'] = {},
) {
  const answers: { id?: string; object: object; text: string }[] = []
  const print = {
    answer: (forms) => answers.push(forms),
    note: () => {},
  } as Partial<Print> as Print
  await spec.run({
    args,
    options: { backend: 'auto', ...options },
    print,
    signal: new AbortController().signal,
  })
  return answers[0]!
}

describe('eval', () => {
  test("of a folder without --data measures the version's own digits, the number training prints", async () => {
    const answer = await answerOf(evaluate, [version])
    expect(answer.object).toMatchObject({ model: 'digits@1.0.0', examples: 500 })
    const { manifest, modelJson, params } = await checkVersion(await filesIn(version), limits)
    const bytes = await (await filesIn(version)).read('eval/digits.csv')
    const mail = mailbox()
    const learner = startLearner(
      {
        manifest,
        modelJson,
        params,
        genesis: 'genesis',
        version: 'genesis',
        data: undefined,
        evalFiles: [{ path: 'eval/digits.csv', bytes }],
        seed: 1,
        checkpointPath: join(dir, 'checkpoint'),
        resume: false,
        backend: 'auto',
      },
      mail.push,
    )
    const { metrics } = await tools(mail, learner.send).ask(
      { type: 'evaluate', at: 'averaged' },
      'evaluated',
    )
    expect(answer.object).toMatchObject({ metrics })
    await learner.close()
  })

  test('of data that does not fit is exit code 5', async () => {
    await writeFile(join(dir, 'wrong.csv'), 'label,a\n1,2\n')
    const thrown = await answerOf(evaluate, [version], { data: join(dir, 'wrong.csv') }).catch(
      (error) => error,
    )
    expect(thrown.exitCode).toBe(5)
  })
})

describe('predict', () => {
  test('gives the likeliest labels of each row, with or without a label column', async () => {
    const csv = digitsCsv(take(digits, [0, 1, 2]))
    const unlabelled = csv
      .split('\n')
      .map((line) => line.slice(line.indexOf(',') + 1))
      .join('\n')
    await writeFile(join(dir, 'rows.csv'), csv)
    await writeFile(join(dir, 'bare.csv'), unlabelled)
    const labelled = (await answerOf(predict, [version, [join(dir, 'rows.csv')]]))
      .object as Predictions
    const bare = (await answerOf(predict, [version, [join(dir, 'bare.csv')]])).object as Predictions
    expect(labelled.predictions).toHaveLength(3)
    expect(bare.predictions.map(({ labels }) => labels)).toEqual(
      labelled.predictions.map(({ labels }) => labels),
    )
    for (const { labels } of labelled.predictions) {
      expect(labels).toHaveLength(3)
      expect(labels[0]!.probability).toBeGreaterThanOrEqual(labels[1]!.probability)
    }
  })

  test('of a file that is no image is exit code 5 and names it', async () => {
    await writeFile(join(dir, 'note.png'), 'hello')
    const thrown = await answerOf(predict, [version, [join(dir, 'note.png')]]).catch(
      (error) => error,
    )
    expect(thrown.exitCode).toBe(5)
    expect(thrown.message).toContain('note.png')
  })
})

interface Predictions {
  predictions: { item: string; labels: { label: string; probability: number }[] }[]
}
