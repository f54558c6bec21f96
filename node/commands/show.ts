import { plain } from '../../protocol/ports/plain.ts'
import { type CommandSpec, shared } from '../command.ts'
import { findModel, withHost } from '../open.ts'
import { sizeText, table } from '../print.ts'

/** What a model is and who holds it, without fetching its params. */
export const show: CommandSpec = {
  arguments: '<model>',
  options: [shared.join, shared.home, shared.listen, shared.timeout],
  examples: ['mlstore show digits', 'mlstore show bafybei... --json'],
  async run(context) {
    const { args, print, signal } = context
    const { bytesOf, swarmOf } = await import('../../protocol/manifest.ts')
    const { sizeOf } = await import('../../protocol/params.ts')
    await withHost(context, async (host) => {
      const { cid, listing, providers } = await findModel(context, host, args[0] as string)
      const manifest = await print.waiting(
        `the manifest of ${cid}`,
        host.store.fetchManifest(cid, { providers, signal }),
      )
      const genesis = swarmOf(manifest, cid)
      const found = await host.registry.cards(genesis, { signal })
      const cards = found.cards.map(({ card }) => card)
      const peers = cards.filter(({ phase }) => phase !== 'leaving')
      const params = sizeOf(manifest.tensors)
      const held = (await host.store.has(cid)) ? ', and here' : ''
      const accuracy = manifest.metrics?.accuracy
      const rows = [
        ['model', `${manifest.name}@${manifest.version}  ${plain(manifest.title, 80)}`],
        ['version', cid],
        ['genesis', genesis],
        ['owner', manifest.owner],
        ['license', manifest.license],
        [
          'task',
          `${manifest.task}, ${manifest.output.labels.length} labels: ${plain(manifest.output.labels.join(' '), 80)}`,
        ],
        ['size', `${params.toLocaleString('en')} params, ${sizeText(bytesOf(manifest))}`],
        ['data', `${manifest.data.accept.join(' or ')}`],
        [
          'training',
          `${manifest.train.optimizer.name} at ${manifest.train.optimizer.learningRate}, batch ${manifest.train.batchSize}, ${manifest.gossip.rule} as ${manifest.gossip.codec} every ${manifest.train.stepsPerRound} steps`,
        ],
        ...(accuracy === undefined
          ? []
          : [
              [
                'accuracy',
                `${(100 * accuracy).toFixed(1)} % on ${manifest.metrics?.examples ?? '?'} examples, the owner says`,
              ],
            ]),
        [
          'held by',
          `${peers.filter(({ version }) => version === cid).length} peers${held}; ${peers.filter(({ phase }) => phase === 'training').length} training`,
        ],
        ...(manifest.description === undefined
          ? []
          : [['about', plain(manifest.description, 400)]]),
      ]
      const people = peers.map(({ peer, version, phase, round }) => ({
        peer,
        version,
        phase,
        round,
      }))
      print.answer({
        id: cid,
        object: { cid, genesis, manifest, listing, peers: people },
        text: table(rows),
      })
    })
  },
}
