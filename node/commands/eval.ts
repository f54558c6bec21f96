import { Fault } from '../../protocol/errors.ts'
import { type CommandSpec, type Context, shared } from '../command.ts'
import { measureOptions, measureParams, type Opened, openVersion } from '../measure.ts'

/** Accuracy and loss of a version, by the code that measures it in training. */
export const evaluate: CommandSpec = {
  arguments: '<model>',
  options: [
    {
      flags: '--data <path>',
      text: "a folder of images or a CSV file (default: the version's own eval data)",
    },
    ...measureOptions,
    shared.threads,
  ],
  examples: ['mlstore eval digits --data ./my-digits', 'mlstore eval ./a-version --json'],
  async run(context) {
    const opened = await openVersion(context, context.args[0] as string)
    const examples = await readExamples(context, opened)
    const metrics = await measureParams(context, opened.checked, examples)
    if (!metrics) return
    const { accuracy, loss } = metrics
    context.print.answer({
      id: String(accuracy),
      object: { model: opened.model, metrics, examples: examples.size },
      text: `${opened.model}: accuracy ${accuracy.toFixed(4)}, loss ${loss.toFixed(4)} on ${examples.size} examples`,
    })
  },
}

async function readExamples({ options, print }: Context, { checked, evalFiles }: Opened) {
  const { readData, readEvalFiles } = await import('../data.ts')
  if (options.data === undefined) {
    if (evalFiles.length > 0) return readEvalFiles(evalFiles, checked.manifest)
    throw new Fault({
      kind: 'usage',
      type: 'no-data',
      examples: 0,
      message: 'the version brings no eval data, and no --data was given',
      hint: 'give --data with a folder of images or a CSV file',
    })
  }
  const { examples, skips } = await readData(options.data as string, checked.manifest)
  for (const { item, reason } of skips.list) print.note(`skipped ${item}: ${reason}`)
  if (skips.count > 0) print.note(`skipped ${skips.count} files`)
  return examples
}
