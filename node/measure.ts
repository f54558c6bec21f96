import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { MANIFEST_FILE } from '../protocol/manifest.ts'
import type { Examples } from '../protocol/ports/examples.ts'
import { type BackendName, backendNames } from '../protocol/ports/trainer/commands.ts'
import type { Metrics, Trainer } from '../protocol/ports/trainer/trainer.ts'
import type { CheckedVersion } from '../protocol/ports/version.ts'
import { type Context, type OptionSpec, readChoice, shared } from './command.ts'
import { memoryLimitOf, raisable } from './memory.ts'

/** What `mlstore eval` and `mlstore predict` do alike: a version from the network or a folder, and a trainer for it. */
export interface Opened {
  /** The CID, or `name@version` of a folder. */
  model: string
  checked: CheckedVersion
  /** Data that came with the version to measure it on. */
  evalFiles: { path: string; bytes: Uint8Array }[]
}

export const measureOptions: OptionSpec[] = [
  {
    flags: '--backend <name>',
    text: 'auto, engine, engine-plain (same bits everywhere), wasm, cpu, or tfjs-node where you installed it',
    read: readChoice([...backendNames]),
    default: 'auto',
  },
  shared.maxMemory,
  shared.join,
  shared.home,
  shared.timeout,
]

/** A folder with a manifest is read as it is, without any network; everything else is a model's name. */
export async function openVersion(context: Context, text: string): Promise<Opened> {
  const memoryBytes = memoryLimitOf(context.options)
  if (await isVersionFolder(text)) return raisable(memoryBytes, openFolder(text, memoryBytes))
  const [{ fetchModel, withHost }, { dataFilesOf }] = await Promise.all([
    import('./open.ts'),
    import('../protocol/ports/version.ts'),
  ])
  return withHost(context, async (host) => {
    const { version } = await fetchModel(context, host, text, { memoryBytes })
    return {
      model: version.cid,
      checked: version.checked,
      evalFiles: await dataFilesOf(version.checked, version, 'eval'),
    }
  })
}

/** A trainer for the version, on the backend that --backend names, and the version's params. The caller closes it. */
export async function openTrainer(
  { options, print }: Context,
  { modelJson, manifest, params, frozen }: CheckedVersion,
): Promise<{ trainer: Trainer; params: Float32Array }> {
  const [{ createTrainer }, { floatsOf }] = await Promise.all([
    import('./trainer.ts'),
    import('../protocol/ports/version.ts'),
  ])
  const backend = options.backend as BackendName
  const { batchSize } = manifest.train
  const threads = options.threads as number | undefined
  const memoryBytes = Number.POSITIVE_INFINITY // looked at before the version was fetched
  const trainer = await createTrainer(modelJson, {
    ...{ backend, batchSize, threads, frozen, memoryBytes },
  })
  for (const remark of trainer.remarks ?? []) print.note(remark)
  return { trainer, params: floatsOf(params) }
}

/** Accuracy and loss of a version's params on examples, by the code that measures in training; nothing when stopped. */
export async function measureParams(
  context: Context,
  checked: CheckedVersion,
  examples: Examples,
): Promise<Metrics | undefined> {
  const [{ affineOf }, { allRows, evaluate }] = await Promise.all([
    import('../protocol/ports/preprocess.ts'),
    import('../protocol/ports/trainer/evaluate.ts'),
  ])
  const { trainer, params } = await openTrainer(context, checked)
  const goOn = async () => !context.signal.aborted
  try {
    return await evaluate(
      trainer,
      params,
      examples,
      allRows(examples),
      affineOf(checked.manifest),
      goOn,
    )
  } finally {
    trainer.close()
  }
}

async function openFolder(dir: string, memoryBytes: number): Promise<Opened> {
  const [{ filesIn }, { checkVersion, dataFilesOf }] = await Promise.all([
    import('./files.ts'),
    import('../protocol/ports/version.ts'),
  ])
  const files = await filesIn(dir)
  const checked = await checkVersion(files, { memoryBytes, batchSize: 1 })
  const { name, version } = checked.manifest
  return {
    model: `${name}@${version}`,
    checked,
    evalFiles: await dataFilesOf(checked, files, 'eval'),
  }
}

async function isVersionFolder(text: string): Promise<boolean> {
  return stat(join(text, MANIFEST_FILE)).then(
    (found) => found.isFile(),
    () => false,
  )
}
