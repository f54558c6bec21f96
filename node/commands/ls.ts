import { plain } from '../../protocol/ports/plain.ts'
import { type CommandSpec, readCount, shared } from '../command.ts'
import { withHost } from '../open.ts'
import { sizeText, table } from '../print.ts'

/** What registries in reach list together, each listing checked by its signature. */
export const ls: CommandSpec = {
  arguments: '[query]',
  options: [
    { flags: '--task <task>', text: 'only this task, such as image-classification' },
    { flags: '--tag <tag>', text: 'only models with this tag' },
    { flags: '--label <label>', text: 'only models that know this label' },
    { flags: '--limit <n>', text: 'at most n models (default 50)', read: readCount(1) },
    { flags: '--offset <n>', text: 'leave out the first n', read: readCount(0) },
    shared.join,
    shared.home,
    shared.listen,
    shared.timeout,
  ],
  examples: ['mlstore ls', 'mlstore ls digits --json', 'mlstore ls --label cat'],
  async run(context) {
    const { args, options, print, signal } = context
    const { NETWORK_LIMIT_MS } = await import('../../protocol/ports/resolve.ts')
    await withHost(context, async (host) => {
      const timeoutMs = (options.timeout as number | undefined) ?? NETWORK_LIMIT_MS
      await print.waiting('a bootstrap or a peer to answer', host.online(timeoutMs, signal))
      const text = (name: string) => options[name] as string | undefined
      const found = await host.registry.list(
        {
          query: args[0] as string | undefined,
          task: text('task'),
          tag: text('tag'),
          label: text('label'),
          limit: options.limit as number | undefined,
          offset: options.offset as number | undefined,
        },
        { signal },
      )
      const models = found.listings.map(({ listing }) => listing)
      const rows = models.map(({ name, manifestVersion, task, bytes, title, version }) => [
        `${name}@${plain(manifestVersion, 20)}`,
        plain(task, 24),
        sizeText(bytes),
        version,
        plain(title, 60),
      ])
      print.answer({
        id: models.map(({ version }) => version).join('\n'),
        object: { models, registries: found.answered, unreachable: found.unreachable },
        text:
          models.length === 0
            ? 'no models found'
            : table([['MODEL', 'TASK', 'SIZE', 'VERSION', 'TITLE'], ...rows]),
      })
    })
  },
}
